"""A trial: one resolved set of parameters, and the key that names it.

A spec's parameters are checked one by one (`check`), then resolved to what the trial really uses (`resolve`): each role
to its format's own parameters, each optimizer and model to its own. What nothing reads is left out, so that it can't
change the key.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from qsweep.architectures import ARCHITECTURES
from qsweep.datasets import DATASETS, PREPROCESS, SPLITS
from qsweep.errors import did_you_mean, unknown
from qsweep.formats import BITWIDTH, FAMILIES, ROUNDINGS, SCALE, ZERO, Float32, split_name
from qsweep.parameters import ALWAYS, REQUIRED, BadValueError, Parameter, listing, show

ROLES = ("weight", "bias")
"""What can be quantized: the weights of dense layers, and their biases (like the weights unless named)."""

NUMERICS = {
    "step": 1,
    "random": 1,
    "init": 1,
    "sgd": 1,
    "rmsprop": 1,
    "adam": 1,
    "range": 1,
    "mlp": 1,
    "softmax": 1,
    "source": 1,
    "digits": 1,
    "mnist": 1,
    "fashion_mnist": 1,
}
"""Version of the arithmetic of each part. Raise one on purpose when a change alters that part's results: the keys of
all trials that use it change, and nothing is taken from the store that would come out otherwise today."""

POSITIVE = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NOT_NEGATIVE = Annotated[float, Field(ge=0, allow_inf_nan=False)]
BELOW_ONE = Annotated[float, Field(ge=0, lt=1)]

LR = Parameter("lr", POSITIVE, "a number above 0", default=0.01, stacks=True)
MOMENTUM = Parameter("momentum", BELOW_ONE, "a number from 0 up to, not including, 1", default=0.0, stacks=True)
WEIGHT_DECAY = Parameter("weight_decay", NOT_NEGATIVE, "a number, 0 or above", default=0.0, stacks=True)
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
    "sgd": (LR, MOMENTUM, WEIGHT_DECAY),
    "rmsprop": (LR, ALPHA, EPS, WEIGHT_DECAY),
    "adam": (LR, BETAS, EPS, WEIGHT_DECAY),
}

STD = Parameter("std", POSITIVE, "a standard deviation, a number above 0", default=0.1)
INITS: dict[str, tuple[Parameter, ...]] = {"normal": (STD,), "glorot_uniform": (), "he": (), "torch": ()}
"""normal: kernels and biases from Normal(0, std). glorot_uniform, he (normal): kernels by fan, biases 0. torch: its
default, both uniform in ±1/√fan_in."""

ROUNDING = Parameter("rounding", Literal[ROUNDINGS], " or ".join(ROUNDINGS), default="nearest")
QUANTIZE_INIT = Parameter(
    "quantize_init", bool, "true or false (whether roles are quantized before the first step)", default=True
)

DATA_PARAMETERS = (
    Parameter("preprocess", Literal[PREPROCESS], " or ".join(PREPROCESS), default=None),
    Parameter("split", Literal[SPLITS], " or ".join(SPLITS), default=None),
    Parameter("drop_last", bool, "true or false (whether an incomplete last batch is left out)", default=None),
)
"""Their default is the data set's own."""

TRAINING_PARAMETERS = (
    Parameter("loss", Literal["cross_entropy"], "cross_entropy", default="cross_entropy"),
    Parameter("epochs", Annotated[int, Field(ge=1, le=100_000)], "an integer from 1 to 100000", default=1),
    Parameter("batch_size", Annotated[int, Field(ge=1, le=1_000_000)], "an integer from 1 to 1000000", default=128),
)

ROLE_DEFAULTS = (BITWIDTH, ROUNDING, SCALE, ZERO)
"""Trial-level parameters that reach a role whose format has one of that name and does not set it itself."""

PLAIN = listing(
    (
        *DATA_PARAMETERS,
        *TRAINING_PARAMETERS,
        *(p for parameters in OPTIMIZERS.values() for p in parameters),
        *ROLE_DEFAULTS,
        QUANTIZE_INIT,
    )
)
"""Parameters whose value is one plain value."""

