"""The command line as users see it: its output, the streams it goes to, and exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from commands import qsweep

from qsweep.cli import report
from qsweep.cli.main import cli
from qsweep.cli.why import explanation
from qsweep.errors import UserError
from qsweep.results.store import Store
from qsweep.runner.export import export
from qsweep.runner.outlook import Unmet
from qsweep.spec.find import find

SPEC = """
trial:
  data: digits
  model: {name: mlp, hidden: [9]}
  epochs: 2
  batch_size: 100
  quantize: {weight: range4}
grid:
  lr: [0.5, 0.25]
  model.dropout: [0, 0.5]
plots:
  - {kind: lines, x: epoch, y: test_accuracy, line: lr, facet: model.dropout}
"""


class Shell:
    """A folder to run commands in."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "QSWEEP_DATA": str(data), "QSWEEP_OFFLINE": "1", "COLUMNS": "100"}

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        done = qsweep(self.folder, self.environment, *words)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Shell:
    """A folder in which tiny.yaml has run."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "tiny.yaml").write_text(SPEC, encoding="utf-8")
    shell = Shell(folder, data_folder)
    shell("run", "tiny.yaml", "--backend", "serial")
    return shell


def keys(shell: Shell) -> list[str]:
    lines = (shell.folder / "results" / "tiny" / "trials.csv").read_text().splitlines()[1:]
    return [line.split(",")[0] for line in lines]


def test_dry_run_names_the_places_of_a_net_whose_activations_are_rounded(shell: Shell) -> None:
    out, _ = shell("run", "-n", "tiny.yaml", "-S", "quantize.activation=fixed8f4")
    assert "places of mlp: linear1, relu1, linear2; outputs are rounded at relu1, linear2\n" in out


BY_HAND = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(10, 64) / 8)

    def forward(self, x):
        return x.flatten(1) @ self.w.t()

def net(shape, classes):
    return Net()
"""
LACKING = "not rounded in hand.py:net: w (640 values)"


def test_parts_that_a_role_names_but_nothing_rounds_are_reported_by_every_command(shell: Shell) -> None:
    (shell.folder / "hand.py").write_text(BY_HAND, encoding="utf-8")
    spec = "trial: {data: digits, model: 'hand.py:net', epochs: 1, quantize: {weight: range4}}"
    (shell.folder / "hand.yaml").write_text(spec, encoding="utf-8")
    own = ("--results", "elsewhere")
    out, _ = shell("run", "-n", "hand.yaml", *own)
    assert LACKING in out
    _, err = shell("run", "--strict", "hand.yaml", *own, code=2)
    assert LACKING in err
    assert not (shell.folder / "elsewhere" / "hand" / "trials.csv").exists()
    _, err = shell("run", "hand.yaml", "--backend", "serial", *own)
    assert err.count(LACKING) == 1
    header, row = (shell.folder / "elsewhere" / "hand" / "trials.csv").read_text().splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["not_rounded"] == "w (640 values)"
    out, _ = shell("why", row[:10], *own)
    assert "not rounded\n  w (640 values)\n" in out
    for words in (["run", "hand.yaml"], ["run", "-n", "hand.yaml"]):  # also when all is known
        assert LACKING in "".join(shell(*words, *own))
    shell("run", "--strict", "hand.yaml", *own, code=2)


def test_run_refuses_a_place_that_the_net_does_not_have_before_it_trains(shell: Shell) -> None:
    _, err = shell("run", "tiny.yaml", "-S", "layers={conv1: float32}", "--results", "refused", code=2)
    assert "layers.conv1: unknown place 'conv1' (one of: linear1, relu1, linear2)" in err


def test_run_reports_how_many_more_parts_are_not_rounded_and_where_all_are_listed() -> None:
    unmet = Unmet({"m": list("abcde")}, {})
    assert list(unmet.lines(report.SHOWN)) == ["not rounded in m: a, b, c and 2 more (`-n` lists them)"]
    assert list(unmet.lines()) == ["not rounded in m: a, b, c, d, e"]


