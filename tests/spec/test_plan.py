"""The rows of a spec, their order, and parameters that no trial reads."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from paths import CONFIGS

from qsweep.errors import SpecError
from qsweep.plots.cells import picture
from qsweep.plots.entry import read as read_entry
from qsweep.plots.threshold import threshold
from qsweep.results.folder import write
from qsweep.results.tables import read_trials
from qsweep.spec.file import read
from qsweep.spec.plan import Plan, expand
from qsweep.spec.plots import PLOT_KINDS
from qsweep.spec.reader import read_text

GOOD = "trial: {data: digits, model: mlp}\n"
QUANTIZED = "trial: {data: digits, model: mlp, quantize: {weight: range}, bitwidth: 8}\n"


def plan(folder: Path, text: str, *overrides: str) -> Plan:
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return expand(read(folder / "mine.yaml", overrides, shown="mine.yaml"))


def axes(found: Plan) -> list[Any]:
    """The axis values of each row, not in a tuple if there is only one axis."""
    return [row.axes[0] if len(row.axes) == 1 else row.axes for row in found.rows]


def wrong(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        plan(folder, text, *overrides)
    return str(caught.value).splitlines()


# --- the specs that we ship -------------------------------------------------------------------------------------------


def test_lr_bitwidth_has_255_rows_in_the_order_of_the_spec() -> None:
    found = expand(read(CONFIGS / "lr_bitwidth.yaml"))
    rates = [2.0**-e for e in range(15)]
    grid = list(itertools.product([True, False], rates, range(8, 0, -1)))
    assert found.axes == ("zero", "lr", "bitwidth")
    assert axes(found) == [*grid, *((None, lr, None) for lr in rates)]
    assert len(found.trials) == len(found.rows) == 255
    assert found.notes == ()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_config_expands_without_a_note(path: Path) -> None:
    found = expand(read(path))
    assert found.rows
    assert found.notes == ()


# --- order ------------------------------------------------------------------------------------------------------------


def test_trials_of_several_seeds_equal_those_of_each_seed_alone_and_share_their_columns(tmp_path: Path) -> None:
    stages = "[{compress: {weight: uniform4}}, {retrain: {codebook: free}}, {compress: {weight: kmeans8}}]"
    text = f"{QUANTIZED}grid: {{lr: [1, 2], stages: [[], {stages}]}}\n"
    together = plan(tmp_path, f"{text}seeds: [5, 3]\n").rows
    for seed, rows in ((5, together[::2]), (3, together[1::2])):
        alone = plan(tmp_path, f"{text}seeds: [{seed}]\n").rows
        assert rows == alone
        assert [row.trial.columns for row in rows] == [row.trial.columns for row in alone]
        assert [row.trial.bases for row in rows] == [row.trial.bases for row in alone]
    assert all(
        one.trial.columns is other.trial.columns for one, other in zip(together[::2], together[1::2], strict=True)
    )


def test_rows_are_ordered_by_block_variant_axes_as_written_and_seed(tmp_path: Path) -> None:
    text = GOOD + (
        "variants: {a: {}, b: {epochs: 2}}\nzip: {lr: [1, 2], momentum: [0.1, 0.2]}\ngrid: {weight_decay: [0, 0.5]}\n"
        "seeds: [5, 3]\nalso: [{grid: {lr: [9]}}]\n"
    )
    found = plan(tmp_path, text)
    assert found.axes == ("variant", "lr", "momentum", "weight_decay")
    grid = [(v, *z, w) for v in "ab" for z in ((1.0, 0.1), (2.0, 0.2)) for w in (0.0, 0.5)]
    assert [(*row.axes, row.trial.seed) for row in found.rows] == [
        *((*point, seed) for point in grid for seed in (5, 3)),
        *((None, 9.0, 0.0, 0.0, seed) for seed in (5, 3)),
    ]


def test_plan_without_axes_is_one_trial(tmp_path: Path) -> None:
    found = plan(tmp_path, GOOD)
    assert (found.axes, len(found.rows)) == ((), 1)


def test_points_with_the_same_key_are_one_trial_with_a_row_each(tmp_path: Path) -> None:
    found = plan(
        tmp_path, GOOD + "variants: {a: {lr: 1}, b: {}}\ngrid: {momentum: [0, 0.5]}\nalso: [{trial: {lr: 1}}]\n"
    )
    assert len(found.rows) == 5
    assert len(found.trials) == 4
    assert [trial.key for trial in found.trials] == [row.trial.key for row in found.rows[:4]]


def test_digest_changes_only_with_the_rows(tmp_path: Path) -> None:
    one, same, more, named = (
        plan(tmp_path, GOOD + text).digest
        for text in (
            "grid: {lr: [1, 2]}",
            "title: x\ngrid: {lr: [1.0, 2]}\nplots: [{kind: lines, x: lr, y: test_loss}]",
            "grid: {lr: [1, 2, 3]}",
            "variants: {a: {lr: 1}, b: {lr: 2}}",
        )
    )
    assert one == same
    assert len({one, more, named}) == 3


# --- axes -------------------------------------------------------------------------------------------------------------


def test_axis_that_only_some_trials_read_is_empty_for_the_others(tmp_path: Path) -> None:
    found = plan(tmp_path, QUANTIZED + "grid: {quantize.weight: [range, float32], bitwidth: [4, 2]}\n")
    assert axes(found) == [("range", 4), ("range", 2), ("float32", None), ("float32", None)]
    assert len(found.trials) == 3


@pytest.mark.parametrize(
    ("text", "axis", "shown"),
    [
        ("grid: {model.dropout: [0, 0.5]}", "model.dropout", [0.0, 0.5]),
        ("grid: {model.hidden: [[8], [8, 8]]}", "model.hidden", [[8], [8, 8]]),
        ("grid: {model: [softmax, {name: mlp, hidden: [8]}, mlp]}", "model", ["softmax", "mlp hidden=[8]", "mlp"]),
        ("grid: {init: [normal(0.1), he]}", "init", ["normal std=0.1", "he"]),
        ("grid: {quantize.weight: [range4, float32]}", "quantize.weight", ["range4", "float32"]),
        ("grid: {quantize.bias: [range4, {format: range, scale: 2}]}", "quantize.bias", ["range4", "range scale=2.0"]),
        ("grid: {quantize.weight.bitwidth: [4, 2]}", "quantize.weight.bitwidth", [4, 2]),
        ("grid: {quantize.bias.bitwidth: [4, 2]}", "quantize.bias.bitwidth", [4, 2]),
        ("grid: {data: [digits, mnist]}", "data", ["digits", "mnist"]),
        ("grid: {optimizer: [sgd, adam]}", "optimizer", ["sgd", "adam"]),
    ],
)
def test_axis_of_any_kind_has_distinct_trials(tmp_path: Path, text: str, axis: str, shown: list[Any]) -> None:
    found = plan(tmp_path, QUANTIZED + text)
    assert found.axes == (axis,)
    assert axes(found) == shown
    assert len(found.trials) == len(shown)


def test_axis_into_an_init_that_has_it(tmp_path: Path) -> None:
    found = plan(tmp_path, "trial: {data: digits, model: mlp, init: normal(1)}\ngrid: {init.std: [0.1, 0.2]}")
    assert [row.trial.settings["init"]["std"] for row in found.rows] == [0.1, 0.2]


def test_bias_follows_a_swept_weight(tmp_path: Path) -> None:
    found = plan(tmp_path, QUANTIZED + "grid: {quantize.weight.bitwidth: [4, 2]}")
    assert [row.trial.role("bias")["bitwidth"] for row in found.rows] == [4, 2]


def test_also_replaces_values_of_the_first_trial(tmp_path: Path) -> None:
    text = "trial: {data: digits, model: {name: mlp, hidden: [8], dropout: 0.5}, quantize: {weight: range4}}\n"
    found = plan(tmp_path, text + "also: [{trial: {model: mlp, quantize: {}}}, {trial: {model.dropout: 0}}]\n")
    models = [row.trial.settings["model"] for row in found.rows]
    assert [(m["hidden"], m["dropout"]) for m in models] == [([8], 0.5), ([512, 512], 0.0), ([8], 0.0)]
    assert [row.trial.role("weight")["format"] for row in found.rows] == ["range", "float32", "range"]


@pytest.mark.parametrize(
    ("text", "place", "name"),
    [
        (GOOD + "grid: {bitwidth: [1, 2]}", "mine.yaml:2:8: grid.bitwidth", "bitwidth"),
        (GOOD + "grid: {betas: [[0, 0]]}", "mine.yaml:2:8: grid.betas", "betas"),
        (GOOD + "zip: {lr: [1], alpha: [0.5]}", "mine.yaml:2:16: zip.alpha", "alpha"),
        (GOOD + "grid: {init.std: [1]}", "mine.yaml:2:8: grid.init.std", "init.std"),
        (
            GOOD + "grid: {quantize.weight.bitwidth: [1]}",
            "mine.yaml:2:8: grid.quantize.weight.bitwidth",
            "quantize.weight.bitwidth",
        ),
        (
            QUANTIZED + "also: [{trial: {quantize: {}}, grid: {scale: [1]}}]",
            "mine.yaml:2:39: also[0].grid.scale",
            "scale",
        ),
        (
            "trial: {data: digits, model: softmax}\ngrid: {model.dropout: [0.5]}",
            "mine.yaml:2:8: grid.model.dropout",
            "model.dropout",
        ),
        (
            "trial: {data: digits, model: mlp, quantize: {weight: range4}}\ngrid: {bitwidth: [1]}",
            "mine.yaml:2:8: grid.bitwidth",
            "bitwidth",
        ),
    ],
)
def test_axis_that_no_trial_reads_is_refused(tmp_path: Path, text: str, place: str, name: str) -> None:
    (line,) = wrong(tmp_path, text)
    assert line.startswith(f"{place}: no trial of this grid reads '{name}'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "grid: {lr: [1, 2]}",
            "mine.yaml:1:1: trial.data: data is missing (one of: digits, mnist, fashion_mnist, cifar10, cifar100)",
        ),
        ("trial: {data: digits}\ngrid: {lr: [1, 2]}", "mine.yaml:1:1: trial.model: model is missing"),
        (
            "trial: {data: digits}\ngrid: {model.dropout: [0.1]}",
            "trial.model: model is missing (one of: mlp, softmax, lenet, cnn3, conv_block, ",
        ),
        (
            "trial: {data: digits, model: mlp, quantize: {weight: range}}\ngrid:\n  lr: [1]\n  bitwidth: [17]",
            ":4:3: grid.bitwidth: range17: found 17, expected an integer from 1 to 16",
        ),
        (
            GOOD + "grid: {quantize.weight: [range4, range]}",
            "grid.quantize.weight: range needs a bitwidth: range4, or bitwidth in",
        ),
        (
            "trial: {data: digits, model: mlp, stages: [{retrain: {}}, {retrain: {momentum: 0.5,\n    alpha: 0.5}}]}",
            "mine.yaml:2:5: trial.stages[1].retrain.alpha: sgd has no alpha",
        ),
    ],
)
def test_invalid_point_is_reported_once(tmp_path: Path, text: str, message: str) -> None:
    (line,) = wrong(tmp_path, text)
    assert message in line


# --- exclude and only -------------------------------------------------------------------------------------------------

GRID = (
    "trial: {data: digits, model: mlp, init: normal(1), quantize: {weight: range}, rounding: stochastic}\n"
    "grid: {model: [mlp, {name: mlp, hidden: [8]}, softmax], quantize.weight: [range, range4, float32], bitwidth: [4, 2]}\n"
    "variants: {a: {}, b: {init: he}}\n"
)


@pytest.mark.parametrize(
    ("entry", "matched"),
    [
        ("bitwidth: 4", lambda t, v: t.columns.get("bitwidth") == 4),
        ("model: softmax", lambda t, v: t.columns["model"] == "softmax"),
        ("model: mlp", lambda t, v: t.columns["model"] == "mlp"),
        ("model: {name: mlp, hidden: [8]}", lambda t, v: t.columns.get("model.hidden") == [8]),
        ("model.hidden: [8]", lambda t, v: t.columns.get("model.hidden") == [8]),
        ("init: normal(1)", lambda t, v: v == "a"),
        ("init: he", lambda t, v: v == "b"),
        ("init.std: 1", lambda t, v: v == "a"),
        ("variant: b", lambda t, v: v == "b"),
        ("variant: b, model: softmax", lambda t, v: v == "b" and t.columns["model"] == "softmax"),
        ("quantize.weight: float32", lambda t, v: t.role("weight")["format"] == "float32"),
        ("quantize.weight: range", lambda t, v: t.role("weight")["format"] == "range"),
        ("quantize.weight: range4", lambda t, v: t.role("weight").get("bitwidth") == 4),
        ("quantize: {weight: range4}", lambda t, v: t.role("weight").get("bitwidth") == 4),
        ("quantize.bias.bitwidth: 2", lambda t, v: t.role("bias").get("bitwidth") == 2),
        ("quantize.weight: {format: range, rounding: stochastic}", lambda t, v: t.role("weight")["format"] == "range"),
    ],
)
def test_entry_matches_what_the_trial_uses(tmp_path: Path, entry: str, matched: Any) -> None:
    every = [(row.trial.key, row.axes) for row in plan(tmp_path, GRID).rows]
    expected = [(r.trial.key, r.axes) for r in plan(tmp_path, GRID).rows if matched(r.trial, r.axes[0])]
    assert 0 < len(expected) < len(every)
    kept, left = (plan(tmp_path, GRID + f"{kind}: [{{{entry}}}]\n") for kind in ("only", "exclude"))
    assert [(row.trial.key, row.axes) for row in kept.rows] == expected
    assert [(row.trial.key, row.axes) for row in left.rows] == [row for row in every if row not in expected]
    assert kept.notes == left.notes == ()


def test_exclude_and_only_together_keep_what_matches_only_and_not_exclude(tmp_path: Path) -> None:
    text = (
        GOOD + "grid: {lr: [1, 2, 3], momentum: [0, 0.5]}\nonly: [{lr: 1}, {lr: 2}]\nexclude: [{lr: 2, momentum: 0}]\n"
    )
    assert axes(plan(tmp_path, text)) == [(1.0, 0.0), (1.0, 0.5), (2.0, 0.5)]


def test_exclude_of_one_block_does_not_affect_others(tmp_path: Path) -> None:
    text = GOOD + "grid: {lr: [1, 2]}\nexclude: [{lr: 1}]\nalso: [{grid: {lr: [1]}}]\n"
    assert axes(plan(tmp_path, text)) == [2.0, 1.0]


@pytest.mark.parametrize(
    "entry", ["lr: 9", "variant: x", "bitwidth: 4", "model: {name: mlp, hidden: [9]}", "quantize: {weight: range4}"]
)
def test_entry_that_matches_nothing_is_reported(tmp_path: Path, entry: str) -> None:
    (note,) = plan(
        tmp_path,
        GOOD + f"grid: {{lr: [1, 2]}}\nalso: [{{exclude: [{{lr: 0.01}}, {{{entry}}}], grid: {{lr: [0.01, 1]}}}}]",
    ).notes
    assert note.startswith("also[0].exclude[1] matches no trial: {")


def test_empty_plan_is_refused(tmp_path: Path) -> None:
    (line,) = wrong(tmp_path, GOOD + "grid: {lr: [1]}\nexclude: [{lr: 1}]")
    assert line == "mine.yaml:1:1: no trial is left: `exclude` and `only` remove the whole grid"


# --- what nothing reads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "trial: {data: digits, model: mlp, momentum: 0.5, optimizer: adam}",
            "no trial reads 'momentum': it has no effect",
        ),
        (
            "trial: {data: digits, model: softmax, model.dropout: 0.5}",
            "no trial reads 'model.dropout': it has no effect",
        ),
        (
            "trial: {data: digits, model: mlp, init: {name: he}, init.std: 1}",
            "no trial reads 'init.std': it has no effect",
        ),
        (
            GOOD + "variants: {a: {quantize.weight.scale: 3}}",
            "no trial reads 'quantize.weight.scale': it has no effect",
        ),
        (GOOD + "variants: {a: {scale: 3}, b: {}}", "no trial reads 'scale': it has no effect"),
        (GOOD + "also: [{trial: {scale: 3}}]", "no trial reads 'scale': it has no effect"),
    ],
)
def test_parameter_that_no_trial_reads_is_reported(tmp_path: Path, text: str, note: str) -> None:
    assert plan(tmp_path, text).notes == (note,)


def test_parameter_that_one_block_reads_is_not_reported(tmp_path: Path) -> None:
    assert plan(tmp_path, QUANTIZED + "also: [{trial: {quantize: {}}}]").notes == ()


@pytest.mark.parametrize("override", ["scale=3", "betas=[0.1, 0.2]", "init.std=0.5", "quantize.weight.bitwidth=3"])
def test_override_that_no_trial_reads_is_refused(tmp_path: Path, override: str) -> None:
    name = override.split("=")[0]
    (line,) = wrong(tmp_path, GOOD, override)
    assert line.startswith(f"-S {name}: no trial reads '{name}'")


@pytest.mark.parametrize(
    "override",
    ["lr=0.1", "model=softmax", "model.dropout=0.5", "quantize={}", "quantize.weight=float32", "seeds=3", "init=he"],
)
def test_override_that_a_trial_reads_is_accepted(tmp_path: Path, override: str) -> None:
    assert plan(tmp_path, GOOD, override).rows


def test_override_of_an_axis_keeps_the_column(tmp_path: Path) -> None:
    found = plan(tmp_path, GOOD + "grid: {lr: [1, 2], momentum: [0, 0.5]}", "lr=3")
    assert (found.axes, axes(found)) == (("lr", "momentum"), [(3.0, 0.0), (3.0, 0.5)])


# --- plots ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["lr", "seed", "variant", "model.hidden", "epochs", "train_loss"])
def test_plot_may_name_any_column_of_the_table(tmp_path: Path, column: str) -> None:
    text = GOOD + "grid: {lr: [1, 2]}\nvariants: {a: {}}\nplots: [{kind: heatmap, x: lr, y: %s, z: test_loss}]\n"
    assert plan(tmp_path, text % column).rows


def test_plot_of_lines_can_have_epochs_as_x(tmp_path: Path) -> None:
    assert plan(tmp_path, GOOD + "plots: [{kind: lines, x: epoch, y: test_loss}]").rows


@pytest.mark.parametrize(
    ("plot", "place"),
    [
        ("{kind: lines, x: lrr, y: test_loss}", "mine.yaml:3:23: plots[0].x: unknown column 'lrr'; did you mean 'lr'?"),
        (
            "{kind: lines, x: lr, y: test_loss, line: bitwidth}",
            "plots[0].line: unknown column 'bitwidth' (one of: lr, seed)",
        ),
        ("{kind: heatmap, x: lr, y: epoch, z: test_loss}", "plots[0].y: unknown column 'epoch'"),
        ("{kind: surface, x: lr, y: lr, z: test_loss, facet: zero}", "plots[0].facet: unknown column 'zero'"),
        ("{kind: lines, x: lr, y: test_loss, line: variant}", "plots[0].line: unknown column 'variant'"),
    ],
)
def test_plot_of_a_column_that_will_not_exist_is_refused(tmp_path: Path, plot: str, place: str) -> None:
    (line,) = wrong(tmp_path, GOOD + f"grid: {{lr: [1, 2]}}\nplots: [{plot}]")
    assert place in line


ALL = "trial: {data: digits, model: mlp, split: all}\ngrid: {lr: [1, 2]}\n"


@pytest.mark.parametrize("metric", ["test_accuracy", "test_loss"])
def test_plot_of_a_test_set_that_no_trial_has_is_refused_before_training(tmp_path: Path, metric: str) -> None:
    (line,) = wrong(tmp_path, ALL + f"plots: [{{kind: lines, x: lr, y: {metric}}}]")
    assert line.startswith(f"mine.yaml:3:30: plots[0].y: no trial has {metric}: `split: all` leaves no test set")
    assert plan(tmp_path, ALL + "plots: [{kind: lines, x: lr, y: train_accuracy}]").rows
    some = ALL + f"variants: {{a: {{}}, b: {{split: standard}}}}\nplots: [{{kind: lines, x: lr, y: {metric}}}]"
    assert plan(tmp_path, some).rows


def test_plot_of_training_metrics_is_refused_if_no_trial_ends_with_training(tmp_path: Path) -> None:
    text = GOOD.replace("}", ", stages: [{compress: {weight: uniform4}}]}") + "grid: {lr: [1, 2]}\nplots: [%s]"
    (line,) = wrong(tmp_path, text % "{kind: lines, x: lr, y: train_accuracy}")
    assert "plots[0].y: no trial has train_accuracy: all end with a compression, which is only tested" in line
    assert plan(tmp_path, text % "{kind: lines, x: lr, y: test_accuracy}").rows


def test_metrics_that_stay_empty_are_reported_before_training(tmp_path: Path) -> None:
    note = "test_accuracy and test_loss stay empty in 2 trials: `split: all` leaves no test set"
    assert plan(tmp_path, ALL).notes == (note,)
    assert plan(tmp_path, ALL + "variants: {a: {}, b: {split: standard}}").notes == (note,)
    assert plan(tmp_path, ALL.replace("all", "standard")).notes == ()


def test_drop_last_without_a_full_batch_is_refused_where_the_batch_size_is_set(tmp_path: Path) -> None:
    text = "trial: {data: digits, model: softmax, drop_last: true%s}\n"
    expected = "no step would be taken: digits has 1,500 training examples, fewer than a batch of 1,501"
    assert expected in wrong(tmp_path, text % ", batch_size: 1501")[0]
    assert wrong(tmp_path, text % ", batch_size: 1501")[0].startswith("mine.yaml:1:56: trial.batch_size: ")
    lines = wrong(tmp_path, text % "" + "grid: {batch_size: [1000, 1500, 1501, 2000]}")
    assert [line.split(": ")[:2] for line in lines] == [["mine.yaml:2:8", "grid.batch_size"]] * 2
    assert plan(tmp_path, text % ", batch_size: 1500").rows
    assert plan(tmp_path, text % ", batch_size: 1797, split: all").rows
    assert plan(tmp_path, text.replace("true", "false") % ", batch_size: 2000").rows


def test_drop_last_without_a_full_batch_is_refused_in_retraining_too(tmp_path: Path) -> None:
    stages = "stages: [{compress: {weight: uniform4}}, {retrain: {batch_size: 2000}}]"
    (line,) = wrong(tmp_path, f"trial: {{data: digits, model: softmax, drop_last: true, {stages}}}")
    assert "trial.stages[1].retrain.batch_size: no step would be taken" in line


HISTOGRAM = "plots: [{kind: histogram, place: linear1.weight}]\n"


def test_histogram_of_trials_without_histograms_is_refused_before_training(tmp_path: Path) -> None:
    (line,) = wrong(tmp_path, GOOD + HISTOGRAM)
    assert "plots[0]: no trial counts its weights: write `histogram: 1000` (bins) in trial" in line
    assert plan(tmp_path, GOOD + HISTOGRAM, "histogram=10").rows


def test_histogram_of_a_place_that_no_net_has_is_refused_before_training(tmp_path: Path) -> None:
    (line,) = wrong(tmp_path, GOOD + HISTOGRAM.replace("linear1", "liner1"), "histogram=10")
    assert "plots[0].place: unknown place 'liner1.weight'; did you mean 'linear1.weight'? (one of: linear1.w" in line


def test_histogram_of_an_own_model_can_be_of_any_place(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("def net(shape, classes): ...\n")
    text = "trial: {data: digits, model: 'nets.py:net', histogram: 5}\n"
    assert plan(tmp_path, text + HISTOGRAM.replace("linear1", "body.0")).rows


# --- users' own models ------------------------------------------------------------------------------------------------


def own(folder: Path, text: str, source: str = "def net(shape, classes): ...\n", file: str = "nets.py") -> Plan:
    (folder / file).write_text(source)
    return plan(folder, "trial: {data: digits, model: 'nets.py:net'}\n".replace("nets.py", file) + text)


def test_own_model_is_identified_by_its_text_not_its_file(tmp_path: Path) -> None:
    same = own(tmp_path, "", file="other.py").trials[0]
    edited = own(tmp_path, "", source="def net(shape, classes): pass\n").trials[0]
    assert own(tmp_path, "").trials[0].key == same.key != edited.key
    assert same.columns["model"] == "other.py:net"


def test_parameters_of_an_own_model_can_be_axes(tmp_path: Path) -> None:
    found = own(tmp_path, "grid: {model.width: {pow2: [3, 5]}, model.parts: [{a: 1}, {a: 2}]}\n")
    assert axes(found)[:2] == [(8, {"a": 1}), (8, {"a": 2})]
    assert [type(row.trial.settings["model"]["width"]) for row in found.rows] == [int] * 6
    assert len(found.trials) == 6


def test_entry_matches_part_of_a_mapping_of_an_own_model(tmp_path: Path) -> None:
    text = "grid: {model.parts: [{a: 1, b: 2}, {a: 2}, 3, x]}\nexclude: [{model.parts: {a: 1}}, {model.parts: 3}]\n"
    assert axes(own(tmp_path, text)) == [{"a": 2}, "x"]


def test_own_model_and_one_of_the_catalog(tmp_path: Path) -> None:
    found = own(tmp_path, "grid: {model: ['nets.py:net', mlp], model.dropout: [0, 0.5]}\n")
    assert [row.trial.settings["model"].get("dropout") for row in found.rows] == [0, 0.5, 0, 0.5]
    assert len(found.trials) == 4


def test_own_model_and_one_of_the_catalog_with_a_value_that_is_invalid_for_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r":2:\d+: grid\.model\.dropout: found \"x\", expected a number"):
        own(tmp_path, "grid: {model: ['nets.py:net', mlp], model.dropout: [x]}\n")


# --- the collector ----------------------------------------------------------------------------------------------------


def test_expand_does_not_change_the_state_of_the_garbage_collector(tmp_path: Path) -> None:
    assert gc.isenabled()
    plan(tmp_path, GOOD)
    assert gc.isenabled()
    gc.disable()
    try:
        plan(tmp_path, GOOD)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("plot", "message"),
    [
        (
            "{kind: lines, x: lr, y: test_loss, line: l1}",
            "plots[0].line: 'l1' has 45 values; the limit of a figure is 40 lines",
        ),
        (
            "{kind: scatter, x: lr, y: test_loss, line: l1}",
            "plots[0].line: 'l1' has 45 values; the limit of a figure is 40 lines",
        ),
        (
            "{kind: lines, x: lr, y: test_loss, facet: l1}",
            "plots[0].facet: 'l1' has 45 values; the limit of a figure is 24 panels",
        ),
        (
            "{kind: surface, x: lr, y: l1, z: test_loss, facet: l1}",
            "'l1' has 45 values; the limit of a figure is 12 panels",
        ),
        (
            "{kind: heatmap, x: lr, y: l1, z: test_loss, facet: l1}",
            "'l1' has 45 values; the limit of a figure is 24 panels",
        ),
        ("{kind: lines, x: lr, y: weight_stalled}", "plots[0].y: no trial has weight_stalled: none quantizes weight"),
        ("{kind: heatmap, x: lr, y: l1, z: error_zero}", "plots[0].z: no trial has error_zero: none quantizes error"),
        (
            "{kind: lines, x: lr, y: model_bits}",
            "plots[0].y: no trial has model_bits: none compresses weights, or keeps",
        ),
        ("{kind: lines, x: model_bits, y: test_loss}", "plots[0].x: no trial has model_bits: none compresses weights"),
        (
            "{kind: scatter, x: weight_zero, y: test_loss}",
            "plots[0].x: no trial has weight_zero: none quantizes weight",
        ),
    ],
)
def test_plot_that_can_not_be_drawn_is_refused_before_training(plot: str, message: str, tmp_path: Path) -> None:
    (line,) = wrong(tmp_path, GOOD + f"grid: {{lr: [1, 2], l1: {{linspace: [0, 1, 45]}}}}\nplots: [{plot}]")
    assert message in line


def test_plot_of_a_test_metric_is_refused_if_all_examples_are_used_for_training(tmp_path: Path) -> None:
    text = "trial: {data: digits, model: mlp, split: %s}\ngrid: {lr: [1, 2]}\nplots: [{kind: lines, x: lr, y: test_accuracy}]\n"
    (line,) = wrong(tmp_path, text % "all")
    assert "plots[0].y: no trial has test_accuracy: `split: all` leaves no test set" in line
    assert plan(tmp_path, text % "standard").rows


def test_plot_of_a_metric_that_some_trial_has_is_accepted(tmp_path: Path) -> None:
    float32 = "also: [{trial: {data: digits, model: mlp}}]\n"
    assert plan(tmp_path, QUANTIZED + "plots: [{kind: lines, x: epoch, y: weight_stalled}]\n").rows
    assert plan(tmp_path, QUANTIZED + float32 + "plots: [{kind: scatter, x: bitwidth, y: weight_zero}]\n").rows


@pytest.mark.parametrize(
    ("weight", "plot", "message"),
    [
        ("range", "{kind: scatter, x: model_bits, y: test_loss}", ""),
        ("{format: range, at: operands}", "{kind: scatter, x: model_bits, y: test_loss}", "no trial has model_bits"),
        ("quantized_bits", "{kind: scatter, x: model_bits, y: test_loss}", "no trial has model_bits"),
        ("range", "{kind: lines, x: lr, y: compressed_bytes}", "no trial has compressed_bytes: none has a stage that"),
        ("range", "{kind: lines, x: epoch, y: model_bits}", "model_bits is the same in every epoch: choose another x"),
    ],
)
def test_sizes_can_be_drawn_if_trials_will_have_them(tmp_path: Path, weight: str, plot: str, message: str) -> None:
    trial = f"{{data: digits, model: mlp, bitwidth: 8, quantize: {{weight: {weight}, bias: float32}}}}"
    text = f"trial: {trial}\ngrid: {{lr: [1, 2]}}\nplots: [{plot}]\n"
    if message:
        assert message in wrong(tmp_path, text)[0]
    else:
        assert plan(tmp_path, text).rows


# --- limits of figures ------------------------------------------------------------------------------------------------

MIXED = """
trial: {data: digits, model: mlp, epochs: 1, quantize: {weight: range}}
grid: {bitwidth: [4, 8], momentum: [0, 0.5]}
also:
  - {trial: {quantize: {weight: float32}}, grid: {momentum: [0, 0.5]}}
  - {trial: {quantize: {weight: e4m3}}, grid: {momentum: [0, 0.9]}}
  - {trial: {quantize: {weight: e5m2}, optimizer: adam}}
  - {trial: {quantize: {weight: range}, optimizer: adam}, grid: {bitwidth: [4, 5, 6]}}
