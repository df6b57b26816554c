"""The check of one value: a trial parameter or dotted path, from any spelling in a spec to the canonical one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from qsweep.data import own
from qsweep.errors import LISTED, cut, few, nearest, unknown
from qsweep.formats import ROUNDING, split_name
from qsweep.formats.learned import CLUSTERS
from qsweep.formats.names import misplaced, no_parameter
from qsweep.hints import same
from qsweep.models.catalog import OPEN_MODELS, is_open
from qsweep.parameter import BadValueError, Parameter, as_integers, check_each, listing, show
from qsweep.trial.optimizers import OPTIMIZERS
from qsweep.trial.parameters import (
    CHOICES,
    CLIP,
    CODEBOOK,
    COMPRESS,
    COMPRESSIBLE,
    FLOAT32_ENDS,
    LAYERS,
    LEARNED,
    NAMED,
    PLAIN,
    RETRAIN,
    RETRAINING,
    ROLE_PARTS,
    STAGES,
    STD,
    TRIAL_NAMES,
    compression_parameters,
    role_parameters,
    role_paths,
)
from qsweep.trial.roles import AT, AT_ROLES, FLOAT32, ROLES

OWNERS = ("trial", "grid", "zip", "training", "params", "spec")
"""Prefixes that people write before a parameter's name; there is none."""
DEFAULT_OWNERS = tuple(NAMED)
"""Parameters whose own parameters are written next to them: `optimizer.lr` is lr."""
OWNED = {
    **{
        p.name: f"it is a role's: write `quantize: {{weight: {{format: …, {p.name}: …}}}}`"
        for p in (*ROLE_PARTS.values(), AT)
    },
    **{
        p.name: f"it is a compression's: write `stages: [{{compress: {{weight: {{format: …, {p.name}: …}}}}}}]`"
        for p in (CLIP, CLUSTERS)
    },
    CODEBOOK.name: f"it is a retraining's: write `stages: [{{retrain: {{{CODEBOOK.name}: …}}}}]`",
    **{
        p.name: f"it is the {what}'s: write `{what}: {{name: {name}, {p.name}: …}}`, or `{what}.{p.name}` for an axis"
        for what, choices in CHOICES.items()
        for name, own in reversed(choices.items())  # the first that has it wins
        for p in own
    },
    **{role: f"it is a role: write `quantize: {{{role}: …}}`, or `quantize.{role}` for an axis" for role in ROLES},
}
"""Where names belong that are not top-level parameters of a trial."""

Checker = Callable[[object], Any]
"""Returns a value in its canonical spelling, or raises BadValueError."""


def check(path: str, value: object, open_model: bool = False) -> Any:
    """A trial parameter's or dotted path's value, in canonical spelling: `range4` → {"format": "range", "bitwidth": 4}.

    Raises:
        BadValueError: an unknown name, or a value that it does not take.
    """
    return checker(path, open_model)(value)


def checker(path: str, open_model: bool = False) -> Checker:
    """The function that checks values of a trial parameter or dotted path.

    Args:
        open_model: whether the model may be one whose parameters only its function knows.

    Raises:
        BadValueError: an unknown name.
    """
    head, *rest = path.split(".")
    if head == "quantize" and len(rest) < 3:
        return _roles_checker(path, rest)
    if head in CHOICES and len(rest) == 1:
        return _choice_part_checker(head, rest[0], open_model)
    if rest or head not in TRIAL_NAMES:
        raise BadValueError(_unknown_parameter(path))
    if head == LAYERS:
        return _check_layers
    if head == STAGES:
        return _check_stages
    if head == "data":
        return _check_data
    if head in CHOICES:
        return partial(_check_choice, head)
    return partial(_one_of, head, tuple(NAMED[head])) if head in NAMED else PLAIN[head].check


def parameter_named(name: str) -> str:
    """The trial parameter or dotted path of a name, on its own or within its owner; "" if there is none."""
    if name in TRIAL_NAMES:
        return name
    inside = [f"{what}.{p.name}" for what, choices in CHOICES.items() for own in choices.values() for p in own]
    return next((path for path in inside if path.endswith(f".{name}")), "") or same("parameter", name)


