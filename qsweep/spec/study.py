"""Studies: a YAML file in sweeps/ per published document, with the grids that reproduce it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsweep.errors import unknown
from qsweep.spec.find import packaged
from qsweep.spec.reader import Mistakes, read_file

KEYS = ("title", "document", "configs")


@dataclass(frozen=True)
class Study:
    """A published document and the specs that reproduce its experiments."""

    title: str
    document: str
    configs: tuple[Path, ...]


def all_studies() -> list[Path]:
    """The files of all studies: in ./sweeps if there is such a folder, else the packaged ones."""
    here = Path("sweeps")
    return sorted((here if here.is_dir() else packaged("sweeps")).glob("*.yaml"))


def read_study(path: Path) -> Study:
    """Read a study file, whose configs are in `../configs`.

    Raises:
        SpecError: the file is wrong; it lists every mistake.
    """
    document = read_file(path, str(path))
    mistakes = Mistakes(document)
    given = document.value if isinstance(document.value, dict) else {}
    mistakes.unknown_keys(given, (), KEYS)
    for key in KEYS:
        if key not in given:
            mistakes.add((), f"'{key}' is missing")
    title, source = mistakes.text(given, "title", ""), mistakes.text(given, "document", "")
    configs = _configs(mistakes, given, path.parent.parent / "configs")
    mistakes.stop_if_any()
    return Study(title, source, configs)


def _configs(mistakes: Mistakes, given: dict[str, Any], folder: Path) -> tuple[Path, ...]:
    known = tuple(sorted(p.stem for p in folder.glob("*.yaml")))
    names = mistakes.sequence(given, "configs", (), "a list of names in configs/")
    if given.get("configs") == []:
        mistakes.add(("configs",), "found an empty list, expected names in configs/")
    for i, name in enumerate(names):
        if name not in known:
            mistakes.add(("configs", i), unknown("config", str(name), known))
    return tuple(folder / f"{name}.yaml" for name in names)