"""
COLUMNS = ["bitwidth", "momentum", "seed", "quantize.weight", "optimizer", "status"]


@pytest.mark.parametrize("kind", ["lines", "scatter", "heatmap", "surface", "threshold"])
def test_plots_are_refused_exactly_if_their_figures_would_have_too_many_panels_or_lines(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures of the plan's table are the oracle."""
    own = {"lines": "y: test_loss", "scatter": "y: test_loss", "threshold": "y: bitwidth, z: test_accuracy, reach: 0.9"}
    across, known = "line" if kind in own else "y", PLOT_KINDS[kind]
    write(tmp_path / "out", plan(tmp_path, MIXED), "test", {}, {})
    table = read_trials(tmp_path / "out").assign(status="done", test_accuracy=0.95, test_loss=0.5)
    for x, series, facet in itertools.product(COLUMNS[:3], [*COLUMNS, None], [*COLUMNS, None]):
        if across == "y" and series is None:
            continue
        named = "".join(f", {field}: {value}" for field, value in ((across, series), ("facet", facet)) if value)
        entry = f"{{kind: {kind}, x: {x}, {own.get(kind, 'z: test_loss')}{named}}}"
        monkeypatch.setitem(PLOT_KINDS, kind, known)
        panels, lines = _counts(table, read_text(entry, "a plot").value)
        text = f"{MIXED}plots: [{entry}]\n"
        monkeypatch.setitem(PLOT_KINDS, kind, replace(known, panels=panels))
        monkeypatch.setattr("qsweep.spec.checks.MOST_LINES", lines if kind in own else 0)
        assert plan(tmp_path, text).rows
        if facet:
            monkeypatch.setitem(PLOT_KINDS, kind, replace(known, panels=panels - 1))
            (line,) = wrong(tmp_path, text)
            assert f"the limit of a figure is {panels - 1} panels" in line
            monkeypatch.setitem(PLOT_KINDS, kind, replace(known, panels=panels))
        if kind in own:
            monkeypatch.setattr("qsweep.spec.checks.MOST_LINES", lines - 1)
            (line,) = wrong(tmp_path, text)
            assert f"the limit of a figure is {lines - 1} lines" in line


