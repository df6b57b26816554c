"""Start-up: `qsweep --help`, the first words of a run, and a run of 10,000 trials that are all known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

from measure import seconds, spread

from qsweep.environment import describe
from qsweep.plan import expand
from qsweep.spec import read
from qsweep.store import Store

N = 7
SPEC = """
trial: {data: digits, model: {name: mlp, hidden: [8]}, scale: 2, rounding: stochastic, quantize: {weight: range}}
grid:
  lr: {linspace: [0.001, 0.1, 1250]}
  bitwidth: {range: [8, 1]}
"""
FIRST = (
    *(["run", "lr_bitwidth"], ["run", "lr_bitwidth", "-n"], ["table", "results/many"], ["status"], ["data", "list"]),
    *(["schema"], ["formats"], ["why", "00"]),
)
"""Commands to hear the first words of; the run goes into an empty folder, and is killed when it has spoken."""


def fill(folder: Path) -> None:
    """A results folder in which all of the grid is known."""
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


def first_words(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command until it says anything."""
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    """Whole processes, n runs each after one to warm up."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        for words in (["--help"], ["run", "many.yaml", "-n"], ["run", "many.yaml"]):
            command = [sys.executable, "-m", "qsweep", *words]
            once = partial(subprocess.run, command, cwd=folder, env=environment, capture_output=True, check=True)
            times = [seconds(once) for _ in range(N + 1)][1:]
            known = " (10,000 known trials)" if "many.yaml" in words else ""
            print(f"qsweep {' '.join(words)}{known}: {spread(times)} s")
        for words in FIRST:
            command = [sys.executable, "-m", "qsweep", *words]
            times = [seconds(partial(first_words, command, folder, environment)) for _ in range(N + 1)][1:]
            print(f"first words of qsweep {' '.join(words)}: {spread(times)} s")


if __name__ == "__main__":
    main()
