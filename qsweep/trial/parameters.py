"""The parameters of a trial, and the catalogs that some of them choose from."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from qsweep.data.catalog import DATASETS, PREPROCESS, SPLITS, DataSet
from qsweep.formats import (
    BITWIDTH,
    COMPAT,
    FAMILIES,
    FRACTION,
    ROUNDING,
    SCALE,
    ZERO,
    Unbounded,
    parameters_of,
)
from qsweep.models.catalog import ARCHITECTURES
from qsweep.parameter import POSITIVE, POWER_OF_TWO, Parameter, listing
from qsweep.trial.optimizers import OPTIMIZERS
from qsweep.trial.roles import AT, AT_ROLES, FLOAT32

STD = Parameter("std", POSITIVE, "a standard deviation, a number above 0", default=0.1)
BIASES = Parameter(
    "bias", Literal["drawn", "zero"], "drawn (like the kernels) or zero", default="drawn", as_before="drawn"
)
INITS: dict[str, tuple[Parameter, ...]] = {
    "normal": (STD, BIASES),
    "glorot_uniform": (),
    "he": (),
    "he_uniform": (),
    "torch": (),
}
"""normal: kernels, and biases or not, from Normal(0, std). glorot_uniform, he (normal), he_uniform: kernels by fan,
biases 0.
torch: its default, both uniform in ±1/√fan_in."""

QUANTIZE_INIT = Parameter(
    "quantize_init", bool, "true or false (whether roles are quantized before the first step)", default=True
)

LOSS_SCALE = Parameter(
    "loss_scale",
    POWER_OF_TWO,
    "a power of two (the loss is multiplied by it, the gradients divided)",
    default=1.0,
    stacks=True,
    as_before=1.0,
)

DATA_PARAMETERS = (
    Parameter("preprocess", Literal[PREPROCESS], ", ".join(PREPROCESS[:-1]) + f" or {PREPROCESS[-1]}", default=None),
    Parameter("split", Literal[SPLITS], " or ".join(SPLITS), default=None),
    Parameter("drop_last", bool, "true or false (whether an incomplete last batch is left out)", default=None),
)
"""Their defaults are the data set's."""

DATA: dict[str, tuple[Parameter, ...]] = {
    name: tuple(replace(p, default=getattr(dataset, p.name)) for p in DATA_PARAMETERS)
    for name, dataset in DATASETS.items()
}

OWN_DATA = "own_data"
"""A user's own data set, whose name is its digest."""
OWN_DATA_PARAMETERS = tuple(replace(p, default=getattr(DataSet, p.name)) for p in DATA_PARAMETERS)

HISTOGRAM = Parameter(
    "histogram",
    Annotated[int, Field(ge=0, le=10_000)],
    "an integer from 0 to 10000 (bins of a histogram of each layer's weights and biases after the last epoch; 0: none)",
    default=0,
    as_before=0,
)

EPOCHS = Parameter("epochs", Annotated[int, Field(ge=1, le=100_000)], "an integer from 1 to 100000", default=1)
BATCH_SIZE = Parameter(
    "batch_size",
    Annotated[int, Field(ge=1, le=1_000_000)],
    "an integer from 1 to 1000000",
    default=128,
    label="batch size",
)
CROSS_ENTROPY: Final = "cross_entropy"
SQUARED_ERROR: Final = "squared_error"
LOSS = Parameter(
    "loss",
    Literal["cross_entropy", "squared_error"],
    "cross_entropy or squared_error (half the sum of squares over the classes)",
    default=CROSS_ENTROPY,
)
TRAINING_PARAMETERS = (LOSS, EPOCHS, BATCH_SIZE, HISTOGRAM)

ITERATIONS = Parameter(
    "iterations",
    Annotated[int, Field(ge=1, le=1_000_000_000)],
    "an integer from 1 to 1000000000 (examples, one per step, instead of epochs)",
    default=None,
)
WINDOW = Parameter(
    "window",
    Annotated[int, Field(ge=1, le=1_000_000_000)],
    "an integer, 1 or above (the last iterations, over which training accuracy and loss are means)",
    default=1001,
)
ONLINE_PARAMETERS = (LOSS, ITERATIONS, WINDOW)
"""Parameters of trials that train on one example at a time."""

