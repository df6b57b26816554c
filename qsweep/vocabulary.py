"""What a trial can be told: its parameters, the catalogs that some of them choose from, and the check of one value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import frexp
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from qsweep.architectures import ARCHITECTURES
from qsweep.datasets import DATASETS, PREPROCESS, SPLITS
from qsweep.errors import cut, did_you_mean, unknown
from qsweep.formats import BITWIDTH, COMPAT, FAMILIES, ROUNDING, SCALE, ZERO, Float32, parameters_of, split_name
from qsweep.parameters import BadValueError, Parameter, as_integers, check_each, listing, show

FLOAT32 = Float32.family
ROLES = ("weight", "bias", "norm", "activation", "error", "gradient", "update", "momentum", "master")
"""What can be quantized. Biases are like the weights unless named; each other role that is not named stays in float32,
but for `master`, the second copy that the optimizer updates: without a name there is none."""


def _power_of_two(value: float) -> float:
    if frexp(value)[0] != 0.5:
        raise ValueError
    return value


POSITIVE = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NOT_NEGATIVE = Annotated[float, Field(ge=0, allow_inf_nan=False)]
BELOW_ONE = Annotated[float, Field(ge=0, lt=1)]
POWER_OF_TWO = Annotated[float, Field(gt=0, le=2.0**64), AfterValidator(_power_of_two)]

LR = Parameter("lr", POSITIVE, "a number above 0", default=0.01, stacks=True)
MOMENTUM = Parameter("momentum", BELOW_ONE, "a number from 0 up to, not including, 1", default=0.0, stacks=True)
WEIGHT_DECAY = Parameter("weight_decay", NOT_NEGATIVE, "a number, 0 or above", default=0.0, stacks=True)
L1 = Parameter(
    "l1",
    NOT_NEGATIVE,
    "a number, 0 or above (l1 · Σ|w| over all parameters is added to the loss that is descended)",
    default=0.0,
    stacks=True,
    as_before=0.0,
)
ALPHA = Parameter("alpha", BELOW_ONE, "a number from 0 up to, not including, 1", default=0.99, stacks=True)
EPS = Parameter("eps", POSITIVE, "a number above 0", default=1e-8, stacks=True)
BETAS = Parameter(
    "betas",
    Annotated[list[BELOW_ONE], Field(min_length=2, max_length=2)],
    "a list of two numbers from 0 up to, not including, 1",
    default=[0.9, 0.999],
    stacks=True,
)

OPTIMIZERS: dict[str, tuple[Parameter, ...]] = {
    "sgd": (LR, MOMENTUM, WEIGHT_DECAY, L1),
    "rmsprop": (LR, ALPHA, EPS, WEIGHT_DECAY, L1),
    "adam": (LR, BETAS, EPS, WEIGHT_DECAY, L1),
}

STD = Parameter("std", POSITIVE, "a standard deviation, a number above 0", default=0.1)
INITS: dict[str, tuple[Parameter, ...]] = {"normal": (STD,), "glorot_uniform": (), "he": (), "torch": ()}
"""normal: kernels and biases from Normal(0, std). glorot_uniform, he (normal): kernels by fan, biases 0. torch: its
default, both uniform in ±1/√fan_in."""

QUANTIZE_INIT = Parameter(
    "quantize_init", bool, "true or false (whether roles are quantized before the first step)", default=True
)

PLURALS = {
    **{role: f"{role}s" for role in ROLES},
    "bias": "biases",
    "norm": "norms' scales and shifts",
    "momentum": "optimizer's memories",
    "master": "master weights",
}
"""What each role rounds, in the words of figures and explanations."""
STORED = ("weight", "bias", "norm")
"""Roles of parameters; each parameter that is trained plays one of them, or none and stays in float32."""
KEPT = (*STORED, "master")
"""Roles whose values stay from step to step, where they are not rounded for a product alone; all others are of one."""
FLOWS = ("activation", "error")
"""Roles of what flows through the net, forward and backward."""
OPERANDS: Final = "operands"
AT = Parameter(
    "at",
    Literal["outputs", "operands"],
    "outputs (of layers) or operands (of the products of dense and convolution layers)",
    default="outputs",
    as_before="outputs",
)
"""Where weights, activations and errors are rounded; the weights' outputs are the stored values."""
AT_ROLES = ("weight", *FLOWS)
LOSS_SCALE = Parameter(
    "loss_scale",
    POWER_OF_TWO,
    "a power of two (the loss is multiplied by it, the gradients divided)",
    default=1.0,
    stacks=True,
    as_before=1.0,
)

DATA_PARAMETERS = (
    Parameter("preprocess", Literal[PREPROCESS], " or ".join(PREPROCESS), default=None),
    Parameter("split", Literal[SPLITS], " or ".join(SPLITS), default=None),
    Parameter("drop_last", bool, "true or false (whether an incomplete last batch is left out)", default=None),
)
"""Their default is the data set's own."""

