"""Where numbers come from: versions, and the state of the source. Never host, user or path."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import qsweep

PACKAGES = ("torch", "numpy")
"""Packages whose version can change a number."""


def provenance() -> dict[str, Any]:
    """Versions, and git commit and dirty flag of qsweep's own source and of the folder that the command was given in."""
    return {
        "qsweep": qsweep.__version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "source": _git(Path(qsweep.__file__).parent),
        "folder": _git(Path.cwd()),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    commit = _ask(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "dirty": bool(_ask(folder, "status", "--porcelain", "--untracked-files=no"))}


def _ask(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
