"""The process in which nets are built and trained: threads, seeds, time, memory, and what is imported beforehand."""

from __future__ import annotations

import ctypes
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType

from qsweep.training.apart import OutOfTimeError
from qsweep.trial.environment import fix_products
from qsweep.trial.settings import Settings

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2  # malloc.h
KEPT_BYTES = 256 * 1024 * 1024


def prepare() -> None:
    """Import what inspecting nets needs, in a process that is forked for each of them: it must not start threads."""
    fix_products()
    import qsweep.training.places
    import qsweep.training.stages  # noqa: F401


def prepare_training() -> None:
    """As `prepare`, for training."""
    prepare()
    from qsweep.kernels.streams import Stream

    Stream(0).uniform((1,), "", "", 0)  # numba needs more than a second for the first kernel of a process


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread, as two would sum in another order; restores the caller's setting afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise OutOfTimeError in this thread when the time is over."""
    if seconds is None:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTimeError(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all common generators, as a user's net may draw its own initial values; restores them afterwards."""
    import numpy as np
    import torch

    python, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpys)


def check_imports(settings: Settings) -> None:
    """Refuse a user's net that has run code that is not part of its key."""
    if settings.source:
        from qsweep.models.loading import check

        check()


@cache
def keep_memory() -> None:
    """Keep freed memory for the next step: glibc gives large blocks back at once, and faults on every page again.

    That costs more than the arithmetic of an update: 6 instead of 2.6 ns per weight.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(MMAP_THRESHOLD, 32 * 1024 * 1024)
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(TOP_PAD, 16 * 1024 * 1024)
