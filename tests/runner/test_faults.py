"""Faults from outside: nothing is lost, nothing hangs, and the fault is reported."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from project import SERIAL, Project

from qsweep import files
from qsweep.runner import backends
from qsweep.spec.file import is_reserved

TINY = """
trial: {data: digits, model: {name: mlp, hidden: [8]}, epochs: 1, batch_size: 256, quantize: {weight: range4}}
grid: {lr: [0.5, 0.25]}
"""
LONG = """
trial: {data: digits, model: {name: mlp, hidden: [32]}, epochs: 10, batch_size: 64}
grid: {lr: {linspace: [0.01, 1, 60]}}
"""


@pytest.fixture
def project(tmp_path: Path, data_folder: Path) -> Project:
    made = Project(tmp_path, data_folder)
    made.write("tiny.yaml", TINY)
    made.write("long.yaml", LONG)
    return made


def started(project: Project) -> object:
    """A long run with some committed records."""
    process = project.start("run", "long.yaml", *SERIAL, "--stack", "2")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(project.records()) > 3:
            return process
        time.sleep(0.05)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=["SIGHUP", "SIGTERM"])
def test_run_ended_by_a_signal_leaves_a_table(project: Project, number: signal.Signals) -> None:
    process = started(project)
    process.send_signal(number)  # type: ignore[attr-defined]
    _, err = process.communicate(timeout=120)  # type: ignore[attr-defined]
    assert process.returncode == 128 + number, err  # type: ignore[attr-defined]
    statuses = {row["status"] for row in project.rows("long")}
    assert statuses == {"done", "missing"}


def test_run_whose_store_is_deleted_reports_it_and_keeps_the_table(project: Project) -> None:
    process = started(project)
    shutil.rmtree(project.folder / "results")
    _, err = process.communicate(timeout=120)  # type: ignore[attr-defined]
    assert process.returncode == 2, err  # type: ignore[attr-defined]
    assert "was deleted or replaced during this run" in err
    assert "done" in {row["status"] for row in project.rows("long")}


NETS = """
import ctypes, os, time
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.l, self.what = nn.Linear(64, 10), what

    def forward(self, x):
        while len(x) > 2 and self.what == "catches all":
            try:
                time.sleep(0.05)
            except BaseException:
                pass
        if len(x) > 2 and self.what == "waits in C":
            lock = ctypes.create_string_buffer(64)
            for _ in range(2):
                ctypes.CDLL(None).pthread_mutex_lock(lock)
        if not self.training and self.what == "in its evaluation" and len(x) > 2:
            time.sleep(1000)
        return self.l(x.flatten(1))

def net(shape, classes, what):
    return Net(what)
"""


def test_timeout_ends_nets_that_do_not_cooperate_and_other_trials_train(project: Project) -> None:
    project.write("nets.py", NETS)
    bad = ("catches all", "waits in C", "in its evaluation")
    variants = "".join(f"  {what}: {{model: {{name: 'nets.py:net', what: {what}}}}}\n" for what in bad)
    project.write(
        "t.yaml",
        f"trial: {{data: digits, epochs: 1, batch_size: 256}}\nvariants:\n{variants}  good: {{model: softmax}}\n",
    )
    project.run("run", "t.yaml", *SERIAL, "--timeout", "3", code=1)
    found = {row["variant"]: row["status"] for row in project.rows("t")}
    assert found == {**dict.fromkeys(bad, "timeout"), "good": "done"}


def test_kill_ignores_a_worker_that_has_just_ended() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    dead = SimpleNamespace(pid=child, is_alive=lambda: True)
    backends._kill_local(SimpleNamespace(_processes={child: dead}, shutdown=lambda wait: None))


@pytest.mark.parametrize(
    "name", ["store.db", "store.db-journal", "store.db-wal", "STORE.DB-shm", "weights", "Reference"]
)
def test_sweep_with_a_reserved_name_is_refused(project: Project, name: str) -> None:
    assert is_reserved(name)
    err = project.run("run", "tiny.yaml", *SERIAL, "--name", name, code=2)
    assert "can't be a sweep's folder" in err


@pytest.mark.parametrize("place", ["results/tiny", "results/tiny/figures"])
def test_folder_that_is_a_symbolic_link_is_refused(project: Project, place: str) -> None:
    elsewhere = project.folder / "elsewhere"
    elsewhere.mkdir()
    (project.folder / place).parent.mkdir(parents=True, exist_ok=True)
    (project.folder / place).symlink_to(elsewhere)
    assert "is a symbolic link" in project.run("run", "tiny.yaml", *SERIAL, code=2)
    assert not list(elsewhere.iterdir())


def test_next_run_removes_only_the_temporary_files_of_killed_writers(project: Project) -> None:
    folder = project.folder / "results" / "tiny"
    folder.mkdir(parents=True)
    litter = folder / ".trials.csv.0123abcd.tmp"
    kept = [folder / ".notes", folder / "trials.csv.0123abcd.tmp", folder / ".x.0123abcd"]
    for path in (litter, *kept):
        path.touch()
    project.run("run", "tiny.yaml", *SERIAL)
    assert not litter.exists()
    assert all(path.exists() for path in kept)


def test_clean_removes_what_an_interrupted_write_leaves(tmp_path: Path) -> None:
    (tmp_path / f".a.{'0' * 8}.tmp").touch()
    files.clean(tmp_path)
    assert not list(tmp_path.iterdir())
    files.clean(tmp_path / "none")


def test_thousands_of_exclusions_are_as_fast_as_a_few(project: Project) -> None:
    lines = "".join(f"- {{lr: {i}, epochs: 3}}\n" for i in range(2, 2000))
    project.write("q.yaml", f"{TINY.strip()}\nexclude:\n{lines}".replace("[0.5, 0.25]", "[0.5, 0.25, 7.0]"))
    assert "3 trials" in project.out("run", "q.yaml", "-n")


def test_running_a_mailed_folder_keeps_a_copy_of_its_tables(project: Project) -> None:
    project.run("run", "tiny.yaml", *SERIAL)
    before = project.tables("tiny", ("trials.csv", "history.csv"))
    shutil.copytree(project.folder / "results" / "tiny", project.folder / "mailed" / "tiny")
    output = project.run("run", "mailed/tiny/spec.yaml", *SERIAL, "--results", "mailed")
    assert "has results that are not in this store: its tables are kept in mailed/tiny/earlier-" in output
    (kept,) = (project.folder / "mailed" / "tiny").glob("earlier-*")
    assert [(kept / name).read_bytes() for name in ("trials.csv", "history.csv")] == before
    assert "kept in" not in project.run(
        "run", "mailed/tiny/spec.yaml", *SERIAL, "--results", "mailed", "-S", "lr=[0.5]"
    )
