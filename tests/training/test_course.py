"""The first promise at its root: a trial's bits do not depend on the stack that it trains in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qsweep.data.catalog import DATASETS
from qsweep.data.files import load
from qsweep.formats import parse
from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize, probe
from qsweep.results.explain import reasons
from qsweep.rounding import quantize
from qsweep.training.course import Course, Outcome, predictions
from qsweep.training.nets import Values, plain_net, stacked_net
from qsweep.trial.cost import memory
from qsweep.trial.key import Trial, stack_signature

pytestmark = pytest.mark.slow

Make = Callable[..., Trial]
DIGITS = DATASETS["digits"]

STACKING_SOURCE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.one, self.two, self.act = nn.Linear(31, 31), nn.Linear(31, 31), act
    def forward(self, x):
        return x + self.two(self.act(self.one(x)))

def net(shape, classes, act="ReLU"):
    act = getattr(nn, act)()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 31), act, nn.Dropout(0.3), Block(act), nn.Linear(31, classes))
"""

CONVOLUTION_SOURCE = """
from torch import nn

def net(shape, classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, classes),
    )
"""


def train(
    trials: Sequence[Trial],
    folder: Path,
    sources: dict[str, str] | None = None,
    plain: bool = False,
    first: int | None = None,
) -> tuple[list[Outcome], Values, Course]:
    """Outcomes, final weights and the course of one stack."""
    shared = trials[0].view
    model = build(shared.model, sources or {}, DIGITS.shape, DIGITS.classes)
    initialize(model, shared.init, Stream(shared.seed))
    probe(model, DIGITS.shape, DIGITS.classes)
    loss = shared.loss
    net = plain_net(model, loss) if plain else stacked_net(model, len(trials), loss)
    settings = [trial.view for trial in trials]
    all_of_it = load(DIGITS, folder, shared.data.split)
    examples = replace(
        all_of_it, train_images=all_of_it.train_images[:first], train_labels=all_of_it.train_labels[:first]
    )
    course = Course(net, model, settings, DIGITS, examples)
    return course.run(), net.values, course


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd"},
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-3},
    "rmsprop": {"optimizer": "rmsprop", "alpha": 0.9},
    "adam": {"optimizer": "adam"},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("quantize", [{}, {"weight": "range"}], ids=["float32", "range"])
def test_stack_of_any_size_gives_each_trial_the_same_bits(
    data_folder: Path, trial: Make, optimizer: str, quantize: dict[str, str]
) -> None:
    trials = [
        trial(
            quantize=quantize,
            lr=2.0 ** -(i % 5) / 8,
            bitwidth=1 + i % 8,
            scale=1.0 + i % 3,
            zero=i % 2 == 0,
            epochs=1,
            **OPTIMIZERS[optimizer],
        )
        for i in range(17)
    ]
    together, values, _ = train(trials, data_folder)
    for size in (1, 2, 3, 8):
        start = 17 - size
        alone, own, _ = train(trials[start:], data_folder)
        assert [o.epochs for o in alone] == [o.epochs for o in together[start:]]
        for name, value in own.items():
            assert torch.equal(value, values[name][start:]), (name, size)


FORMATS = (
    *(
        "fixed",
        "fixed overflow=wrap",
        "float",
        "block",
        "block per=16",
        "block per=channel",
        "mxfp4",
        "mxint8",
        "nvfp4",
    ),
    *("uniform", "uniform symmetric=true per=channel", "po2", "ternary", "binary per=channel", "quantized_bits"),
    *("stochastic_ternary(alpha='auto')", "fixed compat=qtorch", "float compat=qtorch", "block compat=qtorch"),
)