def _counts(table: pd.DataFrame, entry: Mapping[str, Any]) -> tuple[int, int]:
    """The panels and lines of a figure."""
    shown = (threshold if entry["kind"] == "threshold" else picture)(table, pd.DataFrame(), read_entry(entry), "title")
    return len(shown.panels), len(shown.series.places)


def test_histogram_of_too_many_trials_is_refused(tmp_path: Path) -> None:
    text = GOOD + "grid: {l1: {linspace: [0, 1, %d]}, momentum: [%s]}\n" + HISTOGRAM
    faceted = text.replace("weight}", "weight, facet: momentum}")
    (line,) = wrong(tmp_path, text % (41, "0"), "histogram=10")
    assert "plots[0]: a panel would have 41 lines, one per trial; the limit is 40" in line
    assert plan(tmp_path, text % (40, "0"), "histogram=10").rows
    assert wrong(tmp_path, text % (21, "0, 0.5"), "histogram=10")
    assert plan(tmp_path, faceted % (21, "0, 0.5"), "histogram=10").rows
    assert wrong(tmp_path, faceted % (41, "0, 0.5"), "histogram=10")
    references = "also: [{trial: {optimizer: adam}, grid: {l1: {linspace: [0, 1, 20]}}}]\n"  # they stand in both panels
    assert wrong(tmp_path, references + faceted % (21, "0, 0.5"), "histogram=10")
    assert plan(tmp_path, references + faceted % (20, "0, 0.5"), "histogram=10").rows


def test_plot_of_training_accuracy_over_the_epochs_before_a_compression_is_accepted(tmp_path: Path) -> None:
    text = GOOD.replace("}", ", stages: [{compress: {weight: uniform4}}]}") + "grid: {lr: [1, 2]}\nplots: [%s]"
    assert plan(tmp_path, text % "{kind: lines, x: epoch, y: train_accuracy}").rows
    (line,) = wrong(tmp_path, text % "{kind: lines, x: lr, y: test_loss, line: train_loss}")
    assert "plots[0].line: no trial has train_loss" in line
