"""Allows one driver at a time in a results folder, by a lock of the operating system, which ends with its process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qsweep.errors import UserError

WAIT_SECONDS = 0.5
LOOKS = 5
LOOK_SECONDS = 0.02
"""`qsweep status` holds the lock for an instant to see whether it is free, so try several times before waiting."""


@contextmanager
def hold(folder: Path, what: str, say: Callable[[str], None], *, wait: bool) -> Iterator[None]:
    """Hold the lock of a results folder, after waiting for its holder (or raise at once with `wait=False`).

    Args:
        what: the command, such as `run lr_bitwidth`, which is shown to waiting processes.

    Raises:
        UserError: the folder can't be written or locked, or another driver runs there and `wait` is false.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UserError(
            f"can't write the results folder {folder}: {error.strerror}; choose another with --results"
        ) from None
    try:
        _acquire(file, folder, say, wait)
        _sign(file, json.dumps({"pid": os.getpid(), "command": what}))
        yield
    finally:
        os.close(file)


def _open(path: Path, flags: int) -> int:
    """A descriptor that child processes do not inherit. Links are refused: another file would be overwritten.

    Raises:
        UserError: it is a symbolic link, or not a file.
        OSError: it can't be opened.
    """
    try:
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _not_a_file(path) from None
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _not_a_file(path)
    return file


def _not_a_file(path: Path) -> UserError:
    return UserError(f"{path} is a symbolic link, or not a file: remove it, and run again")


def holder(folder: Path) -> str | None:
    """The command that is running in a results folder; None if there is none."""
    try:
        file = _open(folder / ".lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _try(file, fcntl.LOCK_SH) else _who(file)
    except OSError:
        return None
    finally:
        os.close(file)


def _acquire(file: int, folder: Path, say: Callable[[str], None], wait: bool) -> None:
    try:
        if _free_soon(file):
            return
        who = _who(file)
        if not wait:
            raise UserError(f"{who} is running in {folder}: wait for it, or choose another folder with --results")
        say(f"{who} is running in {folder}: waiting for it to end (--no-wait exits instead)")
        while not _try(file, fcntl.LOCK_EX):
            time.sleep(WAIT_SECONDS)
    except OSError as error:
        raise UserError(
            f"can't lock the results folder {folder}: {error.strerror}; choose another with --results"
        ) from None


def _free_soon(file: int) -> bool:
    for _ in range(LOOKS):
        if _try(file, fcntl.LOCK_EX):
            return True
        time.sleep(LOOK_SECONDS)
    return False


def _try(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(file: int, text: str) -> None:
    """Write the holder to the lock file. It is only shown to waiting processes, so a full disk must not stop a run."""
    with suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, text.encode(), 0)


def _who(file: int) -> str:
    try:
        content = json.loads(os.pread(file, 4096, 0))
        return f"`qsweep {content['command']}` (process {content['pid']})"
    except (ValueError, KeyError, TypeError):
        return "another qsweep"
