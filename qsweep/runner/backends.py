"""Where jobs run: executors of `concurrent.futures`, by name."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsweep.errors import UserError, unknown
from qsweep.trial.environment import ALIGNMENT_FREE, MKL_MODE

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

BACKENDS = ("local", "serial")

IDLE_SECONDS = 300
"""A worker without work leaves after so long."""

ORPHAN_SECONDS = 0.5
"""How often a worker looks whether its driver still lives."""

HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Lets memory come in pages of 2 MB: activations of convolutions are larger than what 4 KB pages keep at hand, and a
step of LeNet takes a fifth less. What has another malloc takes no notice."""

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""What a container may use of its machine's cores: `200000 100000` means two."""


@dataclass(frozen=True)
class Backend:
    """A way to run jobs.

    Attributes:
        workers: how many run at once.
        slots: how many stacks are submitted at most.
        in_process: whether a job runs in this process, inside `submit`.
        open: a new executor; called again after one broke.
        kill: stop an executor at once, with what runs on it. All its futures are settled afterwards.
    """

    name: str
    workers: int
    slots: int
    in_process: bool
    open: Callable[[], Executor]
    kill: Callable[[Executor], None]


def backend(name: str, workers: int) -> Backend:
    """The backend of a name.

    Raises:
        UserError: there is none of this name.
    """
    if name == "serial":
        return Backend(name, 1, 1, True, SerialExecutor, lambda executor: None)
    if name == "local":
        return Backend(name, workers, 2 * workers, False, lambda: _open_local(workers), _kill_local)
    raise UserError(unknown("backend", name, BACKENDS))


def default_workers() -> int:
    """One worker a core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _cpu_quota() or cores)


def _cpu_quota() -> int | None:
    """Whole cores that a container is given; None without such a limit. (loky's cpu_count takes 0.3 s to import.)"""
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        return None


class SerialExecutor(Executor):
    """Runs a job when it is submitted, in this process: the backend to debug with."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except (Exception, SystemExit) as error:  # a user's model may call sys.exit: not the driver's end
            future.set_exception(error)
        return future


def _open_local(workers: int) -> Executor:
    """loky's executor, which survives a killed worker. It is kept for the next sweep: a worker takes long to start."""
    from multiprocessing import resource_tracker

    from joblib.externals.loky import get_reusable_executor

    # Ctrl-C reaches workers too, and the driver decides what is kept. A process starts with its maker's mask, so that
    # no moment is left in which a worker that still imports could be interrupted. (The tracker, where it has to start,
    # lets interrupts in again.)
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        executor: Executor = get_reusable_executor(
            max_workers=workers,
            timeout=IDLE_SECONDS,
            initializer=_begin_worker,
            initargs=(os.getpid(),),
            env=worker_environment(),
        )
        executor.submit(int)  # loky starts all workers with the first job
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return executor


def worker_environment() -> dict[str, str]:
    """What a worker's environment has beyond this process's."""
    own = os.environ.get("GLIBC_TUNABLES", "")
    return {
        "GLIBC_TUNABLES": own if HUGE_PAGES in own else f"{own}:{HUGE_PAGES}".lstrip(":"),
        MKL_MODE: os.environ.get(MKL_MODE, ALIGNMENT_FREE),
    }


def _begin_worker(driver: int) -> None:
    from joblib.externals.loky import process_executor

    # Where psutil is installed, loky ends a worker that has 300 MB more than after its first job, as if memory leaked.
    process_executor._MAX_MEMORY_LEAK_SIZE = math.inf
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


def _end_with(driver: int) -> None:
    """End this process when its driver has died: else it would finish its stacks for nobody, and then wait for more."""
    while os.getppid() == driver:
        time.sleep(ORPHAN_SECONDS)
    os._exit(1)


def _kill_local(executor: Executor) -> None:
    """loky's own `kill_workers` stumbles over a job that was submitted a moment ago, and leaves a traceback."""
    for pid, process in _workers(executor).items():
        if process.is_alive():
            with suppress(ProcessLookupError):  # it has ended since, by itself or by a signal to the whole group
                os.kill(pid, signal.SIGKILL)
    executor.shutdown(wait=True)


def _workers(executor: Any) -> dict[int, BaseProcess]:
    """The processes of loky's executor by pid. They have no public name: a test pins this one."""
    return dict(executor._processes)