IDLE = {
    "a role of norms": ("quantize: {norm: range}", "mlp: norm"),
    "the state of an optimizer without any": ("quantize: {momentum: block}", "mlp with sgd: momentum"),
    "a stage of norms": ("stages: [{compress: {norm_scale: uniform}}]", "mlp: compress norm_scale"),
    "what layers leaves in float32 everywhere": ("model: softmax, quantize: {weight: range}, layers: float32_ends", "softmax: weight"),
}  # fmt: skip


@pytest.mark.parametrize(("trial", "expected"), IDLE.values(), ids=IDLE.keys())
def test_roles_and_stages_that_nothing_has_are_reported_and_refused_by_strict(
    shell: Shell, trial: str, expected: str
) -> None:
    model = "" if "model" in trial else "model: {name: mlp, hidden: [8]}, "
    (shell.folder / "idle.yaml").write_text(
        f"trial: {{data: digits, {model}epochs: 1, {trial}}}\ngrid: {{bitwidth: [2, 4]}}", encoding="utf-8"
    )
    line = f"quantized without effect in {expected}\n"
    out, _ = shell("run", "-n", "idle.yaml")
    assert line in out
    _, err = shell("run", "--strict", "idle.yaml", code=2)
    assert f"idle: {line}" in err
    _, err = shell("run", "idle.yaml", "--backend", "serial", "--no-plot", "--results", "idle")
    assert err.count(line) == 1


def test_run_prints_paths_to_stdout_and_messages_to_stderr(shell: Shell) -> None:
    out, err = shell("run", "tiny.yaml")
    assert out.splitlines() == [
        "results/tiny/trials.csv",
        "results/tiny/figures/lines-test_accuracy.png",
        "results/tiny/figures/lines-test_accuracy.pdf",
    ]
    assert err.splitlines() == ["tiny: 4 trials, known 4, to train 0", "trained 0, known 4"]


def test_dry_run_prints_trials_stacks_and_time_and_trains_nothing(shell: Shell) -> None:
    before = sorted(shell.folder.rglob("*"))
    out, _ = shell("run", "tiny.yaml", "-n", "-S", "lr=[0.5, 0.25, 0.125]", "-j", "1")
    assert out.splitlines()[0].endswith("6 trials, known 4, to train 2")
    assert "2 stacks of 1" in out
    assert "estimated from similar trials" in out
    out, _ = shell("run", "tiny.yaml", "-n", "-S", "lr=[0.125]", "-S", "model.dropout=[0, 0.25]")
    assert "for 1 of them, estimated from similar trials; the others are new" in out
    out, _ = shell("run", "tiny.yaml", "-n", "-S", "batch_size=77")
    assert "nothing similar has run here yet" in out
    assert sorted(shell.folder.rglob("*")) == before


def test_table_shows_what_varies_and_the_metrics(shell: Shell) -> None:
    out, _ = shell("table", "results/tiny")
    head, *rows = out.splitlines()
    assert head.split() == [
        "key", "status", "lr", "model.dropout", "test_accuracy", "test_loss", "train_accuracy", "train_loss",
    ]  # fmt: skip
    assert [row.split()[0] for row in rows] == [key[:10] for key in keys(shell)]


def test_table_without_a_path_prints_all_sweeps_of_the_results_folder(shell: Shell) -> None:
    assert shell("table")[0] == shell("table", "results/tiny")[0]


