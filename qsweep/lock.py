"""One driver at a time in a results folder, by a lock of the operating system: it ends with its process, never stale."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from qsweep.errors import UserError

WAIT_SECONDS = 0.5


@contextmanager
def hold(folder: Path, what: str, say: Callable[[str], None], *, wait: bool) -> Iterator[None]:
    """Hold the lock of a results folder, after waiting for who holds it (or leaving at once with `wait=False`).

    Raises:
        UserError: the folder can't be written, or another driver runs there and `wait` is false.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115  # held until the end
    except OSError as error:
        raise UserError(
            f"can't write the results folder {folder}: {error.strerror}; choose another with --results"
        ) from None
    with stream:
        _acquire(stream, folder, say, wait)
        stream.truncate(0)
        stream.write(json.dumps({"pid": os.getpid(), "runs": what}))
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def holder(folder: Path) -> str | None:
    """Who drives a results folder now, in words; None if nobody does."""
    try:
        with open(folder / ".lock", "r+", encoding="utf-8") as stream:
            return None if _try(stream, fcntl.LOCK_SH) else _who(stream)
    except OSError:
        return None


def _acquire(stream: IO[str], folder: Path, say: Callable[[str], None], wait: bool) -> None:
    if _try(stream, fcntl.LOCK_EX):
        return
    who = _who(stream)
    if not wait:
        raise UserError(f"{who} runs in {folder}: wait for it, or choose another folder with --results")
    say(f"{who} runs in {folder}: waiting for it to end (--no-wait leaves instead)")
    while not _try(stream, fcntl.LOCK_EX):
        time.sleep(WAIT_SECONDS)


def _try(stream: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _who(stream: IO[str]) -> str:
    try:
        stream.seek(0)
        content = json.loads(stream.read())
        return f"`qsweep run {content['runs']}` (process {content['pid']})"
    except (ValueError, KeyError, TypeError):
        return "another qsweep"
