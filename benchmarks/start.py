"""Start-up: `qsweep --help`, the first output of commands, and commands on a sweep of 100,000 known trials."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

from measure import seconds, spread

from qsweep.results.store import Store
from qsweep.spec.file import read
from qsweep.spec.plan import expand
from qsweep.trial.environment import describe

SCALE = 1 if sys.platform == "darwin" else 1024
N, N_MANY = 7, 3
TRIALS = 100_000
SPEC = """
trial: {data: digits, model: {name: mlp, hidden: [8]}, scale: 2, rounding: stochastic, quantize: {weight: range}}
grid:
  lr: {linspace: [0.001, 0.1, 1250]}
  bitwidth: {range: [8, 1]}
seeds: 10
"""
WHOLE = (["--help"], ["run", "many.yaml"], ["run", "many.yaml", "-n"], ["table", "many"], ["status"])
"""Commands that are timed until they end."""
FIRST = (
    *(["run", "lr_bitwidth"], ["run", "lr_bitwidth", "-n"], ["table", "results/many"], ["status"], ["data", "list"]),
    *(["schema"], ["formats"], ["why", "00"]),
)
"""Commands that are timed until their first output, and then killed; the run uses an empty folder."""


def fill(folder: Path) -> None:
    """Fill a results folder in which the whole grid is known."""
    (folder / "many.yaml").write_text(SPEC)
    result = {"test_accuracy": 0.5, "test_loss": 1.25, "train_accuracy": 0.25, "train_loss": 1.5}
    with closing(Store.open(folder / "results" / "store.db")) as store:
        run = store.begin_run({})
        store.add([_record(t.key, t.settings, result) for t in expand(read(folder / "many.yaml")).trials], run)


def _record(key: str, settings: object, result: dict[str, float]) -> dict[str, object]:
    history = [{"stage": 0, "epoch": 1, **result}]
    run = {"seconds": 0.01, "stack": 16, "threads": 1, "device": "cpu"}
    head = {"key": key, "environment": describe("cpu"), "status": "done", "reason": "", "trial": settings}
    return {**head, "result": result, "history": history, "run": run}


LAUNCHER = """
import os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
assert status == 0
print(time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
"""Launches the command from a small process: a process inherits the peak memory of its parent, and this one has
imported torch."""


def spent(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MB of a process."""
    launched = [sys.executable, "-c", LAUNCHER, *command]
    done = subprocess.run(launched, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    wall, cpu, peak = map(float, done.stdout.split())
    return wall, cpu, peak * SCALE / 1e6


def first_output(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command until its first output."""
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    """Time processes n times each; first outputs after one run to warm up."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        for words in WHOLE:
            command = [sys.executable, "-m", "qsweep", *words]
            n = N if words == ["--help"] else N_MANY
            walls, cpus, peaks = map(list, zip(*[spent(command, folder, environment) for _ in range(n)], strict=True))
            print(f"qsweep {' '.join(words)}: {spread(walls)} s, {spread(cpus)} s of CPU, {spread(peaks, 0)} MB")
            if words[0] == "run":
                each = statistics.median(cpus) / TRIALS * 1e6, statistics.median(peaks) / TRIALS * 1e3
                print(f"  each of {TRIALS:,} known trials: {each[0]:.0f} µs of CPU, {each[1]:.1f} KB")
        for words in FIRST:
            command = [sys.executable, "-m", "qsweep", *words]
            times = [seconds(partial(first_output, command, folder, environment)) for _ in range(N + 1)][1:]
            print(f"first output of qsweep {' '.join(words)}: {spread(times)} s")


if __name__ == "__main__":
    main()
