"""Sweeps with several stages, with real runs of real processes on digits."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from project import Project

TRAINED = """
title: What compression costs and retraining gives back
trial:
  data: digits
  model: {name: mlp, hidden: [33], dropout: 0.2}
  optimizer: adam
  lr: 0.01
  epochs: 2
  batch_size: 57
  quantize: {}
seeds: 2
"""
STAGES = """
variants:
  trained: {}
  compressed: {stages: [{compress: {weight: uniform}}]}
  retrained: {stages: [{compress: {weight: uniform}}, {retrain: {epochs: 1}}]}
grid: {bitwidth: [3, 2]}
plots:
  - {kind: lines, x: bitwidth, y: test_accuracy, line: variant}
"""
BASES, COMPRESSED = 2, 4
TRIALS = BASES + 2 * COMPRESSED
TABLES = ("trials.csv", "history.csv")


@pytest.fixture
def project(tmp_path: Path, data_folder: Path) -> Project:
    made = Project(tmp_path, data_folder)
    made.write("staged.yaml", TRAINED + STAGES)
    made.write("trained.yaml", TRAINED)
    return made


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> list[bytes]:
    """The tables of the simplest run."""
    made = Project(tmp_path_factory.mktemp("plain"), data_folder)
    made.write("staged.yaml", TRAINED + STAGES)
    output = made.run("run", "staged.yaml", "--backend", "serial", "--stack", "1")
    assert f"trained {TRIALS}, known 0" in output
    assert len({key for key, _ in made.records()}) == len(made.records()) == TRIALS
    assert list((made.folder / "results" / "staged" / "figures").iterdir())
    return made.tables("staged", TABLES)


def weights(project: Project) -> list[Path]:
    return sorted((project.folder / "results" / "weights").iterdir())


def test_run_killed_between_stages_continues_and_writes_the_same_bytes(project: Project, expected: list[bytes]) -> None:
    process = project.start("run", "staged.yaml", "-j", "2", "--stack", "2", "--no-plot")
    deadline = time.monotonic() + 120
    store = project.folder / "results" / "store.db"
    while time.monotonic() < deadline and (not store.exists() or len(_records(project)) < BASES + 1):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(_records(project))
    assert BASES < done < TRIALS
    output = project.run("run", "staged.yaml", "-j", "2", "--stack", "16", "--no-plot")
    assert f"trained {TRIALS - done}, known" in output
    assert project.tables("staged", TABLES) == expected


def _records(project: Project) -> list[tuple[str, str]]:
    import sqlite3

    try:
        return project.records()
    except sqlite3.OperationalError:  # it is just being made
        return []


def test_run_with_bases_of_another_sweep_or_with_lost_weights(project: Project, expected: list[bytes]) -> None:
    """A sweep without stages stores no weights: its trials are retrained with the same results."""
    project.run("run", "trained.yaml", "--backend", "serial", "--no-plot")
    assert not (project.folder / "results" / "weights").exists()
    output = project.run("run", "staged.yaml", "--backend", "serial", "--no-plot")
    assert f"trained {TRIALS}, known {BASES}" in output
    assert project.tables("staged", TABLES) == expected
    shutil.rmtree(project.folder / "results" / "weights")
    project.write("staged.yaml", (TRAINED + STAGES).replace("[3, 2]", "[3, 2, 4]"))
    output = project.run("run", "staged.yaml", "--backend", "serial", "--no-plot")
    assert "differ" not in output
    assert len(weights(project)) == BASES + 2 * 2
    assert len(project.records()) == TRIALS + 2 * 2


def test_run_with_a_diverged_base_has_rows_that_show_it(project: Project) -> None:
    project.write("staged.yaml", (TRAINED + STAGES).replace("optimizer: adam\n  lr: 0.01", "lr: 1.0e+30"))
    project.run("run", "staged.yaml", "--backend", "serial", "--no-plot")
    rows = project.rows("staged")
    assert {row["status"] for row in rows} == {"diverged"}
    assert {row["reason"].split(" ")[0] for row in rows if row["stages"]} == {"its"}
    assert "trained 0" in project.run("run", "staged.yaml", "--backend", "serial", "--no-plot")


def test_run_with_a_failed_base_fails_and_is_retried(project: Project) -> None:
    broken = "def net(shape, classes):\n    raise ValueError('not yet')\n"
    project.write("own.py", broken)
    project.write("staged.yaml", (TRAINED + STAGES).replace("{name: mlp, hidden: [33], dropout: 0.2}", "own.py:net"))
    project.run("run", "staged.yaml", "--backend", "serial", "--no-plot", code=1)
    rows = project.rows("staged")
    assert {row["status"] for row in rows} == {"failed"}
    assert all("not yet" in row["reason"] for row in rows)
    output = project.run("run", "staged.yaml", "--backend", "serial", "--no-plot", code=1)
    assert "known 0" in output


def test_search_with_a_failing_base_ends(project: Project) -> None:
    project.write("own.py", "def net(shape, classes):\n    raise ValueError('not yet')\n")
    project.write(
        "searching.yaml",
        """
