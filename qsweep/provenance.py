"""Where numbers come from: versions, and the state of the source. Never host, user or path."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import qsweep

PACKAGES = ("torch", "numpy")
"""Packages whose version can change a number."""


def provenance() -> dict[str, Any]:
    """Versions, and git commit and dirty flag of qsweep's own source and of the current folder."""
    return {
        "qsweep": qsweep.__version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "source": _source(Path(qsweep.__file__)),
        "folder": _git(Path.cwd()),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _source(file: Path) -> dict[str, Any] | None:
    """The state of the repository that a file belongs to: not of one that its environment merely lies in."""
    return _git(file.parent) if _ask(file.parent, "ls-files", "--", file.name) else None


def _git(folder: Path) -> dict[str, Any] | None:
    commit = _ask(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "dirty": bool(_ask(folder, "status", "--porcelain", "--untracked-files=no"))}


def _ask(folder: Path, *words: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    elsewhere = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # a hook's, say
    try:
        done = subprocess.run(command, env=elsewhere, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
