"""Where numbers come from: versions, and the state of the source. Never host, user or path.

A repository's own configuration is never read: with its filters and monitors it may name programs, and a folder that
somebody mailed may bring one along. The commit is read from its files, and whether files have changed is asked of a git
that is given the same objects and index under an empty configuration.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import qsweep
from qsweep import files

PACKAGES = ("torch", "numpy")
"""Packages whose version can change a number."""
COMMIT = re.compile(r"[0-9a-f]{40}")
REFERENCE = re.compile(r"ref: (refs/[\w./+@-]+)")
MAX_BYTES = 64 * 1024 * 1024
"""Of a file of a repository that is read whole."""


def provenance() -> dict[str, Any]:
    """Versions, and git commit and dirty flag of qsweep's own source and of the current folder."""
    return {
        "qsweep": qsweep.__version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "source": _source(Path(qsweep.__file__)),
        "folder": _state(_current_folder()),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _current_folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it has been deleted
        return None


def _source(file: Path) -> dict[str, Any] | None:
    """The state of the repository that a file belongs to: not of one that its environment merely lies in."""
    repository = _repository(file.parent)
    if repository is None or not _ask(repository, "ls-files", "--", str(file.relative_to(repository.top))):
        return None
    return _state(file.parent)


def _state(folder: Path | None) -> dict[str, Any] | None:
    """Commit and dirty flag of the repository that a folder lies in; None where there is none."""
    repository = None if folder is None else _repository(folder)
    commit = None if repository is None else repository.commit()
    if repository is None or commit is None:
        return None
    changed = _ask(repository, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


# --- a repository -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Repository:
    """The folders of a git repository: its files, its own state, and what all its work trees share."""

    top: Path
    own: Path
    shared: Path

    def commit(self) -> str | None:
        """What HEAD names; None before the first commit, and where references are kept in another way."""
        head = files.read_small(self.own / "HEAD").strip()
        if COMMIT.fullmatch(head):
            return head
        reference = REFERENCE.fullmatch(head)
        if reference is None or ".." in reference[1]:
            return None
        for place in (self.own, self.shared):
            found = files.read_small(place / reference[1]).strip()
            if COMMIT.fullmatch(found):
                return found
        packed = files.read_small(self.shared / "packed-refs", MAX_BYTES)
        lines = (line.split(" ") for line in packed.splitlines())
        return next((own[0] for own in lines if own[1:] == [reference[1]] and COMMIT.fullmatch(own[0])), None)


def _repository(folder: Path) -> _Repository | None:
    for top in (folder.absolute(), *folder.absolute().parents):
        own = _git_folder(top)
        if own is not None:
            shared = files.read_small(own / "commondir").strip()
            return _Repository(top, own, own / shared if shared else own)
    return None


def _git_folder(top: Path) -> Path | None:
    """Where a work tree's state is: `.git`, or the folder that a file of this name points to."""
    place = top / ".git"
    if place.is_dir():
        return place
    pointer = files.read_small(place).strip()
    return top / pointer.removeprefix("gitdir: ") if pointer.startswith("gitdir: ") else None


# --- asking git -------------------------------------------------------------------------------------------------------


def _ask(repository: _Repository, *words: str) -> str | None:
    """What git says of a repository, whose configuration it does not see; None where it can't tell."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            _lend(repository, Path(folder))
            command = ["git", "--no-optional-locks", f"--git-dir={folder}", f"--work-tree={repository.top}", *words]
            done = subprocess.run(
                command, cwd=repository.top, env=dict(_environment()), capture_output=True, text=True,
                errors="replace", timeout=10, check=False,
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _lend(repository: _Repository, folder: Path) -> None:
    """A repository's objects and index, as a repository in another folder."""
    (folder / "objects" / "info").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "objects" / "info" / "alternates").write_text(f"{repository.shared / 'objects'}\n", encoding="utf-8")
    (folder / "HEAD").write_text(f"{repository.commit()}\n", encoding="utf-8")
    (folder / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n", encoding="utf-8")
    index = repository.own / "index"
    if files.is_regular(index):
        # With its time: git reads again what is as young as the index, since a file can change twice in one second.
        shutil.copy2(index, folder / "index")


def _environment() -> Iterator[tuple[str, str]]:
    """Without variables of a hook's that runs us, and without the user's own filters."""
    yield from ((name, value) for name, value in os.environ.items() if not name.startswith("GIT_"))
    yield from (("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", os.devnull), ("GIT_ATTR_NOSYSTEM", "1"))