@pytest.mark.parametrize(
    ("name", "rounding"), [*((name, "stochastic") for name in FORMATS), *((name, "nearest") for name in FORMATS[::4])]
)
def test_stack_of_each_format_gives_each_trial_the_same_bits(
    data_folder: Path, trial: Make, name: str, rounding: str
) -> None:
    """The trials differ in all that may differ in a stack: bitwidth, fraction, exponent and mantissa bits."""

    def one(i: int) -> Trial:
        family, _, rest = name.partition(" ")
        own = {"fixed": f"fixed{6 + i}f{4 + i}", "float": f"e{4 + i % 3}m{2 + i}"}.get(family, family)
        return trial(quantize={"weight": f"{own} {rest}"}, rounding=rounding, bitwidth=4 + i, epochs=1)

    trials = [one(i) for i in range(4)]
    assert len({stack_signature(t.settings) for t in trials}) == 1
    together, values, _ = train(trials, data_folder, first=400)
    alone, own, _ = train(trials[3:], data_folder, first=400)
    assert [o.epochs for o in alone] == [o.epochs for o in together[3:]]
    for key, value in own.items():
        assert torch.equal(value, values[key][3:]), key


@pytest.mark.parametrize("name", ["block4 per=16", "uniform4 per=channel", "mxfp4", "ternary", "quantized_bits(3,0,1)"])
def test_convolution_weights_share_scales_along_their_inputs_or_their_outputs(
    data_folder: Path, trial: Make, name: str
) -> None:
    given: dict[str, Any] = {"sources": {"m.py": "d"}, "model": "m.py:net", "init": "he", "lr": 0.01, "batch_size": 32}
    settings = trial(quantize={"weight": name}, rounding="nearest", epochs=1, **given)
    _, values, _ = train([settings], data_folder, {"d": CONVOLUTION_SOURCE}, plain=True, first=200)
    weight = values["4.weight"][0]
    expected = quantize(weight, parse(name), contraction=1)
    assert weight.shape == (4, 4, 3, 3)
    assert torch.equal(expected, weight)  # what is quantized already stays


@pytest.mark.parametrize("quantize", [{}, {"weight": "range"}], ids=["float32", "range"])
@pytest.mark.parametrize(("hidden", "batch"), [([5], 7), ([33, 17], 1), ([64, 64], 150), ([130], 29), ([24], 33)])
def test_stack_odd_widths_and_batches_give_the_same_bits(
    data_folder: Path, trial: Make, hidden: list[int], batch: int, quantize: dict[str, str]
) -> None:
    """Of 200 examples the last batch is odd, of 297 test examples too; coarse weights alone would hide other bits."""
    model = {"name": "mlp", "hidden": hidden, "dropout": 0.1}
    trials = [
        trial(model=model, quantize=quantize, batch_size=batch, lr=0.1 / (i + 1), bitwidth=i + 3, epochs=1)
        for i in range(4)
    ]
    together, values, _ = train(trials, data_folder, first=200)
    for i in range(4):
        alone, own, _ = train(trials[i : i + 1], data_folder, first=200)
        assert alone[0].epochs == together[i].epochs
        assert all(torch.equal(own[name][0], values[name][i]) for name in own)


@pytest.mark.parametrize("hidden", [[23], [1], [24, 1, 7]], ids=str)
def test_float32_trials_give_the_same_bits_in_stacks_of_1_to_17(
    data_folder: Path, trial: Make, hidden: list[int]
) -> None:
    """Ten classes, odd batches and a last one of one example: matrices lie at every alignment, and some are vectors."""
    model = {"name": "mlp", "hidden": hidden, "dropout": 0.0}
    trials = [
        trial(model=model, quantize={}, batch_size=33, lr=2.0 ** -(i % 8), momentum=0.9, epochs=1) for i in range(17)
    ]
    together, values, _ = train(trials, data_folder, first=100)
    for size in range(1, 17):
        alone, own, _ = train(trials[:size], data_folder, first=100)
        assert [o.epochs for o in alone] == [o.epochs for o in together[:size]]
        assert all(torch.equal(own[name], values[name][:size]) for name in own), size


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_stack_that_goes_through_the_net_in_parts_gives_the_same_bits(
    data_folder: Path, trial: Make, monkeypatch: pytest.MonkeyPatch, optimizer: str, size: int
) -> None:
    trials = [trial(lr=0.1 / (i + 1), bitwidth=i + 3, epochs=2, **OPTIMIZERS[optimizer]) for i in range(5)]
    whole, values, _ = train(trials, data_folder)
    monkeypatch.setattr("qsweep.training.course.PASS_MEMORY", size * memory(trials[0].view))
    parted, own, course = train(trials, data_folder)
    assert len(list(course._parts())) == math.ceil(5 / size)
    assert [o.epochs for o in parted] == [o.epochs for o in whole]
    assert all(torch.equal(own[name], values[name]) for name in own)


