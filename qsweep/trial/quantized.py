"""What a trial rounds, and what of it stays rounded, from its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qsweep.formats import make
from qsweep.trial.parameters import CODEBOOK, COMPRESS, LAYERS, RETRAIN, STAGES
from qsweep.trial.roles import AT, FLOAT32, KEPT, OPERANDS, ROLES, STORED


def exceptions(layers: Any) -> list[Mapping[str, Any]]:
    """The roles that some places have to themselves, from the settings' `layers`."""
    return [own for own in layers.values() if own != FLOAT32] if isinstance(layers, dict) else []


def rounds(roles: Mapping[str, Any], *names: str) -> bool:
    """Whether any of these roles has another format than float32."""
    return any(roles.get(name, {}).get("format", FLOAT32) != FLOAT32 for name in names)


def rounds_stored(roles: Mapping[str, Any]) -> bool:
    """Whether stored weights, biases or norms are rounded after a step."""
    return any(rounds(roles, role) and stays(roles[role]) for role in STORED)


def kept_formats(stages: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The parts of a model that are still compressed after a trial's stages, each with its format."""
    freed = [i for i, stage in enumerate(stages) if stage.get(RETRAIN, {}).get(CODEBOOK.name) == "free"]
    kept = stages[freed[-1] + 1 if freed else 0 :]
    return {part: own for stage in kept for part, own in stage.get(COMPRESS, {}).items()}


def compresses(settings: Mapping[str, Any]) -> bool:
    """Whether some stage of a trial compresses its model."""
    return any(COMPRESS in stage for stage in settings.get(STAGES, ()))


def is_counted(settings: Mapping[str, Any]) -> bool:
    """Whether training keeps parameters rounded, all of them in formats that have codes of a fixed length."""
    everywhere = [settings.get("quantize", {}), *exceptions(settings.get(LAYERS))]
    kept = [own[role] for own in everywhere for role in STORED if rounds(own, role) and stays(own[role])]
    return bool(kept) and all(make(own["format"], own).code is not None for own in kept)


def names_axis(own: Mapping[str, Any]) -> bool:
    """Whether a format names the axis of its channels or groups, by number."""
    return isinstance(own.get("axis"), int)


def with_axes(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The formats of a trial that name an axis."""
    parts = [stage.get(COMPRESS, {}) for stage in settings.get(STAGES, [])]
    everywhere = [settings.get("quantize", {}), *exceptions(settings.get(LAYERS)), *parts]
    return [own for roles in everywhere for own in roles.values() if names_axis(own)]


def quantized_roles(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What a trial rounds anywhere, in the order of the roles."""
    found = {role for role, _ in _rounded(settings)}
    return tuple([role for role in ROLES if role in found])


def kept_roles(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Of what a trial rounds, the roles whose rounded values stay: none that is rounded for products alone."""
    found = {role for role, own in _rounded(settings) if stays(own)}
    return tuple([role for role in KEPT if role in found])


def keeps_drifting(settings: Mapping[str, Any]) -> bool:
    """Whether values stay rounded from step to step in a format whose scale drifts."""
    kept = [own for role, own in _rounded(settings) if role in KEPT and stays(own)]
    return any(make(own["format"], own).drifts for own in kept)


def _rounded(settings: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each role that is not in float32, with its format: that of the whole net, then those of single places."""
    for roles in (settings.get("quantize", {}), *exceptions(settings.get(LAYERS))):
        yield from ((role, own) for role, own in roles.items() if rounds(roles, role))


def stays(own: Mapping[str, Any]) -> bool:
    """Whether a role's rounded values are what is stored, not operands of a product alone."""
    return own.get(AT.name) != OPERANDS
