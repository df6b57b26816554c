"""Training on one example at a time: each trial by itself, on the same examples and random bits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from qsweep.data.catalog import DataSet
from qsweep.data.files import Examples, preprocess
from qsweep.formats import Grid
from qsweep.kernels import chain, roles
from qsweep.kernels import one_example as kernel
from qsweep.kernels.compiled import Doubles, Floats, Integers
from qsweep.kernels.streams import Stream
from qsweep.rounding.modes import Mode
from qsweep.training.course import TESTED, Outcome
from qsweep.training.places import places_of
from qsweep.training.sizes import kept_sizes
from qsweep.training.why import Row
from qsweep.trial.measures import CLASSES
from qsweep.trial.roles import KEPT
from qsweep.trial.settings import Roles, Settings

ROLES = {
    "weight": roles.WEIGHT,
    "bias": roles.BIAS,
    "activation": roles.ACTIVATION,
    "error": roles.ERROR,
    "gradient": roles.GRADIENT,
    "update": roles.UPDATE,
    "master": roles.MASTER,
}
OF_PARAMETERS = ("weight", "bias", "gradient", "update", "master")
"""Roles with one number per parameter; the others have one per output of a layer."""
OUTPUTS = {"linear": chain.LINEAR, "relu": chain.RELU, "relu_ungated": chain.UNGATED}
PARAMETERS_ALIKE = {"bias": "weight"}
"""Roles that use the random numbers of another, at other positions."""
MOST_STEPS, DRAWN_BYTES = 2048, 32 * 1024 * 1024
"""The most steps per call, and the most bytes of their random numbers."""


def run(model: nn.Module, trials: Sequence[Settings], data: DataSet, examples: Examples) -> list[Outcome]:
    """Train trials that differ only in their numbers.

    Args:
        model: a chain of linear layers, with the initial weights of all trials.
    """
    course = _Course(model, trials, data, examples)
    for steps in course.parts():
        course.train(steps)
    places, shapes = places_of(model, data.shape), {name: p.shape for name, p in model.named_parameters()}
    outcomes = [course.outcome(trial) for trial in course.all]
    for settings, outcome in zip(trials, outcomes, strict=True):
        outcome.kept_sizes = kept_sizes(places.stored(settings), shapes)
    return outcomes


class _Trial:
    """One trial in training: its rules, parameters, and the results of the last iterations."""

    def __init__(
        self, settings: Settings, widths: Integers, weights: Doubles, pixels: torch.Tensor, window: int
    ) -> None:
        quantize = settings.quantize
        rules, output = rules_of(quantize), OUTPUTS[settings.output]
        table = rounded_to_nearest(pixels.double().numpy(), rules[roles.ACTIVATION])
        self.net = chain.Net(widths, output, table, float(settings.optimizer.lr), rules)
        self.evaluating = self.net._replace(rules=rules_of(quantize, evaluating=True))
        masters = weights.copy() if "master" in quantize else weights[:0]
        self.parameters = chain.Parameters(weights.copy(), masters)
        self.results = _no_results(window)
        self.counts = np.zeros((len(ROLES), roles.STALLED + 1), np.int64)
        self.status, self.reason = "done", ""

    def quantize(self, draws: chain.Draws) -> None:
        """Before the first step: round the master weights, then the weights from them."""
        (weights, masters), widths, rules = self.parameters, self.net.widths, self.net.rules
        if len(masters):
            kernel.quantize(widths, rules, masters, draws, roles.MASTER, roles.MASTER)
            weights[:] = masters
        kernel.quantize(widths, rules, weights, draws, roles.WEIGHT, roles.BIAS)

    def keep(self, results: chain.Results) -> None:
        """Append results to the window of the last iterations."""
        for kept, new in zip(self.results, results, strict=True):
            new = new[-len(kept) :]
            kept[: len(kept) - len(new)] = kept[len(new) :]
            kept[len(kept) - len(new) :] = new

    def end(self, how: int, iteration: int) -> None:
        what = "NaN or Inf in a loss" if how == kernel.NOT_FINITE else "an integer overflowed its 64 bits"
        self.status, self.reason = "diverged", f"{what} in iteration {iteration}"


class _Course:
    def __init__(self, model: nn.Module, trials: Sequence[Settings], data: DataSet, examples: Examples) -> None:
        self.shared = trials[0]
        self.data, self.examples = data, examples
        self.stream = Stream(self.shared.seed)
        layers = [layer for layer in model if isinstance(layer, nn.Linear)]  # type: ignore[attr-defined]
        self.widths = np.array([layers[0].in_features, *(layer.out_features for layer in layers)], np.int64)
        self.modes = {role: Mode(own.rounding) for role, own in self.shared.rounded()}
        weights = np.concatenate([parameters_of(layer) for layer in layers])
        self.sizes = {r: len(weights) if r in OF_PARAMETERS else self._values() for r in ROLES}
        self.drawing: dict[str, int] = {}
        self.offset = 0
        self.offsets = np.array([self._offset(role) for role in ROLES])
        every = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(256, data.shape[0], 1, 1)
        pixels = preprocess(every, data, self.shared.data.preprocess, examples)[:, :, 0, 0].t().contiguous()
        self.all = [_Trial(own, self.widths, weights, pixels, self.shared.window) for own in trials]
        self.is_dense = bool((pixels[:, 0] != 0).any())
        for trial in self.all:
            trial.quantize(chain.Draws(self._draws([0])[0], self.offsets))

    def _offset(self, role: str) -> int:
        """Where a role's random numbers begin among those of a step; -1 if it draws none."""
        if role not in self.modes or not self.modes[role].draws:
            return -1
        like = PARAMETERS_ALIKE.get(role, role)
        if like not in self.drawing:
            self.drawing[like] = self.offset
            self.offset += self.sizes[role]
        return self.drawing[like]

    def _values(self) -> int:
        """How many outputs all layers have, with the 1 after each layer's."""
        return int(self.widths[1:].sum()) + len(self.widths) - 1

    # the examples

    def parts(self) -> Iterator[range]:
        """The iterations of each call, counted from 1."""
        size = max(1, min(MOST_STEPS, DRAWN_BYTES // max(4 * self.offset, 1)))
        for first in range(1, self.shared.iterations + 1, size):
            yield range(first, min(first + size, self.shared.iterations + 1))

    def _chosen(self, steps: range) -> torch.Tensor:
        """The examples of some iterations: each pass over all examples has its own random order."""
        count = len(self.examples.train_labels)
        rounds = range((steps[0] - 1) // count, (steps[-1] - 1) // count + 1)
        order = torch.cat([self.stream.permutation(count, "order", number + 1) for number in rounds])
        first = steps[0] - 1 - rounds[0] * count
        return order[first : first + len(steps)]

    def _batch(self, images: torch.Tensor, labels: torch.Tensor) -> chain.Batch:
        flat = np.ascontiguousarray(images.flatten(1).numpy())
        starts, pixels = np.empty(len(flat) + 1, np.int64), np.empty(flat.size + 1, np.uint32)
        kernel.find_pixels(flat, self.is_dense, starts, pixels)
        return chain.Batch(flat, starts, pixels, labels.numpy())

    def _draws(self, steps: Sequence[int]) -> Floats:
        """The random numbers of all roles at each step: (steps, values)."""
        drawn = np.empty((len(steps), self.offset), np.float32)
        for row, step in zip(drawn, steps, strict=True):
            for like, first in self.drawing.items():
                size = self.sizes[like]
                row[first : first + size] = self.stream.uniform((size,), f"rounding {like}", "online", step).numpy()
        return drawn

    # training

    def train(self, steps: range) -> None:
        """Take all trials that have not diverged through some iterations."""
        chosen = self._chosen(steps)
        batch = self._batch(self.examples.train_images[chosen], self.examples.train_labels[chosen])
        draws = chain.Draws(self._draws(steps), self.offsets)
        watched = max(0, self.shared.iterations - self.shared.window + 1 - steps[0])
        for trial in self.all:
            if trial.status == "done":
                self._train(trial, batch, draws, watched, steps[0])

    def _train(self, trial: _Trial, batch: chain.Batch, draws: chain.Draws, watched: int, first: int) -> None:
        results = _no_results(len(batch.labels))
        how, reached = kernel.train(batch, trial.net, trial.parameters, draws, watched, results, trial.counts)
        trial.keep(results)
        if how != kernel.DONE:
            trial.end(how, first + reached)
        elif not np.isfinite(trial.parameters.weights).all():
            trial.end(kernel.NOT_FINITE, first + len(batch.labels) - 1)

    # results

    def outcome(self, trial: _Trial) -> Outcome:
        if trial.status != "done":
            return Outcome(trial.status, trial.reason)
        tested, seen = self._tested(trial)
        if len(self.examples.test_labels) and tested["test_loss"] is None:
            outcome = Outcome()
            outcome.diverge(f"{TESTED} after iteration {self.shared.iterations}")
            return outcome
        trained = _measured("train", trial.results)
        row: Row = {**tested, **trained, **self._why(trial), CLASSES: len(np.unique(seen))}
        return Outcome(epochs=[row])

    def _tested(self, trial: _Trial) -> tuple[Row, NDArray[np.int64]]:
        """Results on the test set, and predicted classes; without a test set, those of the window."""
        batch = self._batch(self.examples.test_images, self.examples.test_labels)
        if not len(batch.labels):
            return {"test_accuracy": None, "test_loss": None}, trial.results.predicted
        results = _no_results(len(batch.labels))
        kernel.evaluate(batch, trial.evaluating, trial.parameters.weights, results)
        return _measured("test", results), results.predicted

    def _why(self, trial: _Trial) -> Row:
        """For the window, fractions of non-zero values that were clipped or became 0; stored values at the end."""
        row: Row = {}
        for role in self.modes:
            seen, clipped, zeros, moves, stalled = trial.counts[ROLES[role]].tolist()
            row[f"{role}_clipped"] = clipped / seen if seen else None
            if role in KEPT:
                kept = self._kept(trial, role)
                row[f"{role}_zero"] = float((kept == 0).mean())
                row[f"{role}_levels"] = len(np.unique(kept))
                row[f"{role}_stalled"] = stalled / moves if moves else None
            else:
                row[f"{role}_zero"] = zeros / seen if seen else None
        return row

    def _kept(self, trial: _Trial, role: str) -> Doubles:
        """All stored values of a role."""
        if role == "master":
            return trial.parameters.masters
        weights, found, start = trial.parameters.weights, [], 0
        for inputs, outputs in zip(self.widths[:-1], self.widths[1:], strict=True):
            inner, end = start + inputs * outputs, start + (inputs + 1) * outputs
            found.append(weights[start:inner] if role == "weight" else weights[inner:end])
            start = end
        return np.concatenate(found)


def _no_results(count: int) -> chain.Results:
    """Empty results for `count` examples."""
    return chain.Results(np.zeros(count, bool), np.zeros(count), np.zeros(count, np.int64))


def _measured(part: str, results: chain.Results) -> Row:
    loss = float(results.losses.mean())
    return {f"{part}_accuracy": float(results.hits.mean()), f"{part}_loss": loss if math.isfinite(loss) else None}


def parameters_of(layer: nn.Linear) -> Doubles:
    """A layer's parameters as in the kernel: rows (inputs, outputs), then the biases."""
    weight = layer.weight.detach().double().t().reshape(-1).numpy()
    return np.concatenate([weight, layer.bias.detach().double().numpy()])


def rules_of(quantize: Roles, evaluating: bool = False) -> Doubles:
    """The rounding of each role as in the kernel. `evaluating`: stochastic roles round to nearest."""
    rules = np.zeros((len(ROLES), roles.SHARES + 1))
    rules[:, roles.LOWEST : roles.HIGHEST + 1] = -math.inf, math.inf
    for role, own in quantize.items():
        if not own.rounds:
            continue
        elements, mode = own.format.elements, Mode(own.rounding)
        assert isinstance(elements, Grid)  # noqa: S101  # as checked for trials with iterations
        mode = Mode("nearest") if evaluating and mode.draws else mode
        ends = (elements.lowest, elements.highest) if elements.overflow == "saturate" else (-math.inf, math.inf)
        rules[ROLES[role]] = 1, elements.step, *ends, mode.number, mode.shares
    return rules


def rounded_to_nearest(pixels: Doubles, rule: Doubles) -> Doubles:
    """Pixels as the net's first activations: to nearest, whatever the mode of other activations."""
    if not rule[roles.IS_FIXED]:
        return pixels
    steps: Doubles = np.clip(np.rint(pixels / rule[roles.STEP]), rule[roles.LOWEST], rule[roles.HIGHEST])
    rounded: Doubles = steps * rule[roles.STEP]
    return rounded