def test_table_over_seeds_goes_to_stdout_and_its_explanation_to_stderr(shell: Shell) -> None:
    out, err = shell("table", "--aggregate")
    assert out.splitlines()[0].split()[:4] == ["lr", "model.dropout", "n", "test_accuracy"]
    assert [row.split()[:3] for row in out.splitlines()[1:]] == [
        ["0.5", "0", "1"], ["0.5", "0.5", "1"], ["0.25", "0", "1"], ["0.25", "0.5", "1"],
    ]  # fmt: skip
    assert err == "results/tiny/trials.csv: mean ± half of its 95 % interval, over the n seeds that are done\n"
    out, err = shell("table", "results/tiny", "--against", "lr=0.5")
    assert [row.split()[:2] for row in out.splitlines()[1:]] == [["0.25", "0"], ["0.25", "0.5"]]
    assert "difference from the trial of the same seed with lr=0.5: mean ± half" in err


def test_table_csv_prints_nothing_else_to_stdout(shell: Shell) -> None:
    file = (shell.folder / "results" / "tiny" / "trials.csv").read_text()
    assert shell("table", "--csv")[0] == file
    for words in (("--aggregate",), ("--against", "lr=0.5")):
        head, *rows = [line.split(",") for line in shell("table", "--csv", *words)[0].splitlines()]
        assert head[:3] == ["lr", "model.dropout", "n"]
        assert {len(row) for row in rows} == {len(head)}
    assert rows[0][:4] == ["0.25", "0.0", "1", "0"]


def test_table_refuses_what_it_cannot_compare_or_print(shell: Shell, tmp_path: Path) -> None:
    assert "did you mean 'model.dropout'?" in shell("table", "--against", "model.dropuot=0", code=2)[1]
    assert "one of them at a time" in shell("table", "--aggregate", "--against", "lr=0.5", code=2)[1]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trials.csv").write_text((shell.folder / "results" / "tiny" / "trials.csv").read_text())
    assert "there are 2: name one of" in shell("table", str(tmp_path), "--csv", code=2)[1]
    assert shell("table", str(tmp_path), "--aggregate")[0] == 2 * shell("table", "--aggregate")[0]


def test_status_counts_trials_by_status_and_reports_that_nothing_runs(shell: Shell) -> None:
    out, _ = shell("status")
    assert out.splitlines()[0].split() == ["sweep", "trials", "done", "diverged", "failed", "timeout", "missing"]
    assert out.splitlines()[1].split() == ["tiny", "4", "4", "·", "·", "·", "·"]
    assert out.splitlines()[-1] == "nothing is running"


def test_why_explains_the_trial_whose_key_begins_with_the_argument(shell: Shell) -> None:
    key = keys(shell)[1]
    out, _ = shell("why", key[:8])
    assert out.startswith(f"{key}\ndone: test accuracy ")
    for word in (
        "optimizer.lr",
        "quantize.weight.bitwidth",
        "epoch",
        "environment",
        "stack",
        "torch",
        "git" and "source",
    ):
        assert word in out


@pytest.mark.parametrize(("key", "message"), [("0000000000000000", "no record's key begins"), ("xyz", "is not a key")])
def test_why_refuses_an_unknown_key(shell: Shell, key: str, message: str) -> None:
    assert message in shell("why", key, code=2)[1]


def test_unknown_key_suggests_the_nearest_key_or_where_the_keys_are_shown(shell: Shell) -> None:
    key = keys(shell)[0][:10]
    results = shell.folder / "results"
    swapped = key[:3] + key[4] + key[3] + key[5:]
    wrong = swapped if swapped != key else f"{key[:3]}{'0' if key[3] != '0' else '1'}{key[4:]}"
    for given in (wrong, key[:4] + key[5:], f"{key[:4]}0{key[4:9]}"):
        with pytest.raises(UserError, match=rf"did you mean {key[:8]}.*\(`qsweep table` shows the keys\)"):
            explanation(results / "store.db", given)
        with pytest.raises(UserError, match=f"did you mean {key[:8]}"):
            export(results, given, Path("w.safetensors"), print)
    with pytest.raises(UserError, match=r"begins with 0000 \(`qsweep table` shows the keys\)"):
        explanation(results / "store.db", "0000")


