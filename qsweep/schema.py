"""The JSON Schema of a spec, made from the same parameters that check one: for editors, and for those who write tools."""

from __future__ import annotations

from typing import Any

from qsweep.axes import GENERATORS, USAGE
from qsweep.formats import FAMILIES, Float32
from qsweep.parameters import Parameter
from qsweep.spec import MAX_SEEDS_BY_NUMBER, MAX_TRIALS, METRICS, NAME, PLOT_FIELDS
from qsweep.trial import CHOICES, NAMED, PLAIN, ROLES, ROUNDING, SOURCE

Schema = dict[str, Any]


def spec_schema() -> Schema:
    """JSON Schema (2020-12) of a spec file. It can't say everything: `qsweep run -n` checks the rest."""
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
                "plots": {"type": "array", "items": {"oneOf": [_plot(kind) for kind in PLOT_FIELDS]}},
                "max_trials": {"type": "integer", "minimum": 1, "default": MAX_TRIALS},
            }
        ),
    }


def _object(properties: Schema, **more: Any) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def _block() -> Schema:
    parameters = _parameters()
    axes = {
        "type": "object",
        "properties": {name: _axis(schema) for name, schema in parameters.items() if name != "quantize"},
        "patternProperties": {r"\.": _axis({})},
        "additionalProperties": False,
    }
    trial = {
        "type": "object",
        "properties": parameters,
        "patternProperties": {r"\.": {}},
        "additionalProperties": False,
    }
    matchers = {"type": "array", "items": {**trial, "properties": {**parameters, "variant": {"type": "string"}}}}
    return {
        "trial": {**trial, "description": "what every trial starts from"},
        "grid": {**axes, "description": "axes to cross, the last one fastest"},
        "zip": {**axes, "description": "axes that move together"},
        "variants": {"type": "object", "additionalProperties": trial, "description": "named alternatives"},
        "exclude": {**matchers, "description": "points to leave out"},
        "only": {**matchers, "description": "points to keep"},
    }


def _parameters() -> Schema:
    roles = _object({role: _role() for role in ROLES}, description="the format of each role; others stay in float32")
    return {
        **{name: {"enum": list(values)} for name, values in NAMED.items()},
        **{name: _choice(name) for name in CHOICES},
        **{name: parameter.json_schema() for name, parameter in PLAIN.items()},
        "quantize": roles,
    }


def _choice(what: str) -> Schema:
    mappings = [
        _object({"name": {"const": name}, **{p.name: p.json_schema() for p in own}}, required=["name"])
        for name, own in CHOICES[what].items()
    ]
    names: list[Schema] = [{"enum": list(CHOICES[what])}]
    if what == "init":
        return {"anyOf": [*names, {"type": "string", "pattern": r"^normal\([0-9.eE+-]+\)$"}, *mappings]}
    source = {"type": "string", "pattern": f"^{SOURCE.pattern.replace('?P', '?')}$", "description": "file.py:function"}
    own_model = {"type": "object", "properties": {"name": source}, "required": ["name"]}
    return {"anyOf": [*names, source, *mappings, own_model]}


def _role() -> Schema:
    names = "|".join(f"{name}[0-9]*" if cls is not Float32 else name for name, cls in FAMILIES.items())
    short = {"type": "string", "pattern": f"^({names})$"}
    known: dict[str, Parameter] = {p.name: p for cls in FAMILIES.values() for p in cls.parameters}
    own = {name: p.json_schema() for name, p in known.items()}
    rounding = {"rounding": ROUNDING.json_schema()}
    return {"anyOf": [short, _object({"format": short, **own, **rounding}, required=["format"])]}


def _axis(value: Schema) -> Schema:
    generators = [
        _object({name: {"type": "array", "description": USAGE[name]}}, required=[name]) for name in GENERATORS
    ]
    return {"anyOf": [{"type": "array", "items": value, "minItems": 1}, *generators]}


def _seeds() -> Schema:
    count = {"type": "integer", "minimum": 1}
    return {
        "anyOf": [
            {**count, "maximum": MAX_SEEDS_BY_NUMBER, "description": "seeds 0 … n-1"},
            _object({"count": count}, required=["count"]),
            {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
        ]
    }


def _plot(kind: str) -> Schema:
    needs, takes = PLOT_FIELDS[kind]
    fields: Schema = {name: {"type": "string"} for name in (*needs, *takes)}
    fields["z" if "z" in needs else "y"] = {"enum": list(METRICS)}
    return _object({"kind": {"const": kind}, **fields}, required=["kind", *needs])
