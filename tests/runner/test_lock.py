"""One driver at a time, and a lock that is always released."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fake_job
import pytest
from fake_driver import Driver

from qsweep.errors import UserError
from qsweep.runner import lock


def no_message(text: str) -> None:
    raise AssertionError(text)


def free(folder: Path) -> bool:
    try:
        with lock.hold(folder, "run test", no_message, wait=False):
            return True
    except UserError:
        return False


def test_second_driver_without_wait_exits_at_once_and_names_the_holder(tmp_path: Path) -> None:
    with lock.hold(tmp_path, "run lr_bitwidth", no_message, wait=False):
        expected = rf"`qsweep run lr_bitwidth` \(process {os.getpid()}\) is running in .*--results"
        with pytest.raises(UserError, match=expected), lock.hold(tmp_path, "run other", no_message, wait=False):
            raise AssertionError
        assert lock.holder(tmp_path) == f"`qsweep run lr_bitwidth` (process {os.getpid()})"  # as before
    assert lock.holder(tmp_path) is None


def test_second_driver_names_the_holder_and_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.01)
    output: list[str] = []
    got = threading.Event()

    def second() -> None:
        with lock.hold(tmp_path, "run second", output.append, wait=True):
            got.set()

    thread = threading.Thread(target=second)
    with lock.hold(tmp_path, "run first", no_message, wait=False):
        thread.start()
        while not output:
            time.sleep(0.01)
        assert not got.wait(0.1)
    assert got.wait(10)
    thread.join()
    assert "`qsweep run first`" in output[0]
    assert "waiting for it to end (--no-wait exits instead)" in output[0]


def test_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), lock.hold(tmp_path, "run first", no_message, wait=False):
        raise ValueError("broken")
    assert free(tmp_path)
    assert free(tmp_path)


HOLDER = """
import sys, time
from pathlib import Path
from qsweep.runner import lock
with lock.hold(Path(sys.argv[1]), "run killed", print, wait=False):
    print("held", flush=True)
    time.sleep(100)
"""


def test_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert not free(tmp_path)
    process.kill()
    process.communicate()
    assert lock.holder(tmp_path) is None
    assert free(tmp_path)


@pytest.fixture
def killed_driver(tmp_path: Path) -> Iterator[set[int]]:
    """Stopped workers whose driver was killed."""
    driver = Driver(tmp_path, [(n, "wait", {}) for n in range(2)], "local", stack=1)
    driver.wait_for("ran", 2)
    workers = {int(line.split()[1]) for line in (tmp_path / "ran").read_text().splitlines()}
    assert not free(tmp_path)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    driver.send(signal.SIGKILL)
    driver.process.wait()
    yield workers
    driver.end()


def test_workers_that_outlive_a_killed_driver_hold_no_lock_and_end_soon(
    tmp_path: Path, killed_driver: set[int]
) -> None:
    assert all(alive(worker) for worker in killed_driver)
    assert free(tmp_path)
    for worker in killed_driver:
        os.kill(worker, signal.SIGCONT)
    deadline = time.monotonic() + 20
    while any(alive(worker) for worker in killed_driver):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(fake_job.lines(tmp_path, "ran")) == 2


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_child_process_does_not_inherit_the_lock(tmp_path: Path) -> None:
    with lock.hold(tmp_path, "run parent", no_message, wait=False):
        child = subprocess.Popen(["sleep", "100"], close_fds=False)
    assert free(tmp_path)
    child.kill()
    child.wait()


def test_checking_the_lock_does_not_make_a_driver_fail(tmp_path: Path) -> None:
    assert free(tmp_path)  # the file is there
    looking = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.03, os.close, [looking]).start()
    assert free(tmp_path)


def test_holder_of_a_folder_without_lock_is_none_and_creates_nothing(tmp_path: Path) -> None:
    assert lock.holder(tmp_path) is None
    assert lock.holder(tmp_path / "missing") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\xff"])
def test_holder_is_unknown_if_the_file_does_not_name_it(tmp_path: Path, content: str) -> None:
    with lock.hold(tmp_path, "run first", no_message, wait=False):
        (tmp_path / ".lock").write_text(content, encoding="latin-1")
        assert lock.holder(tmp_path) == "another qsweep"


def test_lock_file_contains_no_host_or_user(tmp_path: Path) -> None:
    with lock.hold(tmp_path, "run first", no_message, wait=False):
        assert json.loads((tmp_path / ".lock").read_text()) == {"pid": os.getpid(), "command": "run first"}


def test_full_disk_does_not_prevent_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with lock.hold(tmp_path, "run first", no_message, wait=False):
        assert not free(tmp_path)


def test_file_system_without_locks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with (
        pytest.raises(UserError, match=r"can't lock the results folder .*No locks available"),
        lock.hold(tmp_path, "run first", no_message, wait=False),
    ):
        raise AssertionError
    assert lock.holder(tmp_path) is None


def test_folder_that_can_not_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="can't write the results folder"),
        lock.hold(tmp_path / "file" / "results", "run first", no_message, wait=False),
    ):
        raise AssertionError


@pytest.mark.parametrize("kind", ["a link", "a FIFO", "a folder"])
def test_lock_that_is_not_a_file_is_refused_and_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    results = tmp_path / "results"
    results.mkdir()
    if kind == "a link":
        (results / ".lock").symlink_to(precious)
    elif kind == "a FIFO":
        os.mkfifo(results / ".lock")
    else:
        (results / ".lock").mkdir()
    with pytest.raises(UserError), lock.hold(results, "run x", lambda text: None, wait=False):
        raise AssertionError
    assert precious.read_text() == "precious"