FIXED: Final = "fixed"
WAYS = {"forward": ("weight", "activation"), "backward": ("error", "gradient", "update")}
"""The roles that `forward: fixed` and `backward: fixed` set: as integers with `fraction` fractional bits."""
FIXED_POINT = Unbounded.family
WAY_PARAMETERS = tuple(
    Parameter(
        way,
        Literal["fixed", "float"],
        f"fixed (short for {FIXED_POINT} in the roles {', '.join(roles)}, unless named) or float",
        default=None,
    )
    for way, roles in WAYS.items()
)

ROLE_DEFAULTS = (BITWIDTH, FRACTION, ROUNDING, SCALE, ZERO, COMPAT)
"""Trial-level parameters that apply to roles whose format has such a parameter and does not set it."""

PLAIN = listing(
    (
        *DATA_PARAMETERS,
        *TRAINING_PARAMETERS,
        *ONLINE_PARAMETERS,
        *WAY_PARAMETERS,
        *(p for optimizer in OPTIMIZERS.values() for p in optimizer.parameters),
        *ROLE_DEFAULTS,
        QUANTIZE_INIT,
        LOSS_SCALE,
    )
)
"""Parameters with a plain value."""

NAMED = {"data": DATA, "optimizer": {o.name: o.parameters for o in OPTIMIZERS.values()}}
"""Parameters whose value is a name; what they choose has its parameters next to it (`optimizer: adam`, `betas: …`)."""

CHOICES = {"model": {a.name: a.parameters for a in ARCHITECTURES.values()}, "init": INITS}
"""Parameters whose value is a name, or a mapping of a name and parameters of its own."""

LEARNED = tuple(name for name, cls in FAMILIES.items() if cls.is_learned)
"""Families for compression only: their levels are computed once, from trained values."""
ROLE_PARAMETERS = {f: (*parameters_of(f), ROUNDING) for f in FAMILIES if f not in LEARNED} | {FLOAT32: ()}
"""What a role of each family takes: the format's own parameters, and how to round to it."""

ROLE_PARTS = listing(p for own in ROLE_PARAMETERS.values() for p in own) | listing(ROLE_DEFAULTS)
"""All parameters of roles, each in its widest range: the family is only known when the trial is resolved."""


def role_parameters(role: str, family: str) -> tuple[Parameter, ...]:
    """The parameters of a role in a family's format."""
    own = ROLE_PARAMETERS[family]
    return (*own, AT) if own and role in AT_ROLES else own


def compression_parameters(family: str) -> tuple[Parameter, ...]:
    """The parameters of a compression to a family: the format's own, and how values are clipped first."""
    own = parameters_of(family)
    return (*own, CLIP) if own and family not in LEARNED else own


def role_paths(role: str) -> dict[str, Parameter]:
    """All parameters of a role, by dotted paths."""
    parts = ROLE_PARTS | ({AT.name: AT} if role in AT_ROLES else {})
    return {f"quantize.{role}.{name}": p for name, p in parts.items()}


LAYERS = "layers"
FLOAT32_ENDS = "float32_ends"
"""Instead of exceptions by name: the first and the last linear or convolution layer stay in float32."""

STAGES = "stages"
"""What happens to the trained model, in order: a list of `{compress: …}` and `{retrain: …}`."""
COMPRESS: Final = "compress"
RETRAIN: Final = "retrain"
COMPRESSIBLE = ("weight", "bias", "norm_scale", "norm_shift")
"""The parts that can be compressed, each to its own format; parts that are not named stay unchanged."""
CLIP = Parameter(
    "clip",
    Annotated[float, Field(ge=50, lt=100)] | Literal["none", "least_squares"],
    "none, the percentage of a group's values that is not clipped (from 50; half of the rest at either end), or"
    " least_squares (the smallest squared error among 41 ranges with the same middle)",
    default="none",
)
"""How a compression clips values before it computes their scale or levels."""
CODEBOOK = Parameter(
    "codebook",
    Literal["kept", "free"],
    "kept (values compressed to the same level stay equal: levels are trained) or free",
    default=None,
)
RETRAINING = listing((EPOCHS, BATCH_SIZE, *(p for o in OPTIMIZERS.values() for p in o.parameters)))
"""Parameters that retraining may set besides its `optimizer`; all others are the trial's."""

DEFAULTS: dict[str, Any] = {"optimizer": "sgd", "init": {"name": "torch"}, "model": {}, "quantize": {}}
TRIAL_NAMES = ("data", "model", "init", "optimizer", "quantize", LAYERS, STAGES, *PLAIN)