def _unknown_parameter(path: str) -> str:
    """The message for an unknown path: where its last part belongs, or the nearest name."""
    first, dot, rest = path.partition(".")
    if dot and first in (STAGES, LAYERS):
        instead = f"list alternatives under `variants`, each with its own `{first}`"
        return f"unknown parameter '{cut(path)}': a path into `{first}` can't be an axis; {instead}"
    head, _, last = path.rpartition(".")
    if head in (*OWNERS, *DEFAULT_OWNERS) and last in TRIAL_NAMES:
        return f"unknown parameter '{cut(path)}'; did you mean '{last}'?"
    if text := OWNED.get(last if head in ("", *OWNERS) else ""):
        return f"unknown parameter '{cut(path)}': {text}"
    if dot and (near := nearest(first, ("quantize", *CHOICES))):
        return f"unknown parameter '{cut(path)}'; did you mean '{near}.{cut(rest)}'?"
    return unknown("parameter", path, TRIAL_NAMES)


def _one_of(what: str, allowed: tuple[str, ...], value: object) -> str:
    if isinstance(value, Mapping) and isinstance(name := value.get("name"), str):
        rest = ", ".join(map(str, value.keys() - {"name"}))
        beside = f", and {rest} beside it" if rest else ""
        raise BadValueError(f"found {show(value)}, expected a name: write `{what}: {name}`{beside}")
    if not isinstance(value, str):
        raise BadValueError(f"found {show(value)}, expected one of: {', '.join(allowed)}")
    if value not in allowed:
        raise BadValueError(unknown(what, value, allowed))
    return value


def _check_data(value: object) -> str:
    """The name of a data set, or a user's own in its one spelling: `npz:mine.npz`."""
    has_path = isinstance(value, Mapping) and isinstance(value.get("name"), str) and {"file", "folder"} & value.keys()
    return own.check(value) if own.is_own(value) or has_path else _one_of("data", tuple(NAMED["data"]), value)


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
        if name in known:
            return known[name].check(value)
        if name in PLAIN and not misplaced(name):
            raise BadValueError(f"'{owner}' has no parameter '{name}': it is a trial parameter, for `trial` or `grid`")
        raise BadValueError(no_parameter(owner, name, known))

    return dict(check_each(given.items(), one))


def _check_own(name: str, value: object) -> Any:
    """A parameter of an open model: any value, since only its function knows its parameters."""
    if name in ("name", "source") or not name.isidentifier():
        raise BadValueError(f"'{cut(name)}' can't be the name of a model's parameter")
    return as_integers(value)


def _choice_part_checker(what: str, name: str, open_model: bool) -> Checker:
    """The checker of a dotted path into a model or init; which one it is, is only known when the trial is resolved."""
    if what == "model" and open_model:
        _check_own(name, None)
        return as_integers
    return _known({f"{what}.{p.name}": p for own in CHOICES[what].values() for p in own}, f"{what}.{name}")


def _roles_checker(path: str, rest: list[str]) -> Checker:
    if not rest:
        return _check_roles
    if len(rest) == 1:
        return partial(_check_role, _role_named(rest[0]))
    return _known(role_paths(_role_named(rest[0])), path)


def _known(known: Mapping[str, Parameter], path: str) -> Checker:
    if path in known:
        return known[path].check
    owner, _, name = path.rpartition(".")
    near = nearest(name, [each.rpartition(".")[2] for each in known]) or same("parameter", name)
    if f"{owner}.{near}" in known:
        raise BadValueError(f"unknown parameter '{cut(path)}'; did you mean '{owner}.{near}'?")
    hint = misplaced(name) or (f": '{name}' is a trial parameter" if name in PLAIN else "")
    others = "" if hint else f" ({few(tuple(known), LISTED['parameter'])})"
    raise BadValueError(f"unknown parameter '{cut(path)}'{hint}{others}")