@pytest.mark.parametrize("act", ["ReLU", "Tanh", "GELU"])
def test_stack_of_each_listed_operation_gives_the_same_bits(data_folder: Path, trial: Make, act: str) -> None:
    sources = {"m.py": "d"}
    model = {"name": "m.py:net", "act": act}
    trials = [trial(sources=sources, model=model, lr=0.1 / (i + 1), bitwidth=i + 3, epochs=1) for i in range(5)]
    together, values, _ = train(trials, data_folder, {"d": STACKING_SOURCE})
    for i in (0, 3):
        alone, own, _ = train(trials[i : i + 1], data_folder, {"d": STACKING_SOURCE})
        assert alone[0].epochs == together[i].epochs
        assert all(torch.equal(own[name][0], values[name][i]) for name in own)


def test_stack_softmax_and_the_digits_of_all_splits_give_the_same_bits(data_folder: Path, trial: Make) -> None:
    trials = [trial(model="softmax", split="all", drop_last=True, lr=0.1 / (i + 1)) for i in range(3)]
    together, _, course = train(trials, data_folder)
    alone, _, _ = train(trials[1:2], data_folder)
    assert alone[0].epochs == together[1].epochs
    assert together[0].epochs[0]["test_accuracy"] is None
    assert course.step == 2 * (1797 // 57)


def test_diverged_neighbours_leave_and_change_no_bit(data_folder: Path, trial: Make) -> None:
    """Also the way in which weights lie in memory must survive: it decides how products round."""
    model = {"name": "mlp", "hidden": [64, 48], "dropout": 0.2}
    given: dict[str, Any] = {"model": model, "quantize": {}, "epochs": 3, "momentum": 0.5, "batch_size": 64}
    trials = [trial(lr=lr, **given) for lr in (0.1, 1e30, 0.05, 1e35, 0.2)]
    together, _, _ = train(trials, data_folder)
    assert [o.status for o in together] == ["done", "diverged", "done", "diverged", "done"]
    assert together[1].reason == "NaN or Inf in a batch loss or a weight in epoch 1"
    assert together[1].epochs == []
    for i in (0, 2, 4):
        alone, _, _ = train(trials[i : i + 1], data_folder)
        assert alone[0].epochs == together[i].epochs


def test_each_trial_of_a_stack_has_the_size_that_it_has_alone_even_if_it_diverges(
    data_folder: Path, trial: Make
) -> None:
    quantize = {"weight": "uniform symmetric=true", "bias": "float32"}
    given = [{"bitwidth": 2}, {"bitwidth": 8}, {"bitwidth": 8, "lr": 1e30}]
    trials = [trial(quantize=quantize, epochs=1, **own) for own in given]
    together, _, _ = train(trials, data_folder)
    values = 64 * 33 + 33 * 10
    sizes = [values * bits + 2 * 32 + (33 + 10) * 32 for bits in (2, 8, 8)]
    assert [(o.status, o.kept_sizes["model_bits"]) for o in together] == [
        ("done", sizes[0]), ("done", sizes[1]), ("diverged", sizes[2]),
    ]  # fmt: skip
    alone, _, _ = train(trials[1:2], data_folder)
    assert alone[0].kept_sizes == together[1].kept_sizes


def test_all_diverged_ends_the_course(data_folder: Path, trial: Make) -> None:
    outcomes, _, course = train([trial(lr=1e30, quantize={}, epochs=9)], data_folder)
    assert outcomes[0].status == "diverged"
    assert course.step == math.ceil(1500 / 57)


def test_trials_of_one_seed_share_init_batches_and_masks_whatever_else_differs(
    data_folder: Path, trial: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    original = Course._inputs

    def inputs(course: Course, images: torch.Tensor, chosen: Any) -> torch.Tensor:
        if isinstance(chosen, torch.Tensor):
            masks = [d.mask.clone() for d in course.dropouts.values() if d.mask is not None]
            weights = {n: v[0].clone() for n, v in course.net.values.items()} if course.step == 1 else {}
            seen.append((chosen.tolist(), [m.tolist() for m in masks], {n: w.tolist() for n, w in weights.items()}))
        return original(course, images, chosen)

    monkeypatch.setattr(Course, "_inputs", inputs)
    train([trial(quantize={}, lr=0.5)], data_folder)
    float32, seen = seen, []
    train([trial(quantize_init=False, bitwidth=2, optimizer="adam")], data_folder)
    assert float32 == seen
    assert len(seen) == 2 * math.ceil(1500 / 57)


def test_quantize_init_quantizes_before_the_first_step_and_false_leaves_it(data_folder: Path, trial: Make) -> None:
    levels = {}
    for flag in (True, False):
        model = build(trial().settings["model"], {}, DIGITS.shape, DIGITS.classes)
        initialize(model, {"name": "normal", "std": 0.1}, Stream(0))
        probe(model, DIGITS.shape, DIGITS.classes)
        net = stacked_net(model, 1)
        course = Course(net, model, [trial(quantize_init=flag).view], DIGITS, load(DIGITS, data_folder))
        course.stepper.update = lambda *args: None  # type: ignore[method-assign]  # leave the weights as they start
        course.run()
        levels[flag] = len(net.values["linear1.weight"].unique())
    assert levels[True] <= 16
    assert levels[False] > 1000


def test_weights_and_biases_lie_on_the_levels_after_training(data_folder: Path, trial: Make) -> None:
    _, values, _ = train([trial(bitwidth=3, zero=False), trial(bitwidth=2)], data_folder)
    for name, value in values.items():
        three, two = (value[0] * 2 * 4).unique(), (value[1] * 2 * 2).unique()
        assert set(three.tolist()) <= {-4, -3, -2, -1, 1, 2, 3} | ({0} if "bias" in name else set()), name
        assert set(two.tolist()) <= {-2, -1, 0, 1}, name


def test_plain_step_trains_a_convolution_net_and_its_roles(data_folder: Path, trial: Make) -> None:
    sources = {"m.py": "d"}
    given: dict[str, Any] = {"sources": sources, "model": "m.py:net", "init": "he", "lr": 0.1, "batch_size": 32}
    text = {"d": CONVOLUTION_SOURCE}
    float32, _, course = train([trial(quantize={}, **given)], data_folder, text, plain=True)
    quantized, values, _ = train([trial(bitwidth=6, scale=1, **given)], data_folder, text, plain=True)
    assert set(course.roles.values()) == {"weight", "bias", "norm"}
    assert course.roles["1.weight"] == "norm"
    assert float32[0].epochs[-1]["test_accuracy"] > 0.8  # type: ignore[operator]
    assert quantized[0].epochs[-1]["test_accuracy"] > 0.6  # type: ignore[operator]
    assert len(values["0.weight"].unique()) <= 64
    assert len(values["1.weight"].unique()) == 4  # its scale stays in float32


def test_net_without_biases_trains_and_tells_of_its_weights_alone(data_folder: Path, trial: Make) -> None:
    text = STACKING_SOURCE.replace("31, classes)", "31, classes, bias=False)").replace("31, 31)", "31, 31, bias=False)")
    text = text.replace("nn.Linear(64, 31)", "nn.Linear(64, 31, bias=False)")
    given: dict[str, Any] = {"sources": {"m.py": "d"}, "model": "m.py:net", "epochs": 1}
    (outcome,), values, course = train([trial(**given)], data_folder, {"d": text})
    assert outcome.status == "done"
    assert set(course.roles.values()) == {"weight"}
    assert outcome.epochs[0]["weight_levels"] == len(torch.cat([v.flatten() for v in values.values()]).unique())
    assert outcome.epochs[0].get("bias_levels") is outcome.epochs[0].get("bias_zero") is None


def test_training_metrics_are_means_over_the_epochs_own_batches_weighted_by_examples(
    data_folder: Path, trial: Make
) -> None:
    """One batch and one epoch: the metrics are those of the initial weights, by an independent computation."""
    model = {"name": "mlp", "hidden": [8], "dropout": 0.0}
    one = trial(model=model, quantize={}, batch_size=1500, epochs=1, init="glorot_uniform")
    outcomes, _, _ = train([one], data_folder)
    net = build(one.settings["model"], {}, DIGITS.shape, DIGITS.classes)
    initialize(net, one.settings["init"], Stream(0))
    examples = load(DIGITS, data_folder)
    with torch.no_grad():
        logits = net(examples.train_images.float() / 16).double()
    loss = torch.nn.functional.cross_entropy(logits, examples.train_labels).item()
    assert outcomes[0].epochs[0]["train_loss"] == pytest.approx(loss, rel=1e-5)
    hits = (logits.argmax(1) == examples.train_labels).sum().item()
    assert outcomes[0].epochs[0]["train_accuracy"] == hits / 1500


@pytest.mark.parametrize("name", ["uniform4", "uniform4 symmetric=true", "nvfp4", "ternary", "binary"])
def test_weights_under_a_moving_scale_that_lose_all_updates_say_so_and_name_master_weights(
    data_folder: Path, trial: Make, name: str
) -> None:
    one = trial(quantize={"weight": name}, rounding="nearest", lr=0.01, epochs=2)
    (outcome,), _, _ = train([one], data_folder)
    measures = outcome.epochs[-1]
    stalled = measures["weight_stalled"]
    assert stalled is not None
    assert stalled > 0.9
    lost = next(sentence for sentence in reasons(one.view, measures) if "updates of its weights" in sentence)
    assert "were lost to nearest rounding: master weights (`quantize.master: float32`), stochastic rounding" in lost


def test_predictions_ties_go_to_the_lowest_class_and_nan_to_none() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [math.nan] * 3, [-math.inf] * 3])
    assert predictions(logits).tolist() == [0, 1, 3, 0]


