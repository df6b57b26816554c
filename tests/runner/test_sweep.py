"""The promises, with real runs of real processes on digits."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from project import Project

SPEC = """
name: small
title: A small sweep with odd widths and an odd last batch
trial:
  data: digits
  model: {name: mlp, hidden: [33], dropout: 0.2}
  init: normal(0.1)
  epochs: 3
  batch_size: 57
  rounding: stochastic
  scale: 2
  quantize: {weight: range}
  histogram: 20
grid:
  zero: [true, false]
  lr: {pow2: [0, -3]}
  bitwidth: [5, 2]
also:
  - trial: {quantize: {}}
    grid: {lr: [1e30, 0.25, 0.125]}
plots:
  - {kind: heatmap, x: lr, y: bitwidth, z: test_accuracy, facet: zero}
"""
TRIALS = 2 * 4 * 2 + 3


@pytest.fixture
def project(tmp_path: Path, data_folder: Path) -> Project:
    return _with_small(tmp_path, data_folder)


def _with_small(folder: Path, data: Path) -> Project:
    made = Project(folder, data)
    made.write("small.yaml", SPEC)
    return made


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> list[bytes]:
    """The tables of the simplest run: in this process, one trial per stack."""
    project = _with_small(tmp_path_factory.mktemp("plain"), data_folder)
    project.run("run", "small.yaml", "--backend", "serial", "--stack", "1", "--no-plot")
    return project.tables()


WAYS: list[Sequence[str]] = [
    ("-j", "1"),
    ("-j", "2", "--stack", "7"),
    ("-j", "2", "--stack", "16"),
    ("-j", "3", "--stack", "1"),
    ("--backend", "serial"),
]


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_run_writes_the_same_bytes_in_any_way(project: Project, expected: list[bytes], way: Sequence[str]) -> None:
    project.run("run", "small.yaml", "--no-plot", *way)
    assert project.tables() == expected


def test_run_spec_with_stacks_of_one_times_each_trial_separately(project: Project, expected: list[bytes]) -> None:
    project.write("small.yaml", f"stack: 1\n{SPEC}")
    project.run("run", "small.yaml", "-j", "2", "--no-plot")
    assert project.tables() == expected
    timings = (project.folder / "results" / "small" / "timings.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert {line.split(",")[-2] for line in timings} == {"1"}


def test_run_with_two_ambient_threads_writes_the_same_bytes(project: Project, expected: list[bytes]) -> None:
    threads = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    project.run("run", "small.yaml", "--no-plot", "--backend", "serial", **threads)
    assert project.tables() == expected


def records(project: Project) -> int:
    path = project.folder / "results" / "store.db"
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])
    except sqlite3.OperationalError:  # it is just being made
        return 0


def kill_after(project: Project, count: int) -> None:
    """SIGKILL a driver and its workers after a number of records."""
    process = project.start("run", "small.yaml", "-j", "2", "--stack", "2", "--no-plot")
    deadline = time.monotonic() + 120
    while records(project) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_run_killed_twice_loses_nothing_and_writes_the_same_bytes(project: Project, expected: list[bytes]) -> None:
    kill_after(project, 2)
    first = records(project)
    kill_after(project, first + 4)
    second = records(project)
    assert 2 <= first < second < TRIALS
    output = project.run("run", "small.yaml", "-j", "2", "--no-plot")
    assert f"trained {TRIALS - second}, known {second}" in output
    assert project.tables() == expected


def test_run_interrupted_once_finishes_running_stacks_and_continues_later(
    project: Project, expected: list[bytes]
) -> None:
    process = project.start("run", "small.yaml", "-j", "2", "--stack", "1", "--no-plot")
    while records(project) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Ctrl-C again stops now" in err
    assert "run again to continue" in err
    assert {row["status"] for row in project.rows()} >= {"done", "missing"}  # there is a table all the same
    project.run("run", "small.yaml", "--backend", "serial", "--no-plot")
    assert project.tables() == expected


def test_run_again_trains_nothing_and_changes_no_byte(project: Project) -> None:
    project.run("run", "small.yaml", "--backend", "serial")
    before = {p: p.read_bytes() for p in (project.folder / "results" / "small").rglob("*") if p.is_file()}
    output = project.run("run", "small.yaml", "--backend", "serial")
    assert f"trained 0, known {TRIALS}" in output
    after = {p: p.read_bytes() for p in before}
    assert [p.name for p in before if before[p] != after[p]] == []


def test_run_with_a_changed_learning_rate_trains_only_its_trials(project: Project) -> None:
    project.run("run", "small.yaml", "--backend", "serial", "--no-plot")
    project.write("small.yaml", SPEC.replace("lr: {pow2: [0, -3]}", "lr: [1, 0.5, 0.25, 0.1]"))
    output = project.run("run", "small.yaml", "--backend", "serial", "--no-plot")
    assert f"trained 4, known {TRIALS - 4}" in output
    assert "+4 −4 trials since the last run" in output


def test_run_with_a_removed_value_reports_the_change(project: Project) -> None:
    project.run("run", "small.yaml", "--no-plot", "--backend", "serial")
    project.write("small.yaml", SPEC.replace("bitwidth: [5, 2]", "bitwidth: [5]"))
    output = project.run("run", "small.yaml", "--backend", "serial", "--no-plot")
    assert "+0 −8 trials since the last run" in output
    assert f"trained 0, known {TRIALS - 8}" in output
    assert len(project.rows()) == TRIALS - 8


def test_seconds_per_trial_are_drawn_from_the_timings(project: Project) -> None:
    text = (project.folder / "small.yaml").read_text(encoding="utf-8")
    (project.folder / "small.yaml").write_text(
        text.partition("plots:")[0] + "plots: [{kind: lines, x: lr, y: seconds}]\n", encoding="utf-8"
    )
    project.run("run", "small.yaml", "--backend", "serial")
    assert (project.folder / "results/small/figures/lines-seconds.png").stat().st_size > 0
    (project.folder / "results/small/timings.csv").unlink()
    project.write("results/small/spec.yaml", "plots: [{kind: lines, x: lr, y: test_accuracy}]")
    project.run("plot", "results/small")


def test_run_with_an_edited_plot_draws_it_without_training(project: Project) -> None:
    project.run("run", "small.yaml", "--backend", "serial")
    project.write(
        "small.yaml", SPEC.replace("kind: heatmap, x: lr, y: bitwidth, z", "kind: surface, x: lr, y: bitwidth, z")
    )
    output = project.run("run", "small.yaml", "--backend", "serial")
    assert f"trained 0, known {TRIALS}" in output
    assert (project.folder / "results" / "small" / "figures" / "surface-test_accuracy.png").is_file()


def test_run_with_an_override_has_its_own_folder(project: Project) -> None:
    project.run("run", "small.yaml", "--no-plot", "--backend", "serial")
    before = project.tables()
    project.run("run", "small.yaml", "--backend", "serial", "--no-plot", "-S", "epochs=1", "-S", "lr=[0.5]")
    (other,) = [p.name for p in (project.folder / "results").glob("small@*")]
    assert len(project.rows(other)) == 2 * 2 + 1
    assert {row["epochs"] for row in project.rows(other)} == {"1"}
    assert project.tables() == before


def test_run_with_force_retrains_and_finds_the_same(project: Project, expected: list[bytes]) -> None:
    project.run("run", "small.yaml", "--backend", "serial", "--no-plot")
    output = project.run("run", "small.yaml", "--backend", "serial", "--no-plot", "--force", "--stack", "3")
    assert f"trained {TRIALS}" in output
    assert project.tables() == expected


def test_run_with_force_finds_a_conflicting_record_and_keeps_both(project: Project) -> None:
    from qsweep.results.store import Store

    project.run("run", "small.yaml", "--no-plot", "--backend", "serial")
    before = project.tables()
    store = Store.open(project.folder / "results" / "store.db")
    key = project.rows()[0]["key"]
    connection = sqlite3.connect(store.path)
    row = dict(
        zip(
            ("result", "id"),
            connection.execute("SELECT result, id FROM records WHERE key = ?", (key,)).fetchone(),
            strict=True,
        )
    )
    result = {**json.loads(row["result"]), "test_loss": 1.0}
    connection.execute("UPDATE records SET result = ? WHERE id = ?", (json.dumps(result), row["id"]))
    _reseal(connection, row["id"])
    connection.commit()
    connection.close()
    store.close()
    output = project.run("run", "small.yaml", "--backend", "serial", "--no-plot", "--force", code=1)
    assert f"{key[:10]}: two records of one environment differ" in output
    assert project.tables() != before  # the first counts: the one that we have made up
    assert f"{key[:10]}" in project.start("store", "check").communicate()[0]


def _reseal(connection: sqlite3.Connection, record: int) -> None:
    """Give a changed row a valid checksum."""
    from qsweep.results.records import COLUMNS, checksum

    values = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM records WHERE id = ?", (record,)).fetchone()
    checksum = checksum(dict(zip(COLUMNS, values, strict=True)))
    connection.execute("UPDATE records SET checksum = ? WHERE id = ?", (checksum, record))


def test_run_sets_a_damaged_row_aside_reports_and_retrains_it(project: Project) -> None:
    project.run("run", "small.yaml", "--no-plot", "--backend", "serial")
    before = project.tables()
    with sqlite3.connect(project.folder / "results" / "store.db") as connection:
        connection.execute("UPDATE records SET result = '{}' WHERE id IN (1, 2)")
    output = project.run("run", "small.yaml", "--backend", "serial", "--no-plot")
    assert "2 damaged rows in the store are set aside" in output
    assert f"trained 2, known {TRIALS - 2}" in output
    assert project.tables() == before


def test_reading_a_store_does_not_move_its_damaged_rows(project: Project) -> None:
    project.run("run", "small.yaml", "--no-plot", "--backend", "serial")
    store = project.folder / "results" / "store.db"
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE records SET result = '{}' WHERE id IN (1, 2)")
    assert f"known {TRIALS - 2}" in project.start("run", "small.yaml", "-n").communicate()[0].replace(": ", " ")
    project.run("status")
    with sqlite3.connect(store) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (TRIALS,)


def test_run_that_ends_with_an_error_leaves_a_table_of_all_committed_records(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qsweep.cli.progress import Display
    from qsweep.errors import UserError
    from qsweep.runner import schedule, sweep
    from qsweep.runner.outlook import Options

    def full(stacks: Sequence[schedule.Stack], *args: object, **more: object) -> None:
        schedule_run(stacks[:1], *args, **more)
        raise UserError("the disk is full")

    schedule_run: Any = schedule.run
    monkeypatch.setattr(schedule, "run", full)
    monkeypatch.chdir(project.folder)
    for name in ("QSWEEP_DATA", "QSWEEP_OFFLINE"):
        monkeypatch.setenv(name, project.environment[name])
    options = Options(results=Path("results"), backend="serial", stack=2, plot=False)
    with pytest.raises(UserError, match="disk is full"):
        sweep.run(Path("small.yaml"), options, Display(), lambda outlook: None)
    statuses = [row["status"] for row in project.rows()]
    assert sorted(statuses) == ["done"] * 2 + ["missing"] * (TRIALS - 2)


def test_run_from_another_folder_is_the_same_sweep(project: Project) -> None:
    project.run("run", "small.yaml", "--no-plot", "--backend", "serial", "-S", "lr=[0.5]", "--name", "small")
    before = project.tables()
    words = ("run", "../small.yaml", "--results", "../results", "--no-plot", "-S", "lr=[0.5]", "--name", "small")
    (project.folder / "inner").mkdir()
    command = [sys.executable, "-m", "qsweep", *words]
    done = subprocess.run(
        command, cwd=project.folder / "inner", env=project.environment, capture_output=True, check=True
    )
    assert b"trained 0" in done.stderr
    assert project.tables() == before


def test_run_with_an_own_model_that_raises_ends_with_a_table_and_exit_code_1(project: Project) -> None:
    project.write("mine.py", "def net(shape, classes, width):\n    raise ValueError('width is odd')\n")
    text = SPEC.replace("name: small\n", "").replace(
        "{name: mlp, hidden: [33], dropout: 0.2}", "{name: 'mine.py:net', width: 3}"
    )
    project.write("own.yaml", text.replace("also:", "only: [{lr: 1, zero: true}]\nalso:"))
    output = project.run("run", "own.yaml", code=1)
    assert "ValueError: width is odd" in output
    assert {row["status"] for row in project.rows("own")} == {"failed"}
    assert {row["reason"] for row in project.rows("own")} == {"ValueError: width is odd (mine.py, line 2)"}
    assert {row["model"] for row in project.rows("own")} == {"mine.py:net"}


def test_run_with_a_fixed_own_model_is_another_trial(project: Project) -> None:
    body = "from torch import nn\ndef net(shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, {0}), nn.{1}(), nn.Linear({0}, classes))\n"
    text = SPEC.replace("name: small\n", "").replace("{name: mlp, hidden: [33], dropout: 0.2}", "mine.py:net")
    project.write("own.yaml", text)
    project.write("mine.py", body.format(9, "ReLU"))
    project.run("run", "own.yaml", "--backend", "serial", "--no-plot")
    stacked = project.rows("own")
    project.write("mine.py", body.format(9, "Sigmoid"))  # does not stack: trained one at a time
    output = project.run("run", "own.yaml", "--backend", "serial", "--no-plot")
    assert f"+{TRIALS} −{TRIALS} trials" in output
    assert not {row["key"] for row in stacked} & {row["key"] for row in project.rows("own")}
    assert {row["status"] for row in project.rows("own")} == {"done"}


def test_two_drivers_run_one_after_the_other_and_train_nothing_twice(project: Project, expected: list[bytes]) -> None:
    first = project.start("run", "small.yaml", "--no-plot", "-j", "1")
    while not (project.folder / "results" / "store.db").exists():
        time.sleep(0.01)
    refused = project.run("run", "small.yaml", "--no-plot", "--no-wait", code=2)
    assert "`qsweep run small`" in refused
    output = project.run("run", "small.yaml", "--no-plot")
    assert "waiting for it to end" in output
    assert f"trained 0, known {TRIALS}" in output
    first.communicate()
    assert project.tables() == expected


def test_run_without_data_and_network_reports_what_to_do_and_leaves_no_sweep(project: Project, tmp_path: Path) -> None:
    output = project.run("run", "small.yaml", "-S", "data=mnist", code=2, QSWEEP_DATA=str(tmp_path / "empty"))
    assert "qsweep data add mnist DIR" in output
    assert "-S data=digits" in output
    assert "Traceback" not in output
    assert not list((project.folder / "results").glob("small@*"))


def _only_override(project: Project) -> str:
    (name,) = [p.name for p in (project.folder / "results").glob("small@*")]
    return name


def test_run_timeout_has_a_row_and_is_retried(project: Project) -> None:
    output = project.run("run", "small.yaml", "--no-plot", "--timeout", "0.0001", "-S", "lr=[0.5]", code=1)
    assert "took longer than 0.0001 s" in output
    assert "trained 0, known 0" in output
    name = _only_override(project)
    assert {row["status"] for row in project.rows(name)} == {"timeout"}
    project.run("run", "small.yaml", "--no-plot", "-S", "lr=[0.5]")
    assert {row["status"] for row in project.rows(name)} == {"done"}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that even root can't write")
def test_run_reports_an_unwritable_results_folder(project: Project) -> None:
    assert "can't write the results folder" in project.run("run", "small.yaml", "--results", "/proc/no", code=2)


def test_run_reports_a_results_folder_that_is_a_file(project: Project) -> None:
    project.write("results", "")
    assert "can't write the results folder" in project.run("run", "small.yaml", code=2)


def test_run_refuses_another_file_of_the_same_name(project: Project) -> None:
    project.run("run", "small.yaml", "--no-plot", "--backend", "serial", "-S", "lr=[0.3]", "--name", "small")
    (project.folder / "other").mkdir()
    project.write("other/small.yaml", SPEC)
    before = project.tables()
    output = project.run("run", "other/small.yaml", code=2)
    assert "belongs to small.yaml, not to other/small.yaml" in output
    assert project.tables() == before


MOVED = "name: one\ntrial: {data: digits, epochs: 1, batch_size: 500, model: softmax}\ngrid: {lr: [0.1]}\n"


def test_run_of_a_moved_spec_takes_over_its_folder(project: Project) -> None:
    (project.folder / "configs").mkdir()
    project.write("configs/one.yaml", MOVED)
    words = ("--no-plot", "--backend", "serial")
    project.run("run", "configs/one.yaml", *words)
    (project.folder / "configs").rename(project.folder / "experiments")
    output = project.run("run", "experiments/one.yaml", *words)
    assert (
        "results/one was made by configs/one.yaml, with the same trials: experiments/one.yaml takes it over" in output
    )
    assert "trained 0, known 1" in output
    assert "takes it over" not in project.run("run", "experiments/one.yaml", *words)
    (project.folder / "results").rename(project.folder.parent / "scratch")
    (project.folder / "results").symlink_to(project.folder.parent / "scratch")
    project.run("run", "experiments/one.yaml", *words, "--results", "../scratch")
    project.write("one.yaml", MOVED.replace("0.1", "0.2"))
    for dry in ((), ("-n",)):
        output = project.run("run", "one.yaml", *dry, *words, code=2)
        assert "belongs to " in output
        assert "is gone, remove results/one (its records stay in the store)" in output


RESNET = """
trial:
  data: digits
  model: torchvision:resnet18
  optimizer: sgd
  lr: 0.05
  epochs: 1
  batch_size: 500
  quantize: {weight: block8, activation: block8, error: block8, master: bf16}
  layers: {fc: float32}