@pytest.mark.parametrize("has_store", [False, True])
def test_key_of_a_mailed_table_without_a_record_is_reported_with_the_command_that_trains_it(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_store: bool
) -> None:
    key = keys(shell)[0][:10]
    shutil.copytree(shell.folder / "results" / "tiny", tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    if has_store:
        Store.open(Path("results/store.db")).close()
    message = (
        f"results has no record of {key}, which tiny/trials.csv shows: it was trained elsewhere; `qsweep run"
        " tiny/spec.yaml` trains it here"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        explanation(Path("results/store.db"), key)
    with pytest.raises(UserError, match=re.escape(message)):
        export(Path("results"), key, Path("w.safetensors"), print)
    with pytest.raises(UserError, match="no store at" if not has_store else "begins with 0000"):
        explanation(Path("results/store.db"), "0000")


def test_plot_draws_sweep_folders_results_folders_and_spec_files(shell: Shell) -> None:
    expected = ["results/tiny/figures/lines-test_accuracy.png", "results/tiny/figures/lines-test_accuracy.pdf"]
    for words in ((), ("results",), ("results/tiny",), ("tiny.yaml",)):
        assert shell("plot", *words)[0].splitlines() == expected


def test_store_check_counts_sound_records(shell: Shell) -> None:
    assert shell("store", "check")[0] == "4 records are sound\n"


def test_formats_lists_facts_families_formulas_and_values(shell: Shell) -> None:
    rows = [line.split() for line in shell("formats")[0].splitlines() if line]
    assert ["e4m3", "8", "253", "448", "·", "2^-6", "2^-9", "·", "NaN", "·"] in rows
    assert "range" in [row[0] for row in rows]
    formula = shell("formats", "range")[0]
    assert "has no positive weights" in formula
    assert "ties to even" in formula
    assert shell("formats", "range2")[0].splitlines()[-4:] == ["10  -1", "11  -0.5", "00  0", "01  0.5"]
    both = shell("formats", "nvfp4", "e2m1")[0]
    assert "4.5 bits per value" in both
    assert both.endswith("0 11 1  6\n")
    assert "unknown format 'rnge4'; did you mean 'range4'?" in shell("formats", "rnge4", code=2)[1]


def test_formats_plot_writes_a_figure_and_prints_its_path(shell: Shell) -> None:
    assert shell("formats", "e4m3", "range4", "--plot")[0] == "formats.png\n"
    assert (shell.folder / "formats.png").read_bytes().startswith(b"\x89PNG")
    assert shell("formats", "e2m1", "--plot", "drawn/two.pdf")[0] == "drawn/two.pdf\n"
    assert (shell.folder / "drawn" / "two.pdf").read_bytes().startswith(b"%PDF")
    assert "needs formats to draw" in shell("formats", "--plot", code=2)[1]
    assert "ends in .png or .pdf" in shell("formats", "--plot", "e4m3", code=2)[1]
    assert "more than 65,536" in shell("formats", "tf32", "--plot", code=2)[1]


def test_data_list_shows_which_data_sets_are_ready(shell: Shell) -> None:
    out, _ = shell("data", "list")
    rows = {line.split()[0]: line.split()[1] for line in out.splitlines() if line}
    assert rows["digits"] == "ready"
    assert rows["mnist"] == "absent"
    assert "did you mean 'mnist'" in shell("data", "get", "mnits", code=2)[1]


def test_data_add_reports_which_files_it_expects(shell: Shell, tmp_path: Path) -> None:
    assert "train-images" in shell("data", "add", "mnist", str(tmp_path), code=2)[1]


def test_schema_is_json(shell: Shell) -> None:
    assert json.loads(shell("schema")[0])["title"] == "qsweep spec"


def test_mistyped_command_option_and_spec_suggest_the_nearest_name(shell: Shell) -> None:
    assert "did you mean 'run'" in shell("rnu", code=2)[1]
    assert "--stack" in shell("run", "tiny.yaml", "--stak", "3", code=2)[1]
    assert "did you mean 'quickstart'" in shell("run", "quickstrt", code=2)[1]
    assert "did you mean 'quantized_weights'" in shell("reproduce", "quantised_weights", code=2)[1]


def test_run_reports_all_mistakes_of_a_spec_with_their_lines(shell: Shell) -> None:
    text = "trial:\n  data: digts\n  model: mlp\n  batchsize: 3\ngrid:\n  lr: [0.1, x]\n"
    (shell.folder / "wrong.yaml").write_text(text)
    _, err = shell("run", "wrong.yaml", code=2)
    assert "wrong.yaml:2:3: trial.data: unknown data 'digts'; did you mean 'digits'?" in err
    assert "wrong.yaml:4:3: trial.batchsize: unknown parameter 'batchsize'; did you mean 'batch_size'?" in err
    assert 'wrong.yaml:6:13: grid.lr[1]: found "x", expected a number above 0' in err


def test_commands_without_results_report_how_to_create_some(tmp_path: Path, data_folder: Path) -> None:
    shell = Shell(tmp_path, data_folder)
    for words in (("table",), ("plot",), ("status",), ("why", "abc"), ("store", "check")):
        assert "qsweep run SPEC" in shell(*words, code=2)[1]


def test_internal_error_exits_with_3_and_writes_its_traceback_to_a_file(tmp_path: Path) -> None:
    code = "import qsweep.cli.main as c\nc.cli.commands['schema'].callback = lambda: 1 / 0\nimport sys\nsys.argv[1:] = ['schema']\nc.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in (tmp_path / "qsweep-crash.txt").read_text()


def test_every_command_has_help_and_is_in_the_guide_or_the_readme() -> None:
    text = Path("README.md").read_text() + Path("docs/guide.md").read_text()
    for name, command in cli.commands.items():
        assert command.get_short_help_str(), name
        assert f"qsweep {name}" in text, name


def test_make_reproduce_runs_every_config_of_the_study(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "configs" / "tiny.yaml").write_text(SPEC)
    (tmp_path / "sweeps" / "mine.yaml").write_text("title: Mine\ndocument: A note\nconfigs: [tiny]\n")
    own = Shell(tmp_path, Path(shell.environment["QSWEEP_DATA"]))
    _, err = own("reproduce", "-j", "1")
    assert "Mine (A note)" in err
    assert (tmp_path / "results" / "tiny" / "figures" / "lines-test_accuracy.pdf").is_file()
    (tmp_path / "sweeps" / "mine.yaml").write_text("title: Mine\ndocument: A note\nconfigs: [tinny]\nextra: 1\n")
    _, err = own("reproduce", code=2)
    assert "unknown key 'extra'" in err


@pytest.mark.parametrize("name", ["tinny", "tinny.yaml", "x" * 300, "a/" + "x" * 300 + ".yaml", "trial:\n  lr: 1\n"])
def test_spec_that_does_not_exist_is_reported(shell: Shell, name: str) -> None:
    assert shell("run", name, code=2)[1].startswith((f"{name} does not exist", "no '"))


def test_all_specs_are_read_and_their_nets_built_before_the_first_trains(shell: Shell) -> None:
    (shell.folder / "good.yaml").write_text(SPEC.replace("0.5, 0.25", "0.75"))
    (shell.folder / "typo.yaml").write_text(SPEC.replace("epochs", "epoch"))
    (shell.folder / "typos.yaml").write_text(SPEC.replace("mlp", "mpl"))
    (shell.folder / "place.yaml").write_text(SPEC.replace("  epochs: 2", "  epochs: 2\n  layers: {conv1: float32}"))
    axis = "quantize: {weight: uniform4 per=channel axis=3}"
    (shell.folder / "axis.yaml").write_text(SPEC.replace("quantize: {weight: range4}", axis))
    (shell.folder / "twin").mkdir()
    (shell.folder / "twin" / "good.yaml").write_text(SPEC)
    for others, expected in (
        (
            ("typo.yaml", "typos.yaml"),
            ("typo.yaml:5:3", "typos.yaml:4:3", "did you mean 'epochs'", "did you mean 'mlp'"),
        ),
        (("place.yaml",), ("unknown place 'conv1'",)),
        (
            ("axis.yaml",),
            (
                "quantize.weight: ",
                "there is no axis 3 in linear1.weight of shape (9, 64); linear2.weight",
            ),
        ),
        (("nowhere.yaml",), ("nowhere.yaml does not exist",)),
        (("twin/good.yaml",), ("good.yaml and twin/good.yaml would both write results/good",)),
    ):
        _, err = shell("run", "good.yaml", *others, "--backend", "serial", code=2)
        assert all(words in err for words in expected), err
        assert not (shell.folder / "results" / "good").exists()


def test_missing_data_are_reported_by_a_dry_run_and_their_sweep_is_not_in_status(shell: Shell, tmp_path: Path) -> None:
    here = Shell(tmp_path, Path(shell.environment["QSWEEP_DATA"]))
    (tmp_path / "large.yaml").write_text(SPEC.replace("digits", "cifar10"))
    out, _ = here("run", "-n", "large.yaml", code=2)
    assert "cifar10 is not in " in out
    assert "can't be downloaded while QSWEEP_OFFLINE is set: `qsweep data get cifar10` downloads it" in out
    assert [path.name for path in tmp_path.iterdir()] == ["large.yaml"]
    here("run", "large.yaml", "--backend", "serial", code=2)
    assert "no results in results" in here("status", code=2)[1]
    assert [path.name for path in (tmp_path / "results").iterdir() if path.is_dir()] == []


def test_spec_in_this_folder_is_found_by_its_name(shell: Shell) -> None:
    assert shell("run", "tiny", "-n") == shell("run", "tiny.yaml", "-n")
    assert "did you mean 'tiny'?" in shell("run", "tinny", "-n", code=2)[1]
    assert "twin is a folder, not a spec" in shell("run", "./twin", "-n", code=2)[1]


def test_folder_or_name_without_its_suffix_suggests_the_intended_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("ex/spec.yaml", "other/one.yml", "results/tiny/spec.yaml"):
        Path(file).parent.mkdir(parents=True)
        Path(file).touch()
    for given, meant in (
        ("ex", "`ex/spec.yaml`"),
        ("./ex", "`ex/spec.yaml`"),
        ("ex/spec", "`ex/spec.yaml`"),
        ("other/one.yaml", "`other/one.yml`"),
        ("tiny", "`results/tiny/spec.yaml`"),
        ("results/tiny", "`results/tiny/spec.yaml`"),
    ):
        with pytest.raises(UserError, match=f"; did you mean {meant}\\?$"):
            find(given)


def test_results_are_found_by_the_name_of_their_folder(shell: Shell) -> None:
    for command in ("table", "status", "plot"):
        assert shell(command, "tiny")[0] == shell(command, "results/tiny")[0]
        assert shell(command, "results/tiny/trials.csv")[0] == shell(command, "tiny/history.csv")[0]
        assert shell(command, "results/tiny/trials.csv")[0] == shell(command, "results/tiny")[0]
        _, err = shell(command, "tinny", code=2)
        assert "no results in tinny; did you mean 'tiny'?" in err


def test_piped_output_does_not_depend_on_the_width_of_a_terminal(shell: Shell) -> None:
    key = keys(shell)[0][:10]
    for words in (("table",), ("table", "--aggregate"), ("status",), ("why", key)):
        expected = shell(*words)
        narrow = Shell(shell.folder, Path(shell.environment["QSWEEP_DATA"]))
        narrow.environment["COLUMNS"] = "20"
        assert narrow(*words) == expected


# --- figures ----------------------------------------------------------------------------------------------------------

NOTEBOOK = "module://matplotlib_inline.backend_inline"


def in_notebook(shell: Shell, folder: Path) -> Shell:
    """Another folder to run commands in, like `!qsweep` in a notebook: with its drawing backend, and no screen."""
    other = Shell(folder, Path(shell.environment["QSWEEP_DATA"]))
    other.environment["MPLBACKEND"] = NOTEBOOK
    return other


def test_run_plot_and_formats_draw_with_the_backend_of_a_notebook(shell: Shell, tmp_path: Path) -> None:
    notebook = in_notebook(shell, tmp_path)
    (tmp_path / "one.yaml").write_text(
        "trial: {data: digits, epochs: 1, batch_size: 500, model: softmax}\n"
        "plots: [{kind: lines, x: lr, y: test_accuracy}]\ngrid: {lr: [0.1]}\n"
    )
    figure = Path("results/one/figures/lines-test_accuracy.png")
    out, _ = notebook("run", "one.yaml", "--backend", "serial")
    assert str(figure) in out.splitlines()
    (tmp_path / figure).unlink()
    out, _ = notebook("plot")
    assert str(figure) in out.splitlines()
    assert (tmp_path / figure).is_file()
    assert notebook("formats", "e4m3", "--plot")[0] == "formats.png\n"
    assert (tmp_path / "formats.png").is_file()


TWO_FIGURES = """
trial: {data: digits, epochs: 1, batch_size: 500, model: softmax}
grid: {lr: [0.1, 0.2]}
plots:
  - {kind: lines, x: lr, y: test_loss, name: blocked}
  - {kind: lines, x: lr, y: test_accuracy, name: fits}
"""


def test_run_and_plot_report_a_figure_that_can_not_be_written_last_and_exit_with_2(
    shell: Shell, tmp_path: Path
) -> None:
    here = Shell(tmp_path, Path(shell.environment["QSWEEP_DATA"]))
    (tmp_path / "two.yaml").write_text(TWO_FIGURES)
    (tmp_path / "results/two/figures/blocked.png").mkdir(parents=True)
    run = ("run", "two.yaml", "--backend", "serial")
    for words, summary in (
        (run, "trained 2, known 0"),
        (run, "trained 0, known 2"),
        (("plot",), ""),
        (("plot", "two.yaml"), ""),
    ):
        out, err = here(*words, code=2)
        assert "can't write results/two/figures/blocked.png: Is a directory" in " ".join(err.split())
        assert summary in err
        tables = ["results/two/trials.csv"] if words is run else []
        assert out.splitlines() == [*tables, "results/two/figures/fits.png", "results/two/figures/fits.pdf"]


def test_run_with_a_failed_trial_and_a_failed_figure_exits_with_1(shell: Shell, tmp_path: Path) -> None:
    here = Shell(tmp_path, Path(shell.environment["QSWEEP_DATA"]))
    (tmp_path / "two.yaml").write_text(TWO_FIGURES)
    (tmp_path / "results/two/figures/blocked.png").mkdir(parents=True)
    out, err = here("run", "two.yaml", "--backend", "serial", "--timeout", "0.000001", code=1)
    assert "blocked.png" in err
    assert "2 timeout" in err
    assert "results/two/trials.csv" in out.splitlines()


def pages(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words that name each command and group of commands."""
    yield words
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from pages(inner, (*words, name))


@pytest.mark.parametrize("words", [*pages(cli)], ids=lambda words: "-".join(words) or "qsweep")
def test_help_page_fits_80_columns_and_no_summary_is_cut(words: tuple[str, ...]) -> None:
    page = CliRunner().invoke(cli, [*words, "--help"], env={"COLUMNS": "80"}).output
    assert page.startswith("Usage: ")
    assert [line for line in page.splitlines() if len(line) > 80] == []
    _, _, listed = page.partition("\nCommands:\n")
    assert [line for line in listed.splitlines() if line.endswith("...")] == []
