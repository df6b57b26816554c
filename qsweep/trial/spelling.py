"""Checked parameters as short text, as in specs and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qsweep.formats import spell
from qsweep.trial.key import canonical
from qsweep.trial.parameters import COMPRESS
from qsweep.trial.roles import FLOAT32


def describe_role(role: Mapping[str, Any]) -> str:
    """A checked role as short text: `range`, `range4`, `range4 scale=8.0`."""
    if role["format"] == FLOAT32:
        return FLOAT32
    return spell(role["format"], {name: value for name, value in role.items() if name != "format"})


def describe_stages(stages: Sequence[Mapping[str, Any]]) -> str:
    """Checked stages in one line: `compress weight=uniform8 > retrain epochs=2`."""
    return " > ".join(_described(kind, _stage_words(kind, own)) for stage in stages for kind, own in stage.items())


def _stage_words(kind: str, own: Mapping[str, Any]) -> Mapping[str, Any]:
    return {part: describe_role(given) for part, given in own.items()} if kind == COMPRESS else own


def describe_layers(given: Any) -> str:
    """Checked exceptions as in a spec: `float32_ends`, `{"linear1":{"error":"e5m2"}}`."""
    if isinstance(given, str):
        return given
    layers = {
        place: own if isinstance(own, str) else {role: describe_role(own_format) for role, own_format in own.items()}
        for place, own in given.items()
    }
    return canonical(layers)


def describe_choice(choice: Mapping[str, Any]) -> str:
    """A checked model or init as short text: `mlp`, `mlp hidden=[64,64]`."""
    return _described(choice["name"], {name: value for name, value in choice.items() if name != "name"})


def _described(name: str, parameters: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{k}={v if isinstance(v, str) else canonical(v)}" for k, v in parameters.items())])