NAMED = {"data": tuple(DATASETS), "optimizer": tuple(OPTIMIZERS)}
"""Parameters whose value is a name of a catalog."""

CHOICES = {"model": {a.name: a.parameters for a in ARCHITECTURES.values()}, "init": INITS}
"""Parameters whose value is a name, or a mapping of a name and parameters of its own."""

DEFAULTS: dict[str, Any] = {"optimizer": "sgd", "init": {"name": "torch"}, "quantize": {}}
TRIAL_NAMES = ("data", "model", "init", "optimizer", "quantize", *PLAIN)
SOURCE = re.compile(r"(?P<file>[^:]+\.py):(?P<function>[A-Za-z_]\w*)")
"""A user's model: a Python file and the function in it that builds the net."""

STACKING = frozenset(p.name for p in PLAIN.values() if p.stacks)
SWITCHES = ("momentum", "weight_decay")
"""Stacking parameters whose 0 leaves a part of the step out: in a stack all use that part, or none does."""


# --- checking one value -----------------------------------------------------------------------------------------------


def check(path: str, value: object) -> Any:
    """The value of a trial parameter or dotted path in its one spelling: `range4` → {"format": "range", "bitwidth": 4}.

    Raises:
        BadValueError: unknown name or a value it does not take. Where the mistake is further inside, the exception's
            second argument is the rest of the path.
    """
    head, _, rest = path.partition(".")
    if head == "quantize":
        return _check_quantize(rest, value)
    if head in CHOICES:
        return _check_choice_part(head, rest, value) if rest else _check_choice(head, value)
    if rest or head not in TRIAL_NAMES:
        raise BadValueError(unknown("parameter", path, TRIAL_NAMES))
    if head in NAMED:
        return _one_of(head, value, NAMED[head])
    return PLAIN[head].check(value)


