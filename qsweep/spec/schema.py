"""The JSON Schema of a spec, for editors and tools, made from the same parameters as the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from qsweep.data.own import KINDS
from qsweep.formats import FAMILIES
from qsweep.formats.names import pattern_of
from qsweep.models.catalog import LIBRARY, SOURCE
from qsweep.parameter import REQUIRED, Parameter
from qsweep.spec.axes import GENERATORS, MAX_VALUES, USAGE
from qsweep.spec.file import MAX_SEED, MAX_SEEDS_BY_NUMBER, MAX_TRIALS, NAME
from qsweep.spec.plots import PLOT_KINDS, RANGE, REACH, PlotKind
from qsweep.trial.measures import DRAWN
from qsweep.trial.optimizers import OPTIMIZERS
from qsweep.trial.parameters import (
    CHOICES,
    CODEBOOK,
    COMPRESS,
    COMPRESSIBLE,
    FLOAT32_ENDS,
    LAYERS,
    NAMED,
    PLAIN,
    RETRAIN,
    RETRAINING,
    ROLE_PARAMETERS,
    STAGES,
    compression_parameters,
    role_parameters,
    role_paths,
)
from qsweep.trial.reach import DEFAULT_REACH
from qsweep.trial.roles import AT_ROLES, FLOAT32, ROLES

Schema = dict[str, Any]

NUMBER: Schema = {"type": "number"}
OWN_MODEL_PARAMETER = r"^model\.[A-Za-z_][A-Za-z0-9_]*$"


def spec_schema() -> Schema:
    """JSON Schema (2020-12) of a spec file. It can't express everything: `qsweep run -n` checks the rest."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qsweep spec",
        **_object(
            {
                "name": {"type": "string", "pattern": f"^{NAME.pattern}$", "description": "the file's name"},
                "title": {"type": "string"},
                "extends": {"type": "string", "description": "another spec: mappings merge, lists and axes replace"},
                **_block(),
                "also": {"type": "array", "items": _object(_block()), "description": "further blocks"},
                "seeds": _seeds(),
                "plots": {"type": "array", "items": {"oneOf": [_plot(kind) for kind in PLOT_KINDS.values()]}},
                "search": _search(),
                "stack": {"type": "integer", "minimum": 1, "description": "maximum trials per stack"},
                "max_trials": {"type": "integer", "minimum": 1, "default": MAX_TRIALS},
            }
        ),
        "$defs": {**_parameters(), **_roles(), "generator": _generator(), **_block_parts()},
    }


def _object(properties: Schema, **more: Any) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def _search() -> Schema:
    properties = {"bisect": {"type": "string", "description": "an axis of numbers"}, REACH: _reach()}
    described = "train only the trials needed to find the lowest value of an axis that reaches an accuracy"
    return _object(properties, required=["bisect"], description=described)


def _reach() -> Schema:
    return {
        "type": ["string", "number"],
        "default": DEFAULT_REACH,
        "description": "a share of the best trial without the axis, or an accuracy",
    }


def _ref(name: str, description: str | None = None) -> Schema:
    return {"$ref": f"#/$defs/{name}", **({"description": description} if description else {})}


# --- blocks -----------------------------------------------------------------------------------------------------------


def _block() -> Schema:
    return {
        "trial": _ref("trial", "parameters shared by all trials"),
        "grid": _ref("axes", "axes to cross, the last one fastest"),
        "zip": _ref("axes", "axes that move together"),
        "variants": {"type": "object", "additionalProperties": _ref("trial"), "description": "named alternatives"},
        "exclude": {"type": "array", "items": _ref("entry"), "description": "points to leave out"},
        "only": {"type": "array", "items": _ref("entry"), "description": "points to keep"},
    }


def _block_parts() -> Schema:
    names = {name: _ref(name) for name in _parameters()}
    axes = {name: _axis(value) for name, value in names.items() if name != "quantize"}
    entry = {**names, "variant": {"type": "string"}}
    return {
        "trial": _object(names, patternProperties={OWN_MODEL_PARAMETER: {}}),
        "axes": _object(axes, patternProperties={OWN_MODEL_PARAMETER: _axis({})}),
        "entry": _object(entry, patternProperties={OWN_MODEL_PARAMETER: {}}, minProperties=1),
    }


def _axis(value: Schema) -> Schema:
    values = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
    return {"anyOf": [values, _ref("generator")]}


def _generator() -> Schema:
    return {"anyOf": [_object({name: _arguments(name)}, required=[name]) for name in GENERATORS]}


def _arguments(name: str) -> Schema:
    fewest = 3 if name in ("linspace", "logspace") else 2
    return {"type": "array", "items": NUMBER, "minItems": fewest, "maxItems": 3, "description": USAGE[name]}


# --- parameters -------------------------------------------------------------------------------------------------------


def _parameters() -> Schema:
    """The schemas of all names that an axis, a trial or `-S` can set."""
    own = {path: p for role in ROLES for path, p in role_paths(role).items()}
    roles = {role: _ref(_role_definition(role)) for role in ROLES}
    return {
        **{name: {"enum": list(values)} for name, values in NAMED.items()},
        "data": _data(),
        **{name: _choice(name) for name in CHOICES},
        **_schemas(PLAIN.values()),
        "quantize": _object(roles, description="the format of each role; others stay in float32"),
        LAYERS: _layers(roles),
        STAGES: _stages(),
        **{f"quantize.{role}": ref for role, ref in roles.items()},
        **{path: parameter.json_schema() for path, parameter in (_inside() | own).items()},
    }


