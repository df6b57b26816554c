"""qsweep as a library: what the functions of qsweep return and raise."""

from __future__ import annotations

import inspect
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from paths import ROOT

import qsweep
from qsweep.cli import api, progress
from qsweep.cli.main import cli
from qsweep.plots import Drawn
from qsweep.results.tables import read_history, read_trials
from qsweep.runner.outlook import MOST_STACK, MOST_WORKERS, Options
from qsweep.trial import environment

pytestmark = pytest.mark.slow

SPEC = """
trial: {data: digits, model: softmax, epochs: 1, batch_size: 500, quantize: {weight: range4}}
grid: {lr: [0.5, 0.25, 0.125]}
plots: [{kind: lines, x: lr, y: test_accuracy}]
"""
SERIAL: dict[str, Any] = {"backend": "serial", "plot": False}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("library")
    (folder / "first.yaml").write_text(SPEC, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _here(home: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QSWEEP_DATA", str(data_folder))
    monkeypatch.setenv("QSWEEP_OFFLINE", "1")
    monkeypatch.chdir(home)


@pytest.fixture
def first() -> qsweep.Sweep:
    return qsweep.run("first.yaml", **SERIAL)


# --- running ----------------------------------------------------------------------------------------------------------


def test_run_returns_the_tables_of_the_sweep_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    found = qsweep.run("first", **SERIAL)
    assert capsys.readouterr() == ("", "")
    assert found.folder == Path("results/first")
    pd.testing.assert_frame_equal(found.trials, read_trials(found.folder))
    pd.testing.assert_frame_equal(found.history, read_history(found.folder))
    assert repr(found) == "<Sweep results/first: 3 rows, 3 done>"


def test_run_with_progress_prints_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    qsweep.run("first.yaml", results="printed", progress=True, **SERIAL)
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "first: 3 trials, known 0, to train 3"
    assert err[-1] == "trained 3, known 0"


def test_run_accepts_overrides_as_values_and_writes_the_tables_of_the_command() -> None:
    given = {"lr": np.array([0.5, 0.0625]), "model": {"name": "mlp", "hidden": [4]}, "rounding": "zero", "seeds": 2}
    found = qsweep.run(Path("first.yaml"), overrides=given, results="a", **SERIAL)
    words = ["-S", "lr=[0.5, 0.0625]", "-S", "model={name: mlp, hidden: [4]}", "-S", "rounding=zero", "-S", "seeds=2"]
    assert not cli(
        ["run", "first.yaml", "--results", "b", "--backend", "serial", "--no-plot", *words], standalone_mode=False
    )
    assert len(found.trials) == 4
    for name in ("trials.csv", "history.csv", "spec.yaml"):
        assert (found.folder / name).read_bytes() == (Path("b") / found.folder.name / name).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_raises_after_the_table_is_written(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        raise SystemExit

    before = signal.signal(signal.SIGTERM, ended)
    monkeypatch.setattr(api.Silent, "finished", lambda self, records: signal.raise_signal(number))
    try:
        with pytest.raises(KeyboardInterrupt if number is signal.SIGINT else SystemExit):
            qsweep.run("first.yaml", results=f"stopped{number}", stack=1, **SERIAL)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert repr(qsweep.load(f"stopped{number}")).endswith("first: 3 rows, 1 done, 2 missing>")


def test_run_works_in_a_thread() -> None:
    found: list[qsweep.Sweep] = []
    thread = threading.Thread(target=lambda: found.append(qsweep.run("first.yaml", results="thread", **SERIAL)))
    thread.start()
    thread.join()
    assert repr(found[0]).endswith("3 rows, 3 done>")


API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
TORCH_FIRST = "import os, torch; torch.ones(3, 3) @ torch.ones(3, 3)\n"


def test_examples_of_api_md_run_in_a_program_without_a_main_guard_that_has_loaded_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Piped into `python -`, with worker processes: like a notebook, it has no file that a worker could import."""
    cells = re.findall(r"```python\n(.*?)```", API.split("## Reference")[0], re.DOTALL)
    program = "".join([TORCH_FIRST, *cells, "print(sweep, list(figures), y.shape)\nprint(os.environ.get('MKL_CBWR'))"])
    device = environment.choose("auto")
    monkeypatch.delenv("MKL_CBWR", raising=False)
    monkeypatch.chdir(tmp_path)
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert "did you mean 'bitwidth'?" in lines[0], done.stderr
    assert lines[1:] == ["<Sweep results/bits: 24 rows, 24 done> ['bits'] torch.Size([4, 16])", "None"]
    assert lines[1].split(" [")[0] in API
    assert done.stderr == ""
    assert sorted(path.name for path in Path("figures").iterdir()) == ["bits.pdf", "bits.png"]
    monkeypatch.setenv("MKL_CBWR", environment.ALIGNMENT_FREE)
    assert set(pd.read_csv("results/bits/timings.csv")["environment"]) == {environment.describe(device)}


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_all_wrong_options_are_reported_at_once() -> None:
    with pytest.raises(qsweep.Error) as caught:
        qsweep.run("first.yaml", workers=0, stack=513, backend="serail", device="nvidia", timeout=-1, name=".x")
    assert str(caught.value).splitlines() == [
        "workers: found 0, expected an integer from 1 to 1,024",
        "stack: found 513, expected an integer from 1 to 512",
        "timeout: found -1, expected a number of seconds above 0",
        "unknown backend 'serail'; did you mean 'serial'? (one of: local, serial)",
        "unknown device 'nvidia' (one of: auto, cpu, cuda)",
        'name: found ".x", expected up to 64 of A-Z a-z 0-9 . _ - and no dot in front',
    ]


@pytest.mark.parametrize(
    ("spec", "overrides", "message"),
    [
        ("frist.yaml", {}, "did you mean 'first'"),
        ("first.yaml", {"bitwith": 4}, "bitwith.*did you mean 'bitwidth'"),
        ("first.yaml", {"lr": -1, "epochs": 0}, "(?s)epochs.*lr"),
        ("first.yaml", {"lr": object}, "overrides: lr: found .*, expected numbers"),
    ],
)
def test_mistakes_in_a_spec_are_errors_with_the_message_of_the_command(
    spec: str, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(qsweep.Error, match=message):
        qsweep.run(spec, overrides=overrides, **SERIAL)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"overrides": ["lr=1"]}, "overrides: found .*lr=1.*, expected a mapping such as"),
        ({"spec": None}, "spec: found None, expected a path"),
        ({"results": 3}, "results: found 3, expected a path"),
        ({"name": 3}, "name: found 3, expected up to 64"),
    ],
)
def test_arguments_of_wrong_types_are_errors(given: dict[str, Any], message: str) -> None:
    with pytest.raises(qsweep.Error, match=message):
        qsweep.run(**{"spec": "first.yaml", **SERIAL, **given})
    with pytest.raises(qsweep.Error, match="path: found None, expected a path"):
        qsweep.load(None)  # type: ignore[arg-type]


def test_the_command_line_has_the_ranges_of_the_library() -> None:
    types = {parameter.name: parameter.type for parameter in cli.commands["run"].params}
    assert (types["jobs"].max, types["stack"].max) == (MOST_WORKERS, MOST_STACK)  # type: ignore[attr-defined]


def test_run_has_every_option_of_the_command_except_dry_run_with_the_same_defaults() -> None:
    own = inspect.signature(qsweep.run).parameters
    names = {"jobs": "workers", "exitfirst": "exit_first", "no_plot": "plot", "no_wait": "wait", "specs": "spec"}
    taken = {names.get(str(p.name), str(p.name)) for p in cli.commands["run"].params} - {"dry_run"}
    assert own.keys() - {"progress"} == taken
    for name in own.keys() & {"stack", "backend", "device", "timeout", "force", "exit_first", "strict", "plot", "wait"}:
        assert own[name].default == getattr(Options(), name), name


def test_failure_without_progress_is_a_warning(monkeypatch: pytest.MonkeyPatch, first: qsweep.Sweep) -> None:
    monkeypatch.setattr("qsweep.runner.sweep.draw_folder", lambda target: Drawn(failures=("lines: too many lines",)))
    with pytest.warns(UserWarning, match="too many lines"):
        qsweep.run("first.yaml", backend="serial")


# --- results ----------------------------------------------------------------------------------------------------------


def test_load_reads_a_folder_anywhere_without_a_store(first: qsweep.Sweep, tmp_path: Path) -> None:
    moved = tmp_path / "mailed"
    first.folder.rename(moved)
    try:
        found = qsweep.load(str(moved))
        pd.testing.assert_frame_equal(found.trials, first.trials)
        assert list(found.plot()) == ["lines-test_accuracy"]
    finally:
        moved.rename(first.folder)


def test_load_refuses_what_it_can_not_load(first: qsweep.Sweep, tmp_path: Path) -> None:
    assert qsweep.load("first").folder == first.folder
    with pytest.raises(qsweep.Error, match="no results in frist; did you mean 'first'"):
        qsweep.load("frist")
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "trials.csv").write_bytes((first.folder / "trials.csv").read_bytes())
    with pytest.raises(qsweep.Error, match=r"has 2 sweeps: load one of them, such as .*a"):
        qsweep.load(tmp_path)
    with pytest.raises(qsweep.Error, match=r"no table at .*history\.csv"):
        _ = qsweep.load(tmp_path / "a").history


def test_plot_returns_figures_that_a_notebook_shows_and_writes_only_to_into(
    first: qsweep.Sweep, tmp_path: Path
) -> None:
    before = sorted(first.folder.rglob("*"))
    found = first.plot()
    assert [axes.get_xlabel() for axes in found["lines-test_accuracy"].axes] == ["learning rate"]
    assert found._repr_html_().startswith('<img alt="lines-test_accuracy" width="336" src="data:image/png;base64,iVBOR')
    png: Any = found["lines-test_accuracy"]
    assert png._repr_png_().startswith(b"\x89PNG")
    assert sorted(first.folder.rglob("*")) == before
    other = first.plot([{"kind": "lines", "x": "epoch", "y": "train_loss", "name": "mine"}], into=tmp_path / "new")
    assert list(other) == ["mine"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["mine.pdf", "mine.png"]
    assert first.plot([]) == {}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "line", "x": "lr", "y": "test_accuracy"}, "did you mean 'lines'"),
        ({"kind": "lines", "x": "lr", "y": "test_accuracy", "lin": "seed"}, "unknown field 'lin'; did you mean 'line'"),
        ({"kind": "lines", "x": "bits", "y": "test_accuracy"}, "bits"),
    ],
)
def test_plot_refuses_what_it_can_not_draw(first: qsweep.Sweep, entry: dict[str, str], message: str) -> None:
    with pytest.raises(qsweep.Error, match=message):
        first.plot([entry])


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "widgets", "shown"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_bar_is_shown_in_a_notebook_that_can_redraw_it(
    kernel: bool, widgets: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel:
        monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    monkeypatch.setattr(progress, "find_spec", lambda name: SimpleNamespace() if widgets else None)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert progress.is_watched() is shown


# --- formats ----------------------------------------------------------------------------------------------------------


def test_list_formats_returns_numbers_by_the_name_of_a_format() -> None:
    found = qsweep.list_formats("e4m3", "block8 per=16", "float32")
    assert list(found.index) == ["e4m3", "block8 per=16", "float32"]
    assert found.loc["e4m3", ["bits", "levels", "largest", "nan", "inf"]].tolist() == [8, 253, 448, True, False]
    assert found["scale_per"].tolist() == [None, 16, None]
    assert found["bits"].tolist() == [8, 8.5, 32]
    assert len(qsweep.list_formats()) > 20
    with pytest.raises(qsweep.Error, match="unknown format 'e4n3'"):
        qsweep.list_formats("e4n3")


def test_public_names_are_documented_and_listed_by_dir() -> None:
    for name in qsweep.__all__:
        assert inspect.getdoc(getattr(qsweep, name)), name
    assert set(qsweep.__all__) <= set(dir(qsweep))
    with pytest.raises(AttributeError, match="module 'qsweep' has no attribute 'rnu'"):
        qsweep.rnu  # noqa: B018
