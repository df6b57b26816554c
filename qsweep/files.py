"""Atomic file writes: a reader sees the old content or the new, never a part, even if the writer is killed."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from qsweep.errors import ArgumentError, UserError


def as_path(argument: str, value: str | os.PathLike[str]) -> Path:
    """The path that an argument of a Python function is.

    Raises:
        ArgumentError: it is of another type.
    """
    if not isinstance(value, str | os.PathLike):
        raise ArgumentError(f"{argument}: found {value!r}, expected a path: a str or a pathlib.Path")
    return Path(value)


def write(path: Path, content: str | bytes) -> None:
    """Write a file: to a temporary name beside it, then fsync and rename. A missing folder is created.

    Raises:
        UserError: the folder can't be written, or the disk is full; the old content is unchanged.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    except OSError as error:
        raise UserError(
            f"can't write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from None


def remove(path: Path) -> None:
    """Remove a file, if it exists.

    Raises:
        UserError: the folder can't be written.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"can't remove {path}: {error.strerror or error}") from None


def is_regular(path: Path) -> bool:
    """Whether there is a regular file. Opening a FIFO or a device may block forever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False


def is_special(path: Path) -> bool:
    """Whether there is a FIFO, a device or a socket, which may never end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_small(path: Path, most: int = 4096) -> str:
    """The text of a regular file; "" if there is none, or if it has more than `most` bytes."""
    try:
        if not is_regular(path) or path.stat().st_size > most:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def clean(folder: Path) -> None:
    """Remove temporary files left behind by killed writers. Call it only while no other process writes there."""
    for path in folder.glob(".*") if folder.is_dir() else ():
        if TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as stream:  # a new file's permissions are the umask's; mkstemp's would be 0600
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
