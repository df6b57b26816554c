"""Where numbers come from: versions, and the state of the source. Never host, user or path.

A repository's own configuration is never read: its filters and monitors can run programs, and the repository may have
come with a mailed folder. The commit is read from its files; whether files have changed is determined by running git
on the same objects and index with an empty configuration.
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
"""Packages whose version can change results."""
COMMIT = re.compile(r"[0-9a-f]{40}")
REFERENCE = re.compile(r"ref: (refs/[\w./+@-]+)")
MAX_BYTES = 64 * 1024 * 1024
"""Size limit of a repository's file that is read."""


def provenance() -> dict[str, Any]:
    """Versions, and the git commit and dirty flag of qsweep's source and of the current folder."""
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
    """The state of the repository that tracks a file; None if the file is in a repository but not tracked by it."""
    repository = _repository(file.parent)
    if repository is None or not _git(repository, "ls-files", "--", str(file.relative_to(repository.top))):
        return None
    return _state(file.parent)


def _state(folder: Path | None) -> dict[str, Any] | None:
    """Commit and dirty flag of the repository that contains a folder; None if there is none."""
    repository = None if folder is None else _repository(folder)
    commit = None if repository is None else repository.commit()
    if repository is None or commit is None:
        return None
    changed = _git(repository, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


# --- a repository -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Repository:
    """The folders of a git work tree: its files, its own git state, and the state that all work trees share."""

    top: Path
    own: Path
    shared: Path

    def commit(self) -> str | None:
        """The commit that HEAD names; None before the first commit, or if references are stored in another way."""
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
    """The git folder of a work tree: `.git`, or the folder that a file of this name points to."""
    place = top / ".git"
    if place.is_dir():
        return place
    pointer = files.read_small(place).strip()
    return top / pointer.removeprefix("gitdir: ") if pointer.startswith("gitdir: ") else None


# --- running git ------------------------------------------------------------------------------------------------------


def _git(repository: _Repository, *words: str) -> str | None:
    """The output of git for a repository, without its configuration; None if git fails."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            _mirror(repository, Path(folder))
            command = ["git", "--no-optional-locks", f"--git-dir={folder}", f"--work-tree={repository.top}", *words]
            done = subprocess.run(
                command, cwd=repository.top, env=dict(_environment()), capture_output=True, text=True,
                errors="replace", timeout=10, check=False,
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _mirror(repository: _Repository, folder: Path) -> None:
    """Make a repository with the same objects and index in another folder."""
    (folder / "objects" / "info").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "objects" / "info" / "alternates").write_text(f"{repository.shared / 'objects'}\n", encoding="utf-8")
    (folder / "HEAD").write_text(f"{repository.commit()}\n", encoding="utf-8")
    (folder / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n", encoding="utf-8")
    index = repository.own / "index"
    if files.is_regular(index):
        # Keep its time: git rereads files as recent as the index, since a file can change twice in one second.
        shutil.copy2(index, folder / "index")


def _environment() -> Iterator[tuple[str, str]]:
    """The environment without git's variables, which a hook that runs qsweep sets, and without the user's filters."""
    yield from ((name, value) for name, value in os.environ.items() if not name.startswith("GIT_"))
    yield from (("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", os.devnull), ("GIT_ATTR_NOSYSTEM", "1"))