DATA: dict[str, tuple[Parameter, ...]] = {
    name: tuple(replace(p, default=getattr(dataset, p.name)) for p in DATA_PARAMETERS)
    for name, dataset in DATASETS.items()
}

HISTOGRAM = Parameter(
    "histogram",
    Annotated[int, Field(ge=0, le=10_000)],
    "an integer from 0 to 10000 (bins of a histogram of each layer's weights and biases after the last epoch; 0: none)",
    default=0,
    as_before=0,
)

TRAINING_PARAMETERS = (
    Parameter("loss", Literal["cross_entropy"], "cross_entropy", default="cross_entropy"),
    Parameter("epochs", Annotated[int, Field(ge=1, le=100_000)], "an integer from 1 to 100000", default=1),
    Parameter("batch_size", Annotated[int, Field(ge=1, le=1_000_000)], "an integer from 1 to 1000000", default=128),
    HISTOGRAM,
)

ROLE_DEFAULTS = (BITWIDTH, ROUNDING, SCALE, ZERO, COMPAT)
"""Trial-level parameters that reach a role whose format has one of that name and does not set it itself."""

PLAIN = listing(
    (
        *DATA_PARAMETERS,
        *TRAINING_PARAMETERS,
        *(p for parameters in OPTIMIZERS.values() for p in parameters),
        *ROLE_DEFAULTS,
        QUANTIZE_INIT,
        LOSS_SCALE,
    )
)
"""Parameters whose value is one plain value."""

NAMED = {"data": DATA, "optimizer": OPTIMIZERS}
"""Parameters whose value is a name; what they decide on stands beside them (`optimizer: adam`, `betas: [0.9, 0.9]`)."""

CHOICES = {"model": {a.name: a.parameters for a in ARCHITECTURES.values()}, "init": INITS}
"""Parameters whose value is a name, or a mapping of a name and parameters of its own."""

ROLE_PARAMETERS = {family: (*parameters_of(family), ROUNDING) for family in FAMILIES} | {FLOAT32: ()}
"""What a role of each family takes: the format's own parameters, and how to round to it."""

ROLE_PARTS = listing(p for own in ROLE_PARAMETERS.values() for p in own) | listing(ROLE_DEFAULTS)
"""All that a role of some family takes, each in its widest range: which family it goes to is known with the trial."""


def role_parameters(role: str, family: str) -> tuple[Parameter, ...]:
    """What a role takes in a family's format."""
    own = ROLE_PARAMETERS[family]
    return (*own, AT) if own and role in AT_ROLES else own


def role_paths(role: str) -> dict[str, Parameter]:
    """All that a role takes, by dotted paths."""
    parts = ROLE_PARTS | ({AT.name: AT} if role in AT_ROLES else {})
    return {f"quantize.{role}.{name}": p for name, p in parts.items()}


LAYERS = "layers"
FLOAT32_ENDS = "float32_ends"
"""In place of exceptions by name: the first and the last dense or convolution layer stay in float32."""

DEFAULTS: dict[str, Any] = {"optimizer": "sgd", "init": {"name": "torch"}, "model": {}, "quantize": {}}
TRIAL_NAMES = ("data", "model", "init", "optimizer", "quantize", LAYERS, *PLAIN)
SOURCE = re.compile(r"([^:]+\.py):([A-Za-z_]\w*)")
"""A user's model: a Python file, and the function in it that builds the net."""
LIBRARY = re.compile(r"torchvision:([a-z]\w*)")
"""A classifier of torchvision.models; which there are, only the installed version knows."""


OPEN_MODELS = ("torchvision:NAME", "FILE.py:FUNCTION")


def is_open(model: str) -> bool:
    """Whether a model's parameters and layers are its function's own affair: a user's, or a library's."""
    return SOURCE.fullmatch(model) is not None or LIBRARY.fullmatch(model) is not None


Checker = Callable[[object], Any]
"""Gives a value in its one spelling, or raises BadValueError."""


# --- checking one value -----------------------------------------------------------------------------------------------


def check(path: str, value: object, open_model: bool = False) -> Any:
    """The value of a trial parameter or dotted path in its one spelling: `range4` → {"format": "range", "bitwidth": 4}.

    Raises:
        BadValueError: an unknown name, or a value that it does not take.
    """
    return checker(path, open_model)(value)


def checker(path: str, open_model: bool = False) -> Checker:
    """What checks the values of a trial parameter or dotted path.

    Args:
        open_model: whether a model may be meant whose parameters only its function knows.

    Raises:
        BadValueError: an unknown name.
    """
    head, *rest = path.split(".")
    if head == "quantize" and len(rest) < 3:
        return _roles_checker(path, rest)
    if head in CHOICES and len(rest) == 1:
        return _choice_part_checker(head, rest[0], open_model)
    if rest or head not in TRIAL_NAMES:
        raise BadValueError(unknown("parameter", path, TRIAL_NAMES))
    if head == LAYERS:
        return _check_layers
    if head in CHOICES:
        return partial(_check_choice, head)
    return partial(_one_of, head, tuple(NAMED[head])) if head in NAMED else PLAIN[head].check