def _one_of(what: str, value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise BadValueError(unknown(what, value, allowed))
    return value


def _inside(name: str, parameter: Parameter, value: object) -> Any:
    """Check a value inside a mapping; say where in it a mistake is."""
    try:
        return parameter.check(value)
    except BadValueError as problem:
        raise BadValueError(str(problem), name) from None


def _check_choice(what: str, value: object) -> dict[str, Any]:
    """A model or an init: its name alone, `normal(0.1)`, or a mapping with its name and parameters."""
    given = _short_init(value) if what == "init" and isinstance(value, str) else value
    given = {"name": given} if isinstance(given, str) else given
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise BadValueError(f"found {show(value)}, expected a name or a mapping with a name")
    name = given["name"]
    if what == "model" and SOURCE.fullmatch(name):
        return dict(given)
    known = listing(CHOICES[what][_one_of(what, name, tuple(CHOICES[what]))])
    return {"name": name} | {k: _known(known, k, v, name) for k, v in given.items() if k != "name"}


def _known(known: Mapping[str, Parameter], key: str, value: object, owner: str) -> Any:
    if key not in known:
        allowed = f" (it has: {', '.join(known)})" if known else " (it has none)"
        raise BadValueError(f"'{owner}' has no parameter '{key}'{did_you_mean(key, known)}{allowed}", key)
    return _inside(key, known[key], value)


def _short_init(text: str) -> object:
    match = re.fullmatch(r"(\w+)\(([-+.\deE]+)\)", text)
    return {"name": match[1], "std": float(match[2])} if match else text


def _check_choice_part(what: str, name: str, value: object) -> Any:
    """A dotted path into a model or init; which one it goes to is only known when the trial is resolved."""
    for parameters in CHOICES[what].values():
        if name in listing(parameters):
            return listing(parameters)[name].check(value)
    if what == "model" and name.isidentifier():
        return value  # a parameter of a user's own model: only its function knows it
    names = tuple(f"{what}.{p.name}" for parameters in CHOICES[what].values() for p in parameters)
    raise BadValueError(unknown("parameter", f"{what}.{name}", names))


def _check_quantize(rest: str, value: object) -> Any:
    role, _, name = rest.partition(".")
    if not role:
        return _check_roles(value)
    if role not in ROLES:
        raise BadValueError(unknown("role", role, ROLES))
    if not name:
        return _check_role(value)
    known = _role_parameters()
    if name not in known:
        raise BadValueError(unknown("parameter", f"quantize.{role}.{name}", tuple(known)))
    return known[name].check(value)


def _check_roles(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadValueError(f"found {show(value)}, expected a mapping of roles to formats, such as {{weight: range4}}")
    return {role: _inside_role(role, v) for role, v in value.items()}


def _inside_role(role: str, value: object) -> dict[str, Any]:
    try:
        if role not in ROLES:
            raise BadValueError(unknown("role", role, ROLES))
        return _check_role(value)
    except BadValueError as problem:
        raise BadValueError(problem.args[0], ".".join((role, *problem.args[1:]))) from None


def _check_role(value: object) -> dict[str, Any]:
    """A role's format: a short name, or a mapping with `format` and parameters."""
    given = {"format": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not isinstance(given.get("format"), str):
        raise BadValueError(f"found {show(value)}, expected a format's name, or a mapping with a format")
    family, preset = split_name(given["format"])
    known = listing((*FAMILIES[family].parameters, *(() if family == Float32.family else (ROUNDING,))))
    own = {k: _known(known, k, v, family) for k, v in given.items() if k != "format"}
    if both := preset.keys() & own.keys():
        raise BadValueError(f"'{given['format']}' sets the {min(both)} already", min(both))
    return {"format": family, **preset, **own}


def _role_parameters() -> dict[str, Parameter]:
    return listing((*(p for f in FAMILIES.values() for p in f.parameters), ROUNDING))


# --- resolving a trial ------------------------------------------------------------------------------------------------


class TrialError(ValueError):
    """A set of parameters that is no trial; `path` says which one is at fault."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(message)


@dataclass(frozen=True)
class Trial:
    """One resolved set of parameters.

    Attributes:
        settings: what the trial uses, as plain JSON values, seed and numerics included: all that a worker gets.
        columns: what of it a table shows, by the names that a spec uses.
        key: SHA-256 of the canonical JSON of `settings`.
    """

    settings: dict[str, Any]
    columns: dict[str, Any] = field(compare=False)
    key: str

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])


def canonical(settings: Mapping[str, Any]) -> str:
    """The one JSON text of a value: sorted names, no spaces, shortest numbers; NaN and Inf refused."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def key_of(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(settings).encode()).hexdigest()


def resolve(parameters: Mapping[str, Any], seed: int, sources: Mapping[str, str] | None = None) -> Trial:
    """The trial that checked parameters mean.

    Args:
        parameters: trial parameters as `check` returns them, nested (`{"model": {"name": …}}`).
        sources: digest of each user's Python file that `model` may name.

    Raises:
        TrialError: a parameter that the trial needs is missing.
    """
    return _Resolver({**DEFAULTS, **parameters}, sources or {}).trial(seed)


class _Resolver:
    """Builds settings and columns side by side, so that a column exists exactly where something reads it."""

    def __init__(self, given: Mapping[str, Any], sources: Mapping[str, str]) -> None:
        self.given = given
        self.sources = sources
        self.columns: dict[str, Any] = {}
        self.numerics = ["step", "random", "init"]

    def trial(self, seed: int) -> Trial:
        settings: dict[str, Any] = {
            "data": self._data(),
            "model": self._model(),
            "init": self._choice("init", INITS),
            "optimizer": self._optimizer(),
            **self._plain(TRAINING_PARAMETERS),
            **self._quantize(),
            "seed": seed,
        }
        settings["numerics"] = {part: NUMERICS[part] for part in sorted(self.numerics)}
        return Trial(settings, self.columns, key_of(settings))

    def _read(self, path: str, parameter: Parameter, given: Mapping[str, Any], default: Any) -> Any:
        value = given.get(parameter.name, default)
        if value is REQUIRED:
            raise TrialError(path, f"{path} is missing: expected {parameter.expected}")
        self.columns[path] = value
        return value

    def _plain(self, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
        read = {p.name: self._read(p.name, p, self.given, p.default) for p in parameters}
        return _for_key(parameters, read)

    def _name(self, what: str) -> str:
        if what not in self.given:
            raise TrialError(what, f"{what} is missing (one of: {', '.join(NAMED.get(what) or CHOICES[what])})")
        return str(self.given[what])

    def _data(self) -> dict[str, Any]:
        name = self.columns["data"] = self._name("data")
        self.numerics.append(name)
        own = {p.name: self._read(p.name, p, self.given, getattr(DATASETS[name], p.name)) for p in DATA_PARAMETERS}
        return {"name": name, **_for_key(DATA_PARAMETERS, own)}

    def _model(self) -> dict[str, Any]:
        self._name("model")
        given = self.given["model"]
        source = SOURCE.fullmatch(given["name"])
        if not source:
            return self._choice("model", CHOICES["model"])
        own = {k: v for k, v in given.items() if k != "name"}
        self.columns |= {"model": given["name"], **{f"model.{k}": v for k, v in own.items()}}
        self.numerics.append("source")
        return {"name": source["function"], "source": self.sources[source["file"]], **own}

    def _choice(self, what: str, catalog: Mapping[str, tuple[Parameter, ...]]) -> dict[str, Any]:
        given = self.given[what]
        name = self.columns[what] = given["name"]
        if what == "model":
            self.numerics.append(name)
        own = {p.name: self._read(f"{what}.{p.name}", p, given, p.default) for p in catalog[name]}
        return {"name": name, **_for_key(catalog[name], own)}

    def _optimizer(self) -> dict[str, Any]:
        name = self.columns["optimizer"] = self._name("optimizer")
        self.numerics.append(name)
        return {"name": name, **self._plain(OPTIMIZERS[name])}

    def _quantize(self) -> dict[str, Any]:
        given = self.given["quantize"]
        weight = given.get("weight", {"format": Float32.family})
        roles = {"weight": weight, "bias": given.get("bias", weight)}
        for role, spec in roles.items():
            self.columns[f"quantize.{role}"] = describe_role(spec)
        resolved = {r: self._role(r, s) for r, s in roles.items() if s["format"] != Float32.family}
        if not resolved:
            return {}
        return {"quantize": resolved, **self._plain((QUANTIZE_INIT,))}

    def _role(self, role: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        family = spec["format"]
        self.numerics.append(family)
        parameters = (*FAMILIES[family].parameters, ROUNDING)
        own = {p.name: self._role_value(role, p, spec) for p in parameters}
        return {"format": family, **_for_key(parameters, own)}

    def _role_value(self, role: str, parameter: Parameter, spec: Mapping[str, Any]) -> Any:
        name = parameter.name
        if name in spec:
            self.columns[f"quantize.{role}.{name}"] = spec[name]
            return spec[name]
        if name not in self.given and parameter.default is REQUIRED:
            path = f"quantize.{role}"
            raise TrialError(path, f"{spec['format']} needs a {name}: {spec['format']}4, or {name} in trial or grid")
        return self._read(name, parameter, self.given, parameter.default)


def _for_key(parameters: tuple[Parameter, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """What of these values goes into the key: not those that mean "as before this parameter existed"."""
    return {p.name: values[p.name] for p in parameters if p.as_before is ALWAYS or values[p.name] != p.as_before}


def describe_role(role: Mapping[str, Any]) -> str:
    """A checked role in one word or so: `range`, `range4`, `range4 scale=8`."""
    rest = [f"{k}={v}" for k, v in role.items() if k not in ("format", "bitwidth")]
    return " ".join([f"{role['format']}{role.get('bitwidth', '')}", *rest])


# --- stacks -----------------------------------------------------------------------------------------------------------


def stack_signature(settings: Mapping[str, Any]) -> str:
    """What trials of one stack must share: all of the settings but the parameters declared `stacks`."""
    shared = {**settings, "optimizer": _shared(settings["optimizer"])}
    if "quantize" in settings:
        shared["quantize"] = {role: _shared(own) for role, own in settings["quantize"].items()}
    return canonical(shared)


def _shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    used = {f"uses {name}": bool(settings[name]) for name in SWITCHES if name in settings}
    return used | {name: value for name, value in settings.items() if name not in STACKING}