trial: {data: digits, model: 'own.py:net', lr: 0.1, epochs: 1, stages: [{compress: {weight: uniform}}]}
grid: {bitwidth: {range: [8, 2]}}
search: {bisect: bitwidth, reach: 0.5}
""",
    )
    output = project.run("run", "searching.yaml", "--backend", "serial", "--no-plot", code=1)
    assert "4 will fail: ValueError: not yet" in output  # the base, and the three trials that are needed next
    assert "searched 1 line, not to the end: 3 trials are needed next" in output
    assert [row["status"] for row in project.rows("searching")].count("failed") == 3


def test_run_with_a_known_base_that_can_not_be_retrained_fails_only_its_trials(project: Project) -> None:
    """Its trials get the outcome of this run; those of other bases continue."""
    project.write("own.py", "import os\nfrom torch import nn\n\ndef net(shape, classes):\n    if os.path.exists('gone'):\n"
                            "        raise ValueError('gone')\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n")  # fmt: skip
    spec = (TRAINED + STAGES).replace("  model: {name: mlp, hidden: [33], dropout: 0.2}\n", "")
    spec = spec.replace("grid: {", "grid: {model: ['own.py:net', softmax], ")
    project.write("staged.yaml", spec.replace("[3, 2]", "[3]"))
    project.run("run", "staged.yaml", "--backend", "serial", "--no-plot")
    shutil.rmtree(project.folder / "results" / "weights")
    (project.folder / "gone").touch()
    project.write("staged.yaml", spec.replace("[3, 2]", "[2]"))
    project.run("run", "staged.yaml", "--backend", "serial", "--no-plot", code=1)
    rows = [row for row in project.rows("staged") if row["stages"]]
    assert {row["status"] for row in rows if row["model"] == "softmax"} == {"done"}
    assert {row["status"] for row in rows if row["model"] != "softmax"} == {"failed"}
    assert all("gone" in row["reason"] for row in rows if row["model"] != "softmax")


def test_weights_of_trials_that_have_not_run_yet_are_needed(project: Project) -> None:
    project.write("staged.yaml", (TRAINED + STAGES).replace("epochs: 1}}", "epochs: 100000}}"))
    project.run("run", "staged.yaml", "--backend", "serial", "--no-plot", "--timeout", "3", code=1)
    assert "would delete 0 bytes" in project.out("store", "prune")


def test_prune_shows_and_deletes_weights_that_no_sweep_needs(project: Project) -> None:
    project.run("run", "staged.yaml", "--backend", "serial", "--no-plot")
    assert len(weights(project)) == TRIALS
    project.write("staged.yaml", (TRAINED + STAGES).replace("[3, 2]", "[3]"))
    project.run("run", "staged.yaml", "--backend", "serial", "--no-plot")
    output = project.out("store", "prune")
    assert output.startswith("would delete ")
    assert output.strip().endswith(f"the weights of {COMPRESSED} trials that belong to no sweep; add --yes to delete")
    assert len(weights(project)) == TRIALS
    assert project.out("store", "prune", "--yes") == output.replace("would delete", "deleted").replace(
        "; add --yes to delete", ""
    )
    assert len(weights(project)) == TRIALS - COMPRESSED
    assert "trained 0" in project.run("run", "staged.yaml", "--backend", "serial", "--no-plot")


def test_dry_run_shows_how_many_bases_are_trained_once(project: Project) -> None:
    project.write("staged.yaml", (TRAINED + STAGES).replace("  trained: {}\n", ""))
    process = project.start("run", "staged.yaml", "-n")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert f"to train {2 * COMPRESSED} and {BASES} bases, each once" in out
    assert not (project.folder / "results").exists()


def test_run_with_an_unwritable_weights_folder_reports_it_and_loses_nothing(project: Project) -> None:
    (project.folder / "results").mkdir()
    (project.folder / "results" / "weights").write_text("in the way", encoding="utf-8")
    assert "can't write" in project.run("run", "staged.yaml", "--backend", "serial", "--no-plot", code=2)
    (project.folder / "results" / "weights").unlink()
    project.run("run", "staged.yaml", "--backend", "serial", "--no-plot")
    assert {row["status"] for row in project.rows("staged")} == {"done"}


def test_record_has_the_digest_of_its_weights(project: Project) -> None:
    project.run("run", "staged.yaml", "--backend", "serial", "--no-plot")
    (row, *_) = [row for row in project.rows("staged") if row["variant"] == "compressed"]
    (kept,) = [path for path in weights(project) if path.name.startswith(row["key"])]
    messages = project.out("why", row["key"])
    assert hashlib.sha256(kept.read_bytes()).hexdigest() in messages
    assert re.search(r"\n  stages\.0\.compress\.weight\.format +\w+\n", messages)
