"""Spec files: every mistake at its place."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from qsweep.errors import SpecError, UserError
from qsweep.spec.file import NAME, Spec, read

GOOD = "trial: {data: digits, model: mlp}\n"


def spec(folder: Path, text: str, *overrides: str, name: str = "mine") -> Spec:
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return read(folder / f"{name}.yaml", overrides, shown="mine.yaml")


def wrong(folder: Path, text: str, *overrides: str, name: str = "mine") -> list[str]:
    with pytest.raises(UserError) as caught:
        spec(folder, text, *overrides, name=name)
    return str(caught.value).splitlines()


# --- the top level ----------------------------------------------------------------------------------------------------


def test_spec_has_the_values_of_the_file(tmp_path: Path) -> None:
    found = spec(tmp_path, GOOD + "name: mine\ntitle: A title\nseeds: 2\ngrid: {lr: [1, 2]}\nplots: []\n")
    assert (found.name, found.title, found.seeds, len(found.blocks)) == ("mine", "A title", (0, 1), 1)


@pytest.mark.parametrize("text", ["", "# nothing\n", "- 1\n", "trial\n", "3\n"])
def test_file_without_a_mapping_at_the_top_level_is_refused(tmp_path: Path, text: str) -> None:
    (line,) = wrong(tmp_path, text)
    assert "expected a mapping with trial, grid, …" in line


def test_every_mistake_of_a_file_is_reported_at_once_with_its_place(tmp_path: Path) -> None:
    text = (
        "name: other\ntitle: [1]\ntrail: {}\ntrial:\n  data: minst\n  lr: zero\ngrid:\n  bitwith: [1]\n  epochs: []\n"
        "zip: {lr: [1], scale: [1, 2]}\nseeds: 0\nplots:\n  - {kind: pie}\n  - {kind: lines, y: accuracy}\nmax_trials: x\n"
    )
    found = wrong(tmp_path, text)
    assert [line.split(": ")[:2] for line in found] == [
        ["mine.yaml:1:1", "name"],
        ["mine.yaml:2:1", "title"],
        ["mine.yaml:3:1", "trail"],
        ["mine.yaml:5:3", "trial.data"],
        ["mine.yaml:6:3", "trial.lr"],
        ["mine.yaml:8:3", "grid.bitwith"],
        ["mine.yaml:9:3", "grid.epochs"],
        ["mine.yaml:10:1", "zip"],
        ["mine.yaml:11:1", "seeds"],
        ["mine.yaml:13:6", "plots[0].kind"],
        ["mine.yaml:14:5", "plots[1]"],
        ["mine.yaml:14:19", "plots[1].y"],
        ["mine.yaml:15:1", "max_trials"],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gird: {}", "mine.yaml:2:1: gird: unknown key 'gird'; did you mean 'grid'?"),
        ("trial: {lr: 1}", "mine.yaml:2:1: trial: this key is listed twice"),
        ("grid: {lr: [1], lr: [2]}", "mine.yaml:2:17: grid.lr: this key is listed twice"),
        ("grid:", "mine.yaml:2:1: grid: found null, expected a mapping"),
        ("plots: {}", "mine.yaml:2:1: plots: found {}, expected a list of plots"),
        ("max_trials: true", "max_trials: found true, expected an integer from 1"),
        ("max_trials: 0", "max_trials: found 0, expected an integer from 1"),
        ("stack: 0", "stack: found 0, expected an integer from 1"),
        ("stack: 1.5", "stack: found 1.5, expected an integer from 1"),
        ("name: 3", "name: found 3, expected a string"),
    ],
)
def test_mistake_at_the_top_level_is_reported(tmp_path: Path, text: str, message: str) -> None:
    (line,) = wrong(tmp_path, GOOD + text)
    assert message in line


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: No such file"):
        read(tmp_path / "none.yaml")


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "lr_bitwidth", "v1.2", "_x", "A-b", "a" * 64])
def test_name_that_can_be_a_folder_is_accepted(tmp_path: Path, name: str) -> None:
    assert spec(tmp_path, GOOD, name=name).name == name


@pytest.mark.parametrize("name", [".x", "my spec", "é", "a;b", "a" * 65, "a\nb"])
def test_name_that_can_not_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    assert any("can't name a folder" in line for line in wrong(tmp_path, GOOD, name=name))


@pytest.mark.parametrize("name", ["../x", "x/y", "/x", "..", "", ".", "-/..", "a\0"])
def test_name_pattern_matches_no_path(name: str) -> None:
    assert not NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["../x", "other", ".x", "a b"])
def test_name_other_than_that_of_the_file_is_refused(tmp_path: Path, name: str) -> None:
    (line,) = wrong(tmp_path, GOOD + f"name: {name}\n")
    assert line == f"mine.yaml:2:1: name: found '{name}', but the file's name is 'mine': make them equal"


def test_name_of_the_committed_results_is_refused(tmp_path: Path) -> None:
    for name in ("reference", "weights"):
        assert f"results/{name}/ is reserved" in wrong(tmp_path, GOOD, name=name)[0]


def test_folder_is_the_name_and_six_digits_of_the_overrides(tmp_path: Path) -> None:
    assert spec(tmp_path, GOOD).folder == "mine"
    one, same, other = (spec(tmp_path, GOOD, *o).folder for o in (["lr=1", "epochs=2"], ["epochs=2", "lr=1"], ["lr=2"]))
    assert re.fullmatch(r"mine@[0-9a-f]{6}", one)
    assert one == same != other


# --- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("", (0,)),
        ("seeds: 1", (0,)),
        ("seeds: {count: 1}", (0,)),
        ("seeds: 3", (0, 1, 2)),
        ("seeds: 20", tuple(range(20))),
        ("seeds: {count: 100}", tuple(range(100))),
        ("seeds: [7, 0, 3]", (7, 0, 3)),
        ("seeds: [9223372036854775807]", (2**63 - 1,)),
    ],
)
def test_seeds_are_a_number_or_a_list(tmp_path: Path, text: str, seeds: tuple[int, ...]) -> None:
    assert spec(tmp_path, GOOD + text).seeds == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: 0", "found 0, expected a number of seeds or a list of them"),
        ("seeds: x", 'found "x", expected a number of seeds or a list of them'),
        ("seeds: 21", "(more than 20: write {count: 21})"),
        ("seeds: -1", "found -1"),
        ("seeds: 1.5", "found 1.5"),
        ("seeds: true", "found true"),
        ("seeds: []", "found []"),
        ("seeds: [1, 1]", "a seed is listed twice"),
        ("seeds: [-1]", "found [-1]"),
        ("seeds: [9223372036854775808]", "found [9223372036854775808]"),
        ("seeds: [a]", 'found ["a"]'),
        ("seeds: {count: 0}", 'found {"count": 0}'),
        ("seeds: {count: 3, x: 1}", "found"),
        ("seeds: {count: 1000000000}", "1,000,000,000 values: at most 100,000"),
        ("seeds:", "found null"),
    ],
)
def test_wrong_seeds_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (line,) = wrong(tmp_path, GOOD + text)
    assert line.startswith("mine.yaml:2:1: seeds: ")
    assert message in line
    assert ("write {count:" in line) == (text == "seeds: 21")


# --- size -------------------------------------------------------------------------------------------------------------

HUGE = GOOD + "grid:\n  lr: {linspace: [0.1, 1, 5000]}\n  momentum: {linspace: [0, 0.9, 2000]}\n"


def test_ten_million_trials_are_refused_with_the_count(tmp_path: Path) -> None:
    (line,) = wrong(tmp_path, HUGE)
    assert line == (
        "mine.yaml:2:1: grid: 10,000,000 trials, more than 100,000: if this is intended, write `max_trials: 10000000`"
    )


def test_ten_million_trials_are_accepted_with_max_trials(tmp_path: Path) -> None:
    assert spec(tmp_path, HUGE + "max_trials: 10000000").blocks[0].size == 10_000_000


def test_size_counts_seeds_and_all_blocks(tmp_path: Path) -> None:
    text = GOOD + "grid: {lr: [1, 2]}\nalso: [{grid: {lr: [1, 2, 3]}}]\nseeds: 2\nmax_trials: "
    assert spec(tmp_path, text + "10")
    assert "10 trials, more than 9" in wrong(tmp_path, text + "9")[0]


# --- plots ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plot",
    [
        "{kind: surface, x: lr, y: bitwidth, z: test_accuracy, facet: zero, title: Two words, name: my-plot}",
        "{kind: heatmap, x: lr, y: bitwidth, z: train_loss}",
        "{kind: lines, x: epoch, y: test_loss, line: lr}",
        "{kind: histogram, place: linear1.weight, line: lr, range: 0.1}",
        "{kind: histogram, place: linear1.weight, range: [-0.1, 1]}",
    ],
)
def test_plot_is_accepted(tmp_path: Path, plot: str) -> None:
    assert len(spec(tmp_path, GOOD + f"plots: [{plot}]").plots) == 1


@pytest.mark.parametrize(
    ("plot", "message"),
    [
        ("lines", 'plots[0]: found "lines", expected a mapping with a kind: surface, heatmap, threshold'),
        ("{}", "plots[0]: found {}, expected a mapping with a kind"),
        ("{kind: [lines]}", 'plots[0]: found {"kind": ["lines"]}, expected a mapping with a kind'),
        ("{kind: heatmpa}", "plots[0].kind: unknown kind of plot 'heatmpa'; did you mean 'heatmap'?"),
        (
            "{kind: lines, x: lr, y: test_acuracy}",
            "plots[0].y: unknown metric 'test_acuracy'; did you mean 'test_accuracy'?",
        ),
        ("{kind: heatmap, x: lr, y: zero, z: lr}", "plots[0].z: unknown metric 'lr'"),
        (
            "{kind: threshold, x: lr, y: zero, z: test_loss}",
            "plots[0].z: test_loss is not an accuracy to reach (one of: test_",
        ),
        (
            "{kind: heatmap, x: lr, y: zero, z: weight_zero, reach: 0.5}",
            "plots[0].z: weight_zero is not an accuracy to reach",
        ),
        ("{kind: lines, x: epoch, y: seconds}", "plots[0].y: seconds are per trial, not per epoch"),
        ("{kind: heatmap, x: lr, z: test_loss}", "plots[0]: a heatmap needs y"),
        ("{kind: lines, x: lr, y: test_loss, z: lr}", "plots[0].z: unknown key 'z'"),
        ("{kind: lines, x: 3, y: test_loss}", "plots[0].x: found 3, expected a string"),
        ("{kind: lines, x: lr, y: test_loss, facet: null}", "plots[0].facet: found null, expected a string"),
        ("{kind: lines, x: lr, y: test_loss, name: ../x}", "plots[0].name: '../x' can't name a file"),
        ("{kind: lines, x: lr, y: test_loss, name: .x}", "plots[0].name: '.x' can't name a file"),
        ("{kind: lines, x: lr, y: test_loss, range: 1}", "plots[0].range: unknown key 'range'"),
        ("{kind: histogram}", "plots[0]: a histogram needs place"),
        ("{kind: histogram, place: a, y: test_loss}", "plots[0].y: unknown key 'y'"),
        ("{kind: histogram, place: a, range: -1}", "plots[0].range: found -1, expected a number above 0"),
        ("{kind: histogram, place: a, range: [1, 1]}", "plots[0].range: found [1, 1], expected a number above 0"),
        ("{kind: histogram, place: a, range: null}", "plots[0].range: found null, expected a number above 0"),
        ("{kind: histogram, place: a, range: [1, true]}", "plots[0].range: found [1, true], expected"),
    ],
)
def test_wrong_plot_is_refused(tmp_path: Path, plot: str, message: str) -> None:
    (line,) = wrong(tmp_path, GOOD + f"plots: [{plot}]")
    assert message in line


# --- overrides --------------------------------------------------------------------------------------------------------


def test_override_is_read_as_yaml(tmp_path: Path) -> None:
    trial = spec(tmp_path, GOOD, "lr=1e-3", "zero=false", "init=normal(0.1)", "model.hidden=[8, 16]").blocks[0].trial
    assert (trial["lr"], trial["zero"], trial["init"]) == (0.001, False, {"name": "normal", "std": 0.1})
    assert trial["model"] == {"name": "mlp", "hidden": [8, 16]}


def test_override_sets_the_seeds(tmp_path: Path) -> None:
    assert spec(tmp_path, GOOD + "seeds: 9", "seeds=[4, 5]").seeds == (4, 5)
    assert wrong(tmp_path, GOOD, "seeds=x") == ['-S seeds: found "x", expected a number of seeds or a list of them']


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr", "-S lr: expected NAME=VALUE, such as -S lr=0.1"),
        ("=3", "-S =3: expected NAME=VALUE"),
        ("lr=[1", "-S lr:1:3: invalid YAML"),
        ("lr=!!float 3", "-S lr:1:1: tag"),
        ("lr=", "-S lr: found null, expected a number above 0"),
        ("lr=.inf", "-S lr:1:1: '.inf' is not a finite number"),
        ("lrr=1", "-S lrr: unknown parameter 'lrr'; did you mean 'lr'?"),
        ("title=x", "-S title: unknown parameter 'title'"),
    ],
)
def test_wrong_override_is_refused(tmp_path: Path, override: str, message: str) -> None:
    (line,) = wrong(tmp_path, GOOD, override)
    assert line.startswith(message)


def test_wrong_override_is_reported_once_for_many_blocks(tmp_path: Path) -> None:
    text = GOOD + "grid: {lr: [1]}\nalso: [{grid: {lr: [2]}}, {grid: {lr: [3]}}]\n"
    assert len(wrong(tmp_path, text, "lr=0")) == 1


# --- files beside the spec --------------------------------------------------------------------------------------------


def test_problem_in_the_base_points_to_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\ntrial:\n  data: digits\n  model: mlp\n  lr: 0\n")
    found = wrong(tmp_path, "extends: base.yaml\ntrial: {epochs: 0}\n")
    assert [line[: line.index(" found")] for line in found] == [
        "base.yaml:5:3: trial.lr:",
        "mine.yaml:2:9: trial.epochs:",
    ]


def test_digests_are_those_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("x = 1\n")
    found = spec(tmp_path, "trial: {data: digits, model: 'nets.py:net'}")
    assert found.digests == {"nets.py": hashlib.sha256(b"x = 1\n").hexdigest()}


def test_large_wrong_file_has_a_short_message(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        spec(tmp_path, GOOD + "grid: {lr: {linspace: [-1, 0, 5000]}}")
    assert len(caught.value.problems) == 5_000
    assert len(str(caught.value)) < 2_000


# --- mistakes of -S ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["lr=0.1", "lr=0.01"], "-S lr is given twice"),
        (["lr=0.1", "seeds=3", "lr=0.1"], "-S lr is given twice"),
        (["seeds=3", "seeds=5"], "write several values as a list: -S 'seeds=[…, …]'"),
        (
            ["lr=0.1,0.01"],
            "-S lr: found \"0.1,0.01\", expected a number above 0; write several values as a list: -S 'lr=[0.1, 0.01]'",
        ),
        (["lr=0.1 0.01"], "-S 'lr=[0.1, 0.01]'"),
        (["seeds=1,2"], "-S 'seeds=[1, 2]'"),
        (["epochs=1,2"], "-S 'epochs=[1, 2]'"),
        (["trial.lr=0.1"], "unknown parameter 'trial.lr'; did you mean 'lr'?"),
        (["grid.lr=0.1"], "unknown parameter 'grid.lr'; did you mean 'lr'?"),
        (["LR=0.1"], "unknown parameter 'LR'; did you mean 'lr'?"),
        (["title=x"], "'title' is not a trial parameter but a key of the spec"),
        (["lr:0.1"], "-S lr:0.1: expected NAME=VALUE"),
        (["=0.1"], "-S =0.1: expected NAME=VALUE"),
        (["lr=[0.1"], "-S lr:1:5: invalid YAML"),
        (["lr=\u22121"], "found U+2212 (minus sign)"),
    ],
)
def test_wrong_override_is_refused_with_the_correction(tmp_path: Path, overrides: list[str], message: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("trial: {data: digits, model: softmax, epochs: 1}\ngrid: {lr: [0.5]}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read(path, overrides)
    assert message in str(caught.value)


def test_trial_parameter_at_the_top_level_is_reported_as_one_for_trial(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("lr: 1\ntrial: {data: digits, model: softmax}\nalso: [{epochs: 2}]\n", encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        read(path)
    assert "s.yaml:1:1: lr: 'lr' is a trial parameter: write it in `trial`" in str(caught.value)
    assert "'epochs' is a trial parameter" in str(caught.value)
