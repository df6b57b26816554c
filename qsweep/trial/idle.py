"""What a trial asks to quantize that its net or its optimizer does not have, from its settings alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qsweep.trial.cost import layers
from qsweep.trial.optimizers import OPTIMIZERS
from qsweep.trial.parameters import COMPRESS, LAYERS, RETRAIN, STAGES
from qsweep.trial.quantized import exceptions, quantized_roles

OF_NORMS = ("norm", f"{COMPRESS} norm_scale", f"{COMPRESS} norm_shift")
"""The role, and the parts to compress, that only norms have."""


def asked(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The roles that a trial rounds and the parts that it compresses (`compress weight`); no bias that only follows the
    weight."""
    everywhere = [settings.get("quantize", {}), *exceptions(settings.get(LAYERS))]
    has_own_bias = any(own["bias"] != own.get("weight") for own in everywhere if "bias" in own)
    roles = [role for role in quantized_roles(settings) if role != "bias" or has_own_bias]
    parts = [f"{COMPRESS} {part}" for stage in settings.get(STAGES, ()) for part in stage.get(COMPRESS, {})]
    return tuple(dict.fromkeys([*roles, *parts]))


def remembers(settings: Mapping[str, Any]) -> bool:
    """Whether an optimizer of a trial, that of a later stage included, keeps anything that `momentum` rounds."""
    retrainings = [stage[RETRAIN] for stage in settings.get(STAGES, ()) if RETRAIN in stage]
    own = [stage["optimizer"] for stage in (settings, *retrainings)]
    return any(OPTIMIZERS[optimizer["name"]].remembers(optimizer) for optimizer in own)


def lacks_norms(settings: Mapping[str, Any]) -> bool:
    """Whether a trial's net is one of the catalog without norms; what an open one has, only building it shows."""
    shapes = layers(settings)
    return shapes is not None and not any(layer.norms for layer in shapes)


def idle(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Of what a trial asks to quantize, what has no effect; what only building the net shows is not known here."""
    lacking = (*(OF_NORMS if lacks_norms(settings) else ()), *(() if remembers(settings) else ("momentum",)))
    return tuple(what for what in asked(settings) if what in lacking)
