"""Backends that run jobs: executors of `concurrent.futures`, by name."""

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
"""How long a worker without work stays alive."""

ORPHAN_SECONDS = 0.5
"""How often a worker checks whether its driver is still alive."""

HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Uses memory pages of 2 MB: activations of convolutions exceed what the TLB covers with 4 KB pages, and a step of
LeNet takes a fifth less time. Other mallocs ignore it."""

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""The CPU limit of a container: `200000 100000` means two cores."""


@dataclass(frozen=True)
class Backend:
    """A way to run jobs.

    Attributes:
        workers: number of jobs that run at once.
        slots: maximum number of submitted stacks.
        in_process: whether a job runs in this process, inside `submit`.
        open: creates an executor; called again after one has broken.
        kill: stops an executor at once with its running jobs. All its futures are done afterwards.
    """

    name: str
    workers: int
    slots: int
    in_process: bool
    open: Callable[[], Executor]
    kill: Callable[[Executor], None]


def backend(name: str, workers: int) -> Backend:
    """The backend with this name.

    Raises:
        UserError: there is none.
    """
    if name == "serial":
        return Backend(name, 1, 1, True, SerialExecutor, lambda executor: None)
    if name == "local":
        return Backend(name, workers, 2 * workers, False, lambda: _open_local(workers), _kill_local)
    raise UserError(unknown("backend", name, BACKENDS))


def default_workers() -> int:
    """One worker per core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _cpu_quota() or cores)


def _cpu_quota() -> int | None:
    """The CPU limit of a container in whole cores; None without a limit. (Importing loky's cpu_count takes 0.3 s.)"""
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        return None


class SerialExecutor(Executor):
    """Runs a job in this process when it is submitted; for debugging."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except (Exception, SystemExit) as error:  # a user's model may call sys.exit, which must not end the driver
            future.set_exception(error)
        return future


def _open_local(workers: int) -> Executor:
    """loky's executor, which survives a killed worker. The next sweep reuses it, since workers start slowly."""
    from multiprocessing import resource_tracker

    from joblib.externals.loky import get_reusable_executor

    # Ctrl-C reaches workers too, but the driver decides what is kept. A process inherits its parent's signal mask, so
    # a worker can't be interrupted even while it is importing. (The tracker, if it has to start, unblocks SIGINT.)
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
    """The environment variables of a worker in addition to those of this process."""
    own = os.environ.get("GLIBC_TUNABLES", "")
    return {
        "GLIBC_TUNABLES": own if HUGE_PAGES in own else f"{own}:{HUGE_PAGES}".lstrip(":"),
        MKL_MODE: os.environ.get(MKL_MODE, ALIGNMENT_FREE),
    }


def _begin_worker(driver: int) -> None:
    from joblib.externals.loky import process_executor

    # If psutil is installed, loky ends a worker that uses 300 MB more than after its first job, as if it leaked memory.
    process_executor._MAX_MEMORY_LEAK_SIZE = math.inf
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


def _end_with(driver: int) -> None:
    """End this process if its driver has died: else it would finish its stacks in vain, and then wait for more."""
    while os.getppid() == driver:
        time.sleep(ORPHAN_SECONDS)
    os._exit(1)


def _kill_local(executor: Executor) -> None:
    """Kill the workers here, since loky's `kill_workers` leaves a traceback if a job has just been submitted."""
    for pid, process in _workers(executor).items():
        if process.is_alive():
            with suppress(ProcessLookupError):  # it has just ended, by itself or by a signal to the process group
                os.kill(pid, signal.SIGKILL)
    executor.shutdown(wait=True)


def _workers(executor: Any) -> dict[int, BaseProcess]:
    """The processes of loky's executor by pid. There is no public API for them: a test pins this name."""
    return dict(executor._processes)
