"""Which trials can train on one example at a time, with `iterations` instead of epochs: nets of linear layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import frexp
from typing import Any

from qsweep.formats import COMPAT, FRACTION, Fixed, Unbounded
from qsweep.models.catalog import ARCHITECTURES, Architecture
from qsweep.models.shapes import ConvolutionShape
from qsweep.trial.parameters import BATCH_SIZE, EPOCHS, LAYERS, LOSS_SCALE, QUANTIZE_INIT, SQUARED_ERROR, STAGES, WINDOW
from qsweep.trial.settings import OptimizerSettings, Quantization, Settings

ROLES = ("weight", "bias", "activation", "error", "gradient", "update", "master")
"""The roles that such a trial can round."""
MOST_FRACTION = 26
"""Products of two such numbers are multiples of 2^-52: the rounding error is exact in a float64."""

Problem = tuple[str, str]
"""A parameter, and what is wrong with it."""


def problems(settings: Settings, given: Mapping[str, Any]) -> Iterator[Problem]:
    """The problems of a trial with iterations.

    Args:
        settings: the trial's.
        given: the parameters as they were given.
    """
    yield from _data(settings)
    yield from _course(settings, given)
    yield from _net(settings)
    yield from _optimizer(settings.optimizer)
    for role, own in settings.quantize.items():
        yield from _role(role, own, given["quantize"].get(role, {}))
    yield from _shift(settings)


def _data(settings: Settings) -> Iterator[Problem]:
    if settings.data_set.dtype != "uint8":
        yield "data", f"iterations look inputs up by pixel value: expected uint8 data, found {settings.data_set.dtype}"
    if settings.data.preprocess == "centered":
        yield "preprocess", "iterations take preprocess unit or standard: `centered` has a mean for each pixel"


def _course(settings: Settings, given: Mapping[str, Any]) -> Iterator[Problem]:
    if EPOCHS.name in given:
        yield EPOCHS.name, "iterations replace epochs: leave one of them out"
    if given.get(BATCH_SIZE.name, 1) != 1:
        yield BATCH_SIZE.name, f"found {given[BATCH_SIZE.name]}, expected 1: an iteration is one example"
    if settings.loss != SQUARED_ERROR:
        yield "loss", f"iterations take `loss: {SQUARED_ERROR}`: {settings.loss} has no form in integers"
    if settings.window > settings.iterations:
        yield WINDOW.name, f"a window of {settings.window:,} is longer than {settings.iterations:,} iterations"
    for name in (LAYERS, STAGES):
        if given.get(name):
            yield name, f"a trial with iterations takes no {name}"
    yield from _unread(settings, given)
    if settings.kept_roles and not settings.quantize_init:
        yield QUANTIZE_INIT.name, "a trial with iterations begins with quantized weights: leave it out"


def _unread(settings: Settings, given: Mapping[str, Any]) -> Iterator[Problem]:
    """Parameters that only other trials use."""
    if given.get("drop_last"):
        yield "drop_last", "a trial with iterations has no batches, so that none is dropped: leave it out"
    if settings.loss_scale != LOSS_SCALE.default:
        yield LOSS_SCALE.name, "a trial with iterations does not scale its loss: leave it out"


def _net(settings: Settings) -> Iterator[Problem]:
    known, model = settings.architecture, settings.model
    if known is None or not _is_linear(known, model):
        defaults = {a.name: {p.name: p.default for p in a.parameters} for a in ARCHITECTURES.values()}
        names = [a.name for a in ARCHITECTURES.values() if _is_linear(a, defaults[a.name])]
        yield "model", f"iterations take nets of linear layers ({', '.join(names)}), not {model['name']}"
    elif model.get("dropout"):
        yield "model.dropout", "a trial with iterations has no dropout: leave it out"


def _is_linear(architecture: Architecture, own: Mapping[str, Any]) -> bool:
    side = architecture.least(dict(own))
    return not any(isinstance(layer, ConvolutionShape) for layer in architecture.layers((1, side, side), 2, dict(own)))


def _optimizer(optimizer: OptimizerSettings) -> Iterator[Problem]:
    if optimizer.name != "sgd":
        yield "optimizer", f"iterations take sgd, not {optimizer.name}"
        return
    for other in ("momentum", "weight_decay", "l1"):
        if optimizer.own[other]:
            yield other, f"a trial with iterations takes plain sgd: no {other}"


def _role(role: str, own: Quantization, given: Mapping[str, Any]) -> Iterator[Problem]:
    path, fmt = f"quantize.{role}", own.format
    if role not in ROLES:
        yield path, f"a trial with iterations has no {role} (it has: {', '.join(ROLES)})"
    elif isinstance(fmt, Fixed) and fmt.overflow == "wrap":
        yield path, "iterations take fixed point that saturates or is unbounded, not one that wraps"
    elif getattr(fmt, COMPAT.name, COMPAT.default) != COMPAT.default or not own.stays:
        yield path, "iterations take neither another library's rules nor a place (`at`)"
    elif own.rounds and not isinstance(fmt, Fixed | Unbounded):
        yield path, f"iterations take fraction, fixed and float32, not {fmt.family}"
    elif isinstance(fmt, Fixed | Unbounded) and not 0 <= fmt.fraction <= MOST_FRACTION:
        given_by = path if FRACTION.name in given else FRACTION.name
        yield given_by, f"iterations take a fraction from 0 to {MOST_FRACTION}, found {fmt.fraction}"


def _shift(settings: Settings) -> Iterator[Problem]:
    """A learning rate is a shift if gradients and updates are integers."""
    lr = settings.optimizer.lr
    if {"gradient", "update"} <= {*settings.quantized_roles} and frexp(lr)[0] != 0.5:
        yield "lr", f"found {lr}, expected a power of two (2^-7 = 0.0078125): for integer gradients it is a shift"
