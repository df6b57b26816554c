"""What a trial asks to quantize but its net or optimizer does not have, from its settings alone."""

from __future__ import annotations

from qsweep.trial.cost import layers
from qsweep.trial.parameters import COMPRESS
from qsweep.trial.settings import Retraining, Settings

OF_NORMS = ("norm", f"{COMPRESS} norm_scale", f"{COMPRESS} norm_shift")
"""The role, and the parts to compress, that only norms have."""


def asked(settings: Settings) -> tuple[str, ...]:
    """The roles that a trial rounds and the parts that it compresses (`compress weight`), without a bias that only
    follows the weight."""
    has_own_bias = any(own["bias"] != own.get("weight") for own in settings.everywhere if "bias" in own)
    roles = [role for role in settings.quantized_roles if role != "bias" or has_own_bias]
    return (*roles, *(f"{COMPRESS} {part}" for part in settings.compressed_parts))


def remembers(settings: Settings) -> bool:
    """Whether an optimizer of a trial, including later stages, keeps anything that `momentum` rounds."""
    retrained = [stage.optimizer for stage in settings.stages if isinstance(stage, Retraining)]
    return any(optimizer.memory for optimizer in (settings.optimizer, *retrained))


def lacks_norms(settings: Settings) -> bool:
    """Whether a trial's net is one of the catalog without norms; an open one would have to be built."""
    shapes = layers(settings)
    return shapes is not None and not any(layer.norms for layer in shapes)


def idle(settings: Settings) -> tuple[str, ...]:
    """What a trial asks to quantize to no effect, as far as known without building the net."""
    lacking = (*(OF_NORMS if lacks_norms(settings) else ()), *(() if remembers(settings) else ("momentum",)))
    return tuple(what for what in asked(settings) if what in lacking)
