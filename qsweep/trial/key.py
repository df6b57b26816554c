"""A trial: one resolved set of parameters, and the key that names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qsweep.data.catalog import DATASETS
from qsweep.formats import FAMILIES
from qsweep.formats.scaled import MXINT8
from qsweep.models.catalog import ARCHITECTURES
from qsweep.trial.optimizers import OPTIMIZERS
from qsweep.trial.parameters import COMPRESS, LAYERS, OWN_DATA, PLAIN, RETRAIN, ROLE_PARTS, role_parameters
from qsweep.trial.roles import FLOAT32, OPERANDS
from qsweep.trial.settings import Settings, complete

STALLED = "stalled"
"""Part of trials that keep values under a scale that drifts: `stalled` once counted values, not codes."""
LOST = "lost"
"""Part of trials with roles whose values are not stored: `zero` once counted values that were 0 before rounding too."""
CODED_SIZES = "coded_sizes"
"""Part of trials that compress to a format with element codes: sizes once counted levels, not scales."""

NUMERICS = {
    "step": 1,
    "online": 1,
    "random": 1,
    "init": 1,
    **{optimizer.name: optimizer.numerics for optimizer in OPTIMIZERS.values()},
    **{name: cls.numerics for name, cls in FAMILIES.items() if name != FLOAT32},
    MXINT8: 1,
    STALLED: 1,
    LOST: 1,
    **{architecture.name: architecture.numerics for architecture in ARCHITECTURES.values()},
    # 2: functions are rounded, frozen parameters stay, modules keep their evaluation mode
    "source": 3,  # linear layers whose outputs do not only go into an activation function are rounded
    "torchvision": 3,  # likewise
    **{dataset.name: dataset.numerics for dataset in DATASETS.values()},
    OWN_DATA: 1,
    "histogram": 1,
    OPERANDS: 1,
    COMPRESS: 1,
    CODED_SIZES: 1,
    RETRAIN: 1,
}
"""Version of the arithmetic of each part. Raise one on purpose when a change alters that part's results: the keys of
all trials that use it change, so that outdated results in the store are not reused."""

STACKING = frozenset(p.name for p in (*PLAIN.values(), *ROLE_PARTS.values()) if p.stacks)
SWITCHES = ("momentum", "weight_decay")
"""Stacking parameters that turn off a part of the step at 0: in a stack all trials use that part, or none does."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One resolved set of parameters.

    Attributes:
        settings: what the trial uses, as plain JSON values, including seed and numerics: all that a worker needs.
        columns: what tables show, by the names in specs.
        key: SHA-256 of the canonical JSON of `settings`.
        bases: the trials that end before each of its stages, training first; none if it has no stages.
    """

    settings: dict[str, Any]
    columns: dict[str, Any] = field(compare=False)
    key: str
    bases: tuple[Trial, ...] = field(default=(), compare=False)

    @property
    def view(self) -> Settings:
        """A typed view of the settings."""
        return Settings(self.settings)

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    def with_seeds(self, seeds: Iterable[int]) -> Iterator[Trial]:
        """The same trial with other seeds; everything but seeds and keys is shared."""
        stages = [(one, *_around_seed(one.settings)) for one in (*self.bases, self)]
        for seed in seeds:
            found: list[Trial] = []
            for one, before, after in stages:
                settings = {**one.settings, "seed": seed}
                found.append(Trial(settings, one.columns, _digest(f"{before}{seed}{after}"), tuple(found)))
            yield found[-1]

    def role(self, role: str) -> Mapping[str, Any]:
        """Everything a role uses: its format and all parameters, wherever they are set."""
        absent = {} if role == "master" else {"format": FLOAT32}
        own: dict[str, Any] = self.settings.get("quantize", {}).get(role, absent)
        return complete(role_parameters(role, own["format"]), own) if own else own


def configurations(trials: Iterable[Trial]) -> list[Trial]:
    """One trial of each configuration: trials that differ only in seed and key share their `columns` (`with_seeds`)."""
    return list({id(trial.columns): trial for trial in trials}.values())


# --- the key ----------------------------------------------------------------------------------------------------------

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False).encode


def canonical(value: object) -> str:
    """The canonical JSON text of a value: sorted names, no spaces, shortest numbers, ASCII.

    Raises:
        ValueError: it contains NaN or Inf.
    """
    return _encode(value)


def key_of(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return _digest(canonical(settings))


def _around_seed(settings: Mapping[str, Any]) -> tuple[str, str]:
    """The canonical JSON of settings before and after the seed: most trials of a plan differ only in the seed."""
    names = sorted(settings)
    members = [f"{canonical(name)}:{canonical(settings[name])}" for name in names]
    at = names.index("seed")
    return "{" + ",".join([*members[:at], '"seed":']), ",".join(["", *members[at + 1 :]]) + "}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- stacks -----------------------------------------------------------------------------------------------------------


def stack_signature(settings: Mapping[str, Any]) -> str:
    """What trials of one stack must share: all of the settings but the parameters declared `stacks`."""
    shared = {name: value for name, value in settings.items() if name not in STACKING}
    shared["optimizer"] = _shared(settings["optimizer"])
    if "quantize" in settings:
        shared["quantize"] = {role: _shared(own) for role, own in settings["quantize"].items()}
    if isinstance(layers := settings.get(LAYERS), dict):
        own = {place: roles for place, roles in layers.items() if roles != FLOAT32}
        shared[LAYERS] = layers | {p: {role: _shared(o) for role, o in roles.items()} for p, roles in own.items()}
    return canonical(shared)


def _shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    used = {f"uses {name}": bool(settings[name]) for name in SWITCHES if name in settings}
    return used | {name: value for name, value in settings.items() if name not in STACKING}
