"""Studies: one YAML file in sweeps/ for each published document, with the grids that redo it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qsweep.errors import SpecError, unknown
from qsweep.parameters import show
from qsweep.reader import Document, read_file
from qsweep.sweep import packaged

KEYS = ("title", "document", "configs")


@dataclass(frozen=True)
class Study:
    """A published document and the specs that redo its experiments."""

    title: str
    document: str
    configs: tuple[Path, ...]


def all_studies() -> list[Path]:
    """Every study: those in ./sweeps if there is such a folder, else the packaged ones."""
    here = Path("sweeps")
    return sorted((here if here.is_dir() else packaged("sweeps")).glob("*.yaml"))


def read_study(path: Path) -> Study:
    """A study file, with its configs looked for beside it (`../configs`).

    Raises:
        SpecError: every mistake in it.
    """
    document = read_file(path, str(path))
    given = document.value if isinstance(document.value, dict) else {}
    problems = [document.problem((key,), unknown("key", key, KEYS)) for key in given if key not in KEYS]
    problems += [document.problem((), f"'{key}' is missing") for key in KEYS if key not in given]
    if problems:
        raise SpecError(problems)
    texts = [
        document.problem((k,), f"found {show(given[k])}, expected a text")
        for k in KEYS[:2]
        if not isinstance(given[k], str)
    ]
    if texts:
        raise SpecError(texts)
    return Study(given["title"], given["document"], _configs(document, path.parent.parent / "configs"))


def _configs(document: Document, folder: Path) -> tuple[Path, ...]:
    names = document.value["configs"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise SpecError([document.problem(("configs",), f"found {show(names)}, expected a list of names in configs/")])
    known = tuple(sorted(p.stem for p in folder.glob("*.yaml")))
    wrong = [
        document.problem(("configs", i), unknown("config", name, known))
        for i, name in enumerate(names)
        if name not in known
    ]
    if wrong:
        raise SpecError(wrong)
    return tuple(folder / f"{name}.yaml" for name in names)