@pytest.mark.parametrize("output", ["linear", "relu", "relu_ungated"])
def test_squared_error_and_what_follows_the_output_descend_and_give_the_same_bits_in_a_stack(
    data_folder: Path, trial: Make, output: str
) -> None:
    given = {"model": {"name": "mlp", "hidden": [16], "output": output}, "loss": "squared_error", "epochs": 3}
    trials = [trial(lr=2.0**-i / 4, batch_size=32, quantize={}, **given) for i in range(3)]
    together, values, _ = train(trials, data_folder)
    losses = [epoch["train_loss"] for epoch in together[1].epochs]
    assert 0 < losses[-1] < losses[0] < 1
    for i in range(3):
        alone, own, _ = train(trials[i : i + 1], data_folder)
        assert alone[0].epochs == together[i].epochs
        for name, value in own.items():
            assert torch.equal(value[0], values[name][i]), name


def test_a_relu_without_gate_lets_errors_through_where_one_with_it_blocks_them(data_folder: Path, trial: Make) -> None:
    """Weights of 0 and biases below it: no output is positive, so that only errors that pass the ReLU move anything."""
    moved = {}
    for output in ("relu", "relu_ungated"):
        own = trial(
            model={"name": "mlp", "hidden": [], "output": output}, loss="squared_error", quantize={}, lr=0.1, epochs=1
        )
        model = build(own.settings["model"], {}, DIGITS.shape, DIGITS.classes)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.fill_(-1.0 if name.endswith("bias") else 0.0)
        net = stacked_net(model, 1, own.settings["loss"])
        Course(net, model, [own.view], DIGITS, load(DIGITS, data_folder)).run()
        moved[output] = bool((net.values["linear1.bias"] != -1).any())
    assert moved == {"relu": False, "relu_ungated": True}
