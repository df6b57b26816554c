"""Where jobs run: executors of `concurrent.futures`, by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

BACKENDS = ("local", "serial")


@dataclass(frozen=True)
class Backend:
    """A way to run jobs.

    Attributes:
        workers: how many run at once.
        slots: how many stacks are submitted at most.
        open: a new executor; called again after one broke.
        kill: stop an executor at once, with what runs on it.
    """

    name: str
    workers: int
    slots: int
    open: Callable[[], Executor]
    kill: Callable[[Executor], None]


def backend(name: str, workers: int, initializer: Callable[[], None]) -> Backend:
    """The backend of a name; `initializer` runs once in each new worker process."""
    if name == "serial":
        return Backend(name, 1, 1, SerialExecutor, lambda executor: None)
    return Backend(name, workers, 2 * workers, lambda: _open_local(workers, initializer), _kill_local)


def default_workers() -> int:
    """One worker a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SerialExecutor(Executor):
    """Runs a job when it is submitted, in this process: the backend to debug with."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        return future


def _open_local(workers: int, initializer: Callable[[], None]) -> Executor:
    """loky's executor, which survives a killed worker and keeps the results of the others."""
    from joblib.externals.loky import get_reusable_executor

    executor: Executor = get_reusable_executor(max_workers=workers, timeout=300, initializer=initializer)
    return executor


def _kill_local(executor: Executor) -> None:
    executor.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]  # loky's own argument
