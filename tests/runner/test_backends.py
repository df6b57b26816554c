"""The contract of all backends, and properties of processes."""

from __future__ import annotations

import inspect
import math
import os
import re
import signal
import time
from concurrent.futures import BrokenExecutor, Executor
from importlib.metadata import version
from multiprocessing import resource_tracker
from pathlib import Path

import fake_job
import pytest
from joblib.externals.loky import process_executor

from qsweep.errors import UserError
from qsweep.runner import backends
from qsweep.runner.backends import BACKENDS, HUGE_PAGES, Backend, backend, worker_environment

pytestmark = pytest.mark.slow


@pytest.fixture(params=BACKENDS)
def opened(request: pytest.FixtureRequest) -> tuple[Backend, Executor]:
    chosen = backend(request.param, 2)
    return chosen, chosen.open()


def test_submit_returns_the_result_of_the_job(opened: tuple[Backend, Executor]) -> None:
    _, executor = opened
    assert [executor.submit(fake_job.double, n).result(30) for n in range(5)] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("error", [ValueError, MemoryError, SystemExit])
def test_submit_returns_the_exception_of_the_job_and_the_executor_continues(
    opened: tuple[Backend, Executor], error: type[BaseException]
) -> None:
    _, executor = opened
    assert type(executor.submit(fake_job.fail, error).exception(30)) is error
    assert executor.submit(fake_job.double, 1).result(30) == 2


def test_kill_completes_every_future_and_open_works_again(opened: tuple[Backend, Executor]) -> None:
    chosen, executor = opened
    futures = [executor.submit(time.sleep, 0.02) for _ in range(20)]
    chosen.kill(executor)
    assert all(future.done() for future in futures)
    assert chosen.open().submit(fake_job.double, 1).result(30) == 2


@pytest.mark.parametrize("name", BACKENDS)
def test_backend_declares_where_its_jobs_run(name: str) -> None:
    chosen = backend(name, 2)
    assert chosen.in_process == (chosen.open().submit(os.getpid).result(30) == os.getpid())


def test_backend_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'local'"):
        backend("locale", 2)


def test_serial_propagates_an_interrupt_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        backend("serial", 1).open().submit(fake_job.fail, KeyboardInterrupt)


# --- processes --------------------------------------------------------------------------------------------------------


def test_loky_still_has_the_private_names_that_are_used() -> None:
    chosen = backend("local", 2)
    executor = chosen.open()
    used = set(re.findall(r"executor\.(_\w+)", Path(backends.__file__).read_text(encoding="utf-8")))
    look = (
        f"joblib {version('joblib')} may have changed loky's executor ({inspect.getsourcefile(type(executor))}): see "
        "which attribute holds the processes by pid, that submit starts all of them, that shutdown(wait=True) "
        "settles all futures of killed ones, and which limit ends a worker that grew; then change backends._workers, "
        "_open_local, _kill_local or _begin_worker"
    )
    assert used == {"_processes", "_MAX_MEMORY_LEAK_SIZE"}
    processes = dict(getattr(executor, "_processes", {}))
    assert len(processes) == 2, look
    assert all(process.is_alive() and process.pid == pid for pid, process in processes.items()), look
    assert "wait" in inspect.signature(executor.shutdown).parameters, look
    assert "< _MAX_MEMORY_LEAK_SIZE:" in inspect.getsource(process_executor), look
    assert executor.submit(fake_job.most_memory).result(30) == math.inf, look
    future = executor.submit(time.sleep, 100)
    chosen.kill(executor)
    assert future.done(), look
    assert not any(process.is_alive() for process in processes.values()), look


def test_local_workers_ignore_interrupts_from_the_start() -> None:
    chosen = backend("local", 2)
    chosen.kill(chosen.open())
    resource_tracker._resource_tracker._stop()  # as in a process that has started nothing yet
    executor = chosen.open()
    future = executor.submit(os.getpid)
    while not future.done():
        for pid in backends._workers(executor):
            os.kill(pid, signal.SIGINT)
        time.sleep(0.01)
    assert future.result() in backends._workers(executor)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())  # the driver is interrupted as before


def test_local_workers_add_huge_pages_to_the_tunables_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert worker_environment()["GLIBC_TUNABLES"] == HUGE_PAGES
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    both = f"glibc.malloc.arena_max=1:{HUGE_PAGES}"
    assert worker_environment()["GLIBC_TUNABLES"] == both
    monkeypatch.setenv("GLIBC_TUNABLES", both)
    assert worker_environment()["GLIBC_TUNABLES"] == both


def test_local_workers_have_their_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=8")
    own = backend("local", 1)
    executor = own.open()
    assert executor.submit(os.getenv, "GLIBC_TUNABLES").result() == f"glibc.malloc.arena_max=8:{HUGE_PAGES}"
    own.kill(executor)


def test_local_workers_are_reused_by_the_next_sweep() -> None:
    first = backend("local", 1).open().submit(os.getpid).result(30)
    assert backend("local", 1).open().submit(os.getpid).result(30) == first


def test_local_killed_worker_breaks_the_executor_with_the_signal_and_ends_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")  # slim containers have no pgrep
    chosen = backend("local", 2)
    executor = chosen.open()
    others = backends._workers(executor)
    error = executor.submit(fake_job.kill_yourself).exception(30)
    assert isinstance(error, BrokenExecutor)
    assert "SIGKILL" in str(error)
    chosen.kill(executor)
    assert not any(process.is_alive() for process in others.values())
    assert chosen.open().submit(fake_job.double, 1).result(30) == 2


# --- how many ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "workers"), [("100000 100000", 1), ("150000 100000", 2), ("max 100000", 64), ("", 64)]
)
def test_default_workers_respects_the_cpu_limit_of_a_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, workers: int
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(backends, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    assert backends.default_workers() == workers


def test_default_workers_counts_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "CPU_QUOTA", Path("/nonexistent"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7})
    assert backends.default_workers() == 3
