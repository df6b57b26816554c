"""Finds spec and study files by name, in the current folder or among the packaged ones."""

from __future__ import annotations

from pathlib import Path

import qsweep
from qsweep.errors import UserError, did_you_mean


def packaged(kind: str) -> Path:
    """The folder of the packaged `configs` or `sweeps`: inside the wheel, or beside the source."""
    inside = Path(qsweep.__file__).parent / kind
    return inside if inside.is_dir() else Path(qsweep.__file__).parent.parent / kind


SUFFIXES = (".yaml", ".yml")


def find(name: str, kind: str = "configs") -> Path:
    """The file with a path, or with a name in ./configs, in the current folder, or among the packaged ones.

    Raises:
        UserError: there is no such file.
    """
    path = Path(name)
    if path.suffix in SUFFIXES or "/" in name:
        if _is_there(path):
            return path
        what = "is a folder, not a spec" if _is_folder(path) else "does not exist"
        raise UserError(f"{name} {what}{_meant(path) or _near(path.stem, kind, path.parent)}")
    for place in (Path(kind), Path(), packaged(kind)):
        for found in [place / f"{name}{suffix}" for suffix in SUFFIXES]:
            if _is_there(found):
                return found
    near = _meant(path) or _meant(Path("results", name)) or _near(name, kind, Path())
    raise UserError(f"no '{name}' in ./{kind}, in this folder, or among the packaged {kind}{near}")


def _meant(path: Path) -> str:
    """The hint for a path without its last part: `ex/spec.yaml` for the folder `ex`, `ex.yaml` for `./ex`."""
    beside = [path.with_name(f"{name}{suffix}") for name in (path.name, path.stem) for suffix in SUFFIXES if name]
    inside = [place for suffix in SUFFIXES for place in sorted(path.glob(f"*{suffix}"))] if _is_folder(path) else []
    found = dict.fromkeys(map(str, [*filter(_is_there, beside), *inside]))
    return f"; did you mean {' or '.join(f'`{each}`' for each in [*found][:MOST_MEANT])}?" if found else ""


MOST_MEANT = 3
"""How many files a message suggests."""


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _near(name: str, kind: str, beside: Path) -> str:
    """The hint with the nearest name, including files in the folder `beside`, or with the names that need no path."""
    known = sorted({p.stem for place in (Path(kind), packaged(kind)) for p in place.glob("*.yaml")})
    here = sorted({p.stem for suffix in SUFFIXES for p in beside.glob(f"*{suffix}")})
    near = did_you_mean(name, [*known, *here])
    return near or f" (there are: {', '.join(known)})"