"""


def test_run_with_a_net_of_torchvision_and_rounded_activations_and_errors(project: Project) -> None:
    project.write("resnet.yaml", RESNET)
    messages, _ = project.start("run", "resnet.yaml", "-n").communicate()
    assert "layer1.0.relu, layer1.0.conv2, layer1.0.bn2, layer1.0.relu#2" in messages
    project.run("run", "resnet.yaml", "--backend", "serial", "--no-plot")
    (row,) = project.rows("resnet")
    assert row["status"] == "done"
    assert row["model"] == "torchvision:resnet18"
    assert 0 < float(row["activation_zero"]) < 1


def test_run_refuses_nets_that_torchvision_lacks_or_that_do_not_accept_such_images(project: Project) -> None:
    for wrong, output in {
        "resnet8": "unknown classifier of torchvision 'resnet8'; did you mean 'resnet18'?",
        "alexnet": "torchvision:alexnet does not take digits's images of 1×8×8: ",
        "densenet121, memory_efficient: 3, dropt: 1": "torchvision:densenet121: ",
    }.items():
        text = RESNET.replace("torchvision:resnet18", f"{{name: torchvision:{wrong}}}").replace(
            "  layers: {fc: float32}", ""
        )
        project.write("wrong.yaml", text)
        assert output in project.run("run", "wrong.yaml", code=2)


def test_run_and_dry_run_refuse_a_place_that_a_net_lacks_and_leave_nothing(project: Project) -> None:
    project.write(
        "lacking.yaml",
        SPEC.replace("name: small", "name: lacking").replace("  histogram: 20\n", "  layers: {conv1: float32}\n"),
    )
    for words in (("-n",), ()):
        assert "layers.conv1: unknown place 'conv1' (one of: linear1, relu1, linear2)" in project.run(
            "run", "lacking.yaml", *words, code=2
        )
    assert not (project.folder / "results" / "lacking").exists()
