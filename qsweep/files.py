"""Writing files so that a reader sees the old content or the new, never a part, whatever kills the writer."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from qsweep.errors import UserError


def write(path: Path, content: str | bytes) -> None:
    """Put content into a file: temporary name beside it, fsync, rename. The folder is made if it is not there.

    Raises:
        UserError: the folder can't be written, or the disk is full; what was there before is untouched.
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
    """Take a file away, if it is there.

    Raises:
        UserError: the folder can't be written.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"can't remove {path}: {error.strerror or error}") from None


def is_regular(path: Path) -> bool:
    """Whether there is an ordinary file: to open a FIFO or a device may wait for ever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # no system has a name with a NUL in it
        return False


def is_special(path: Path) -> bool:
    """Whether there is a FIFO, a device or a socket, which may never come to its end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_small(path: Path, most: int = 4096) -> str:
    """The text of an ordinary file; nothing where there is none, or more than so many bytes."""
    try:
        if not is_regular(path) or path.stat().st_size > most:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def clean(folder: Path) -> None:
    """Remove temporary files that writers left which were killed; only while nobody else writes there."""
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