def _one_of(what: str, allowed: tuple[str, ...], value: object) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise BadValueError(unknown(what, value, allowed))
    return value


def _check_choice(what: str, value: object) -> dict[str, Any]:
    """A model or an init: its name alone, `normal(0.1)`, or a mapping with its name and parameters."""
    given = _short(what, value) if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise BadValueError(f"found {show(value)}, expected a name or a mapping with a name")
    name, own = given["name"], {k: v for k, v in given.items() if k != "name"}
    if what == "model" and is_open(name):
        return {"name": name, **dict(check_each(own.items(), _check_own))}
    if what == "model" and name.endswith(".py"):
        raise BadValueError(f"'{name}' needs the function that builds the net: {name}:net")
    if name not in CHOICES[what]:
        raise BadValueError(unknown(what, name, (*CHOICES[what], *(OPEN_MODELS if what == "model" else ()))))
    known = listing(CHOICES[what][name])
    return {"name": name, **_check_parameters(known, name, own)}


def _short(what: str, text: str) -> dict[str, Any]:
    match = re.fullmatch(r"(\w+)\(([-+.0-9eE]*)\)", text) if what == "init" else None
    if not match:
        return {"name": text}
    try:
        return {"name": match[1], "std": float(match[2])}
    except ValueError:
        raise BadValueError(f"found {show(text)}, expected {STD.expected} in the parentheses") from None


def _check_parameters(known: Mapping[str, Parameter], owner: str, given: Mapping[str, object]) -> dict[str, Any]:
    def one(name: str, value: object) -> Any:
        if name not in known:
            allowed = f" (it has: {', '.join(known)})" if known else " (it has none)"
            raise BadValueError(f"'{owner}' has no parameter '{cut(name)}'{did_you_mean(name, known)}{allowed}")
        return known[name].check(value)

    return dict(check_each(given.items(), one))


def _check_own(name: str, value: object) -> Any:
    """A parameter of an open model: any value, since only its function knows better."""
    if name in ("name", "source") or not name.isidentifier():
        raise BadValueError(f"'{cut(name)}' can't be the name of a model's parameter")
    return as_integers(value)


def _choice_part_checker(what: str, name: str, open_model: bool) -> Checker:
    """Of a dotted path into a model or init; which one it goes to is only known when the trial is resolved."""
    if what == "model" and open_model:
        _check_own(name, None)
        return as_integers
    return _known({f"{what}.{p.name}": p for own in CHOICES[what].values() for p in own}, f"{what}.{name}")


def _roles_checker(path: str, rest: list[str]) -> Checker:
    if not rest:
        return _check_roles
    if len(rest) == 1:
        return partial(_check_role, _one_of("role", ROLES, rest[0]))
    return _known(role_paths(_one_of("role", ROLES, rest[0])), path)


def _known(known: Mapping[str, Parameter], path: str) -> Checker:
    if path not in known:
        raise BadValueError(unknown("parameter", path, tuple(known)))
    return known[path].check


def _check_roles(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadValueError(f"found {show(value)}, expected a mapping of roles to formats, such as {{weight: range4}}")
    return dict(check_each(value.items(), _check_role))


def _check_role(role: str, value: object) -> dict[str, Any]:
    """A role's format: a short name, or a mapping with `format` and parameters."""
    _one_of("role", ROLES, role)
    given = {"format": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not isinstance(given.get("format"), str):
        raise BadValueError(f"found {show(value)}, expected a format's name, or a mapping with a format")
    family, preset = split_name(given["format"], (ROUNDING, *((AT,) if role in AT_ROLES else ())))
    known = listing(role_parameters(role, family))
    own = _check_parameters(known, family, {k: v for k, v in given.items() if k != "format"})
    if both := preset.keys() & own.keys():
        raise BadValueError(f"'{given['format']}' sets the {min(both)} already")
    return {"format": family, **preset, **own}


def _check_layers(value: object) -> Any:
    """Exceptions by place: roles with formats of their own, or all of a place in float32."""
    if isinstance(value, str):
        return _one_of("word for layers", (FLOAT32_ENDS,), value)
    if not isinstance(value, Mapping):
        expected = f"{FLOAT32_ENDS}, or a mapping of places to formats, such as {{conv1: {{weight: block8}}}}"
        raise BadValueError(f"found {show(value)}, expected {expected}")
    return dict(check_each(value.items(), lambda _, own: FLOAT32 if own == FLOAT32 else _check_roles(own)))
