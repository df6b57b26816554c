"""Writing files so that a reader sees the old content or the new, never a part, whatever kills the writer."""

from __future__ import annotations

import contextlib
import os
import secrets
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


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
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
