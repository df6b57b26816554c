"""Spec and study files by name: in the folder that one works in, or among those that come with the package."""

from __future__ import annotations

from pathlib import Path

import qsweep
from qsweep.errors import UserError, did_you_mean


def packaged(kind: str) -> Path:
    """Where the package's own `configs` or `sweeps` lie: inside the wheel, or beside the source."""
    inside = Path(qsweep.__file__).parent / kind
    return inside if inside.is_dir() else Path(qsweep.__file__).parent.parent / kind


SUFFIXES = (".yaml", ".yml")


def find(name: str, kind: str = "configs") -> Path:
    """The file that a name means: a path, or a bare name in ./configs, here, or among the packaged ones.

    Raises:
        UserError: there is no such file.
    """
    path = Path(name)
    if path.suffix in SUFFIXES or "/" in name:
        if _is_there(path):
            return path
        what = "is a folder, not a spec" if _is_folder(path) else "is not there"
        raise UserError(f"{name} {what}{_meant(path) or _near(path.stem, kind, path.parent)}")
    for place in (Path(kind), Path(), packaged(kind)):
        for found in [place / f"{name}{suffix}" for suffix in SUFFIXES]:
            if _is_there(found):
                return found
    near = _meant(path) or _meant(Path("results", name)) or _near(name, kind, Path())
    raise UserError(f"no '{name}' in ./{kind}, here, or among the packaged ones{near}")


def _meant(path: Path) -> str:
    """The files that a path means which lacks its end: `ex/spec.yaml` of the folder `ex`, `ex.yaml` of `./ex`."""
    beside = [path.with_name(f"{name}{suffix}") for name in (path.name, path.stem) for suffix in SUFFIXES if name]
    inside = [place for suffix in SUFFIXES for place in sorted(path.glob(f"*{suffix}"))] if _is_folder(path) else []
    found = dict.fromkeys(map(str, [*filter(_is_there, beside), *inside]))
    return f"; did you mean {' or '.join(f'`{each}`' for each in [*found][:MOST_MEANT])}?" if found else ""


MOST_MEANT = 3
"""Files that a message offers."""


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no system has so long a name
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _near(name: str, kind: str, beside: Path) -> str:
    """The nearest name, of a file beside the one that is meant too, and the names that need no path."""
    known = sorted({p.stem for place in (Path(kind), packaged(kind)) for p in place.glob("*.yaml")})
    here = sorted({p.stem for suffix in SUFFIXES for p in beside.glob(f"*{suffix}")})
    near = did_you_mean(name, [*known, *here])
    return near or f" (there are: {', '.join(known)})"