def _check_roles(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadValueError(f"found {show(value)}, expected a mapping of roles to formats, such as {{weight: range4}}")
    return dict(check_each(value.items(), _check_role))


def _role_named(name: str) -> str:
    if name not in ROLES and (text := OWNED.get(name)):
        raise BadValueError(f"unknown role '{name}': {text}")
    return _one_of("role", ROLES, name)


def _check_role(role: str, value: object) -> dict[str, Any]:
    """A role's format: a short name, or a mapping with `format` and parameters."""
    _role_named(role)
    return _check_format(value, partial(_role_parameters, role), (ROUNDING, *((AT,) if role in AT_ROLES else ())))


def _role_parameters(role: str, family: str) -> tuple[Parameter, ...]:
    if family in LEARNED:
        raise BadValueError(f"{family} computes its levels once, from trained values: for {COMPRESS}, not for a role")
    return role_parameters(role, family)


def _check_format(
    value: object, parameters: Callable[[str], tuple[Parameter, ...]], besides: tuple[Parameter, ...]
) -> dict[str, Any]:
    """A format: a short name, or a mapping with `format` and parameters.

    Args:
        parameters: all parameters of a family that are allowed here.
        besides: those among them that are not the format's.
    """
    given = {"format": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not isinstance(given.get("format"), str):
        raise BadValueError(f"found {show(value)}, expected a format's name, or a mapping with a format")
    family, preset = split_name(given["format"], besides)
    known = listing(parameters(family))
    own = _check_parameters(known, family, {k: v for k, v in given.items() if k != "format"})
    if both := preset.keys() & own.keys():
        raise BadValueError(f"'{given['format']}' sets the {min(both)} already")
    return {"format": family, **preset, **own}


def _check_layers(value: object) -> Any:
    """Exceptions by place: other formats for roles, or float32 for the whole place."""
    if isinstance(value, str):
        return _one_of("word for layers", (FLOAT32_ENDS,), value)
    if not isinstance(value, Mapping):
        expected = f"{FLOAT32_ENDS}, or a mapping of places to formats, such as {{conv1: {{weight: block8}}}}"
        raise BadValueError(f"found {show(value)}, expected {expected}")
    return dict(check_each(value.items(), lambda _, own: FLOAT32 if own == FLOAT32 else _check_roles(own)))


STAGE_EXPECTED = f"a mapping with one of {COMPRESS}, {RETRAIN}, such as {{{COMPRESS}: {{weight: uniform8}}}}"


MAX_STAGES = 100
"""Each stage is a separate trial, with a key and a record."""


def _check_stages(value: object) -> list[dict[str, Any]]:
    """The stages after training, in order."""
    if not isinstance(value, list):
        raise BadValueError(f"found {show(value)}, expected a list of stages, each {STAGE_EXPECTED}")
    if len(value) > MAX_STAGES:
        raise BadValueError(f"found {len(value):,} stages, more than {MAX_STAGES}")
    return [stage for _, stage in check_each(enumerate(value), lambda _, stage: _check_stage(stage))]


def _check_stage(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or len(value) != 1 or not isinstance(next(iter(value.values())), Mapping):
        raise BadValueError(f"found {show(value)}, expected {STAGE_EXPECTED}")
    ((name, own),) = value.items()
    kind = _one_of("stage", (COMPRESS, RETRAIN), name)
    if kind == COMPRESS and not own:
        raise BadValueError(f"it compresses nothing (one or more of: {', '.join(COMPRESSIBLE)})")
    check: Callable[[str, object], Any] = _check_compressed if kind == COMPRESS else _check_retrained

    def parts(_: str, given: Any) -> dict[str, Any]:
        return dict(check_each(given.items(), check))

    return dict(check_each([(kind, own)], parts))


def _check_compressed(part: str, value: object) -> dict[str, Any]:
    """The format that a part of the model is compressed to, rounding to nearest."""
    if part not in COMPRESSIBLE and misplaced(part):
        raise BadValueError(f"'{part}' goes next to a format: `{COMPRESS}: {{weight: {{format: …, {part}: …}}}}`")
    _one_of("part to compress", COMPRESSIBLE, part)
    return _check_format(value, compression_parameters, (CLIP,))


def _check_retrained(name: str, value: object) -> Any:
    if name == "optimizer":
        return _one_of(name, tuple(OPTIMIZERS), value)
    known = RETRAINING | {CODEBOOK.name: CODEBOOK}
    if name not in known:
        raise BadValueError(unknown("parameter of retraining", name, ("optimizer", *known)))
    return known[name].check(value)