def _inside() -> dict[str, Parameter]:
    """Parameters of models and inits by dotted path, without a default where these differ in it."""
    found: dict[str, Parameter] = {}
    for what, choices in CHOICES.items():
        for p in (p for own in choices.values() for p in own):
            known = found.setdefault(f"{what}.{p.name}", p)
            if known.default != p.default:
                found[f"{what}.{p.name}"] = replace(p, default=None)
    return found


def _schemas(parameters: Iterable[Parameter]) -> Schema:
    return {p.name: p.json_schema() for p in parameters}


def _choice(what: str) -> Schema:
    catalog = CHOICES[what]
    mappings = [_object({"name": {"const": name}, **_schemas(own)}, required=["name"]) for name, own in catalog.items()]
    names: Schema = {"enum": list(catalog)}
    if what == "init":
        return {"anyOf": [names, {"type": "string", "pattern": r"^normal\([0-9.eE+-]+\)$"}, *mappings]}
    source = {"type": "string", "pattern": f"^{SOURCE.pattern}$", "description": "your own model: file.py:function"}
    library = {
        "type": "string",
        "pattern": f"^{LIBRARY.pattern}$",
        "description": "a model of torchvision, by its name there",
    }
    open_model = {"type": "object", "properties": {"name": {"anyOf": [source, library]}}, "required": ["name"]}
    open_model["properties"] |= {"source": False}  # type: ignore[operator]
    return {"anyOf": [names, source, library, *mappings, open_model]}


def _data() -> Schema:
    mappings = [
        _object({"name": {"const": kind}, **_schemas(own)}, required=["name", *_required(own)])
        for kind, own in KINDS.items()
    ]
    spelled: Schema = {"type": "string", "pattern": f"^({'|'.join(KINDS)}):."}
    return {"anyOf": [{"enum": list(NAMED["data"])}, spelled, *mappings]}


def _required(parameters: Iterable[Parameter]) -> list[str]:
    return [p.name for p in parameters if p.default is REQUIRED]


def _layers(roles: dict[str, Schema]) -> Schema:
    place = {"anyOf": [{"const": FLOAT32}, _object(roles)]}
    by_place = {"type": "object", "additionalProperties": place}
    return {"anyOf": [{"const": FLOAT32_ENDS}, by_place], "description": "exceptions by place"}


def _stages() -> Schema:
    parts = dict.fromkeys(COMPRESSIBLE, _format(FAMILIES, compression_parameters))
    retraining = _schemas([*RETRAINING.values(), CODEBOOK]) | {"optimizer": {"enum": list(OPTIMIZERS)}}
    kinds = {COMPRESS: _object(parts, minProperties=1), RETRAIN: _object(retraining)}
    stage = {"anyOf": [_object({kind: own}, required=[kind]) for kind, own in kinds.items()]}
    return {"type": "array", "items": stage, "description": "steps after training, in order"}


def _role_definition(role: str) -> str:
    """The name of a role's definition; roles with the same parameters share one."""
    return "role_at" if role in AT_ROLES else "role"


def _roles() -> Schema:
    return {_role_definition(role): _role(role) for role in ROLES}


def _role(role: str) -> Schema:
    return _format(ROLE_PARAMETERS, partial(role_parameters, role))


def _format(names: Iterable[str], parameters: Callable[[str], tuple[Parameter, ...]]) -> Schema:
    """A format's short name, or a mapping with it and the parameters of its family."""
    families = {name: pattern_of(name) for name in names}
    mappings = [
        _object(
            {"format": {"type": "string", "pattern": pattern}, **_schemas(parameters(name))},
            required=["format"],
        )
        for name, pattern in families.items()
    ]
    return {"anyOf": [*({"type": "string", "pattern": pattern} for pattern in families.values()), *mappings]}


# --- the rest ---------------------------------------------------------------------------------------------------------


def _seeds() -> Schema:
    count = {"type": "integer", "minimum": 1}
    seed = {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
    return {
        "anyOf": [
            {**count, "maximum": MAX_SEEDS_BY_NUMBER, "description": "seeds 0 … n-1"},
            _object({"count": {**count, "maximum": MAX_VALUES}}, required=["count"]),
            {"type": "array", "items": seed, "minItems": 1, "uniqueItems": True},
        ]
    }


def _plot(kind: PlotKind) -> Schema:
    fields: Schema = {name: {"type": "string"} for name in (*kind.needs, *kind.takes)}
    if kind.metric:
        fields[kind.metric] = {"enum": list(DRAWN)}
    if RANGE in fields:
        fields[RANGE] = _range()
    if REACH in fields:
        fields[REACH] = _reach()
    fields["name"] = {"type": "string", "pattern": f"^{NAME.pattern}$"}
    return _object({"kind": {"const": kind.name}, **fields}, required=["kind", *kind.needs])


def _range() -> Schema:
    ends = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2, "description": "lowest and highest"}
    return {"anyOf": [{**NUMBER, "exclusiveMinimum": 0, "description": "0.1 means ±0.1"}, ends]}
