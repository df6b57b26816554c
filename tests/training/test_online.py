"""Training on one example at a time, against integers of any size and floats added up one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qsweep.data.catalog import DATASETS
from qsweep.data.files import Examples, ensure, load
from qsweep.formats import FAMILIES, Unbounded, make
from qsweep.formats.reference import goes_up
from qsweep.kernels.chain_back import step
from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize
from qsweep.training import one_example
from qsweep.trial.checks import check
from qsweep.trial.key import NUMERICS, Trial
from qsweep.trial.resolve import TrialError, resolve
from qsweep.trial.settings import Quantization, Settings

pytestmark = pytest.mark.slow

DIGITS = DATASETS["digits"]
INTEGERS = {"forward": "fixed", "backward": "fixed"}
FLOAT_BACKWARD = {"forward": "fixed", "backward": "float"}
ROLES = ("weight", "bias", "activation", "error", "gradient", "update")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    folder: Path = tmp_path_factory.mktemp("data")
    ensure(DIGITS, folder, print)
    return load(DIGITS, folder, "all")


def trial(given: Mapping[str, Any], seed: int = 0) -> Trial:
    base: dict[str, Any] = {
        "data": "digits",
        "split": "all",
        "model": {"name": "mlp", "hidden": [], "output": "relu"},
        "init": {"name": "normal", "std": 0.1, "bias": "zero"},
        "loss": "squared_error",
        "optimizer": "sgd",
        "iterations": 40,
        "window": 20,
        "lr": 2.0**-4,
    }
    spec = {**base, **given}
    return resolve({name: check(name, value) for name, value in spec.items()}, seed)


def new_model(settings: Mapping[str, Any]) -> nn.Module:
    model = build(settings["model"], {}, DIGITS.shape, DIGITS.classes)
    initialize(model, settings["init"], Stream(settings["seed"]))
    return model


def trained(trials: list[Trial], examples: Examples) -> one_example._Course:
    course = one_example._Course(new_model(trials[0].settings), [t.view for t in trials], DIGITS, examples)
    for steps in course.parts():
        course.train(steps)
    return course


# --- the oracle -------------------------------------------------------------------------------------------------------


class Oracle:
    """The same training with numbers of any size: what is fixed are fractions, what is float32 is rounded to it."""

    def __init__(self, settings: Mapping[str, Any], examples: Examples) -> None:
        self.settings, self.examples = settings, examples
        self.roles = settings.get("quantize", {})
        self.output = settings["model"].get("output", "linear")
        self.stream = Stream(settings["seed"])
        layers = [layer for layer in new_model(settings) if isinstance(layer, nn.Linear)]  # type: ignore[attr-defined]
        self.widths = [layers[0].in_features, *(layer.out_features for layer in layers)]
        self.size = sum((i + 1) * o for i, o in zip(self.widths, self.widths[1:], strict=False))
        self.copies = [one_example.parameters_of(layer).reshape(-1, layer.out_features).tolist() for layer in layers]
        self.has_master = "master" in self.roles
        self.weights = [[[0.0] * len(row) for row in matrix] for matrix in self.copies]
        for layer, matrix in enumerate(self.copies):
            for j, row in enumerate(matrix):
                for i in range(len(row)):
                    self.put(layer, j, i, row[i], 0)

    def fixed(self, *roles: str) -> bool:
        return all(self.roles.get(role, {"format": "float32"})["format"] != "float32" for role in roles)

    def draw(self, role: str, step: int, index: int) -> float:
        if not self.roles[role]["rounding"].startswith("stochastic"):
            return 0.0
        values = self.size if role in one_example.OF_PARAMETERS else sum(o + 1 for o in self.widths[1:])
        like = one_example.PARAMETERS_ALIKE.get(role, role)
        return float(self.stream.uniform((values,), f"rounding {like}", "online", step)[index])

    def rounded(self, role: str, exact: Fraction | float, step: int, index: int) -> float:
        if not self.fixed(role):
            return float(np.float32(float(exact)))
        own = self.roles[role]
        elements = make(own["format"], own).elements  # type: ignore[union-attr]
        steps = Fraction(exact) / Fraction(elements.step)
        whole, part = math.floor(steps), steps - math.floor(steps)
        noise = self.draw(role, step, index)
        whole += goes_up(part, bool(whole % 2), whole < 0, own["rounding"], noise)
        if elements.overflow == "saturate":
            whole = min(max(whole, elements.lowest), elements.highest)
        return float(whole * Fraction(elements.step))

    def total(self, pairs: list[tuple[float, float]], one: str, other: str) -> Fraction | float:
        if self.fixed(one, other):
            return sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))
        total = 0.0
        for a, b in pairs:
            total += a * b
        return total

    def put(self, layer: int, j: int, i: int, value: float, step: int) -> None:
        inputs, outputs = self.widths[layer], self.widths[layer + 1]
        index = sum((a + 1) * b for a, b in zip(self.widths[:layer], self.widths[1:], strict=False)) + j * outputs + i
        if self.has_master:
            value = self.rounded("master", value, step, index)
        weight = self.rounded("bias" if j == inputs else "weight", value, step, index)
        self.weights[layer][j][i] = weight
        self.copies[layer][j][i] = value if self.has_master else weight

    def place(self, layer: int) -> int:
        return sum(o + 1 for o in self.widths[1 : layer + 1])

    def train(self) -> list[bool]:
        count = self.settings["iterations"]
        order = self.stream.permutation(len(self.examples.train_labels), "order", 1).tolist()
        return [self.step(t, order[t - 1]) for t in range(1, count + 1)]

    def step(self, t: int, example: int) -> bool:
        pixels = (self.examples.train_images[example].flatten().float() / 16).tolist()
        values = [
            [
                one_example.rounded_to_nearest(
                    np.array([v]), one_example.rules_of(Settings(self.settings).quantize)[2]
                )[0]
                for v in pixels
            ]
        ]
        last = len(self.weights) - 1
        for layer, matrix in enumerate(self.weights):
            x = [*values[-1], 1.0]
            sums = [
                self.total([(x[j], matrix[j][i]) for j in range(len(x))], "activation", "weight")
                for i in range(len(matrix[0]))
            ]
            out = [self.rounded("activation", s, t, self.place(layer) + i) for i, s in enumerate(sums)]
            values.append([max(o, 0.0) for o in out] if layer < last or self.output != "linear" else out)
        label = int(self.examples.train_labels[example])
        errors = [o - (i == label) for i, o in enumerate(values[-1])]
        if self.output == "relu":
            errors = [e if o > 0 else 0.0 for e, o in zip(errors, values[-1], strict=True)]
        errors = [self.rounded("error", e, t, self.place(last) + i) for i, e in enumerate(errors)]
        for layer in range(last, -1, -1):
            before = self.errors_before(layer, errors, values[layer], t)
            self.update(layer, errors, [*values[layer], 1.0], t)
            errors = before
        return values[-1].index(max(values[-1])) == label

    def errors_before(self, layer: int, errors: list[float], x: list[float], t: int) -> list[float]:
        if layer == 0:
            return []
        sums = [self.total(list(zip(row, errors, strict=True)), "weight", "error") for row in self.weights[layer][:-1]]
        at = self.place(layer - 1)
        return [self.rounded("error", s, t, at + j) if x[j] > 0 else 0.0 for j, s in enumerate(sums)]

    def update(self, layer: int, errors: list[float], x: list[float], t: int) -> None:
        inputs, outputs = self.widths[layer], self.widths[layer + 1]
        start = sum((a + 1) * b for a, b in zip(self.widths[:layer], self.widths[1:], strict=False))
        lr = self.settings["optimizer"]["lr"]
        for j in range(inputs + 1):
            for i in range(outputs):
                if x[j] == 0 or errors[i] == 0:
                    continue
                index = start + j * outputs + i
                product = self.total([(x[j], errors[i])], "activation", "error")
                gradient = self.rounded("gradient", product, t, index)
                move = self.rounded("update", gradient * lr, t, index)
                self.put(layer, j, i, self.copies[layer][j][i] - move, t)

    @property
    def parameters(self) -> list[float]:
        return [value for matrix in self.weights for row in matrix for value in row]


def assert_same(settings: dict[str, Any], examples: Examples) -> None:
    own = trial(settings)
    oracle = Oracle(own.settings, examples)
    hits = oracle.train()
    (found,) = trained([own], examples).all
    assert found.status == "done", found.reason
    np.testing.assert_array_equal(found.parameters.weights, np.array(oracle.parameters))
    np.testing.assert_array_equal(found.results.hits, np.array(hits[-own.settings["window"] :]))


# --- against it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ["nearest", "down", "zero", "up", "away", "stochastic", "stochastic3"])
@pytest.mark.parametrize("fraction", [3, 12, 23])
def test_integers_are_those_of_exact_arithmetic(rounding: str, fraction: int, examples: Examples) -> None:
    assert_same({**INTEGERS, "rounding": rounding, "fraction": fraction, "iterations": 25, "window": 5}, examples)


@pytest.mark.parametrize("rounding", ["nearest", "down", "zero", "up", "away", "stochastic", "stochastic3"])
def test_sums_that_a_float64_would_not_hold_are_exact(rounding: str, examples: Examples) -> None:
    """At 26 fractional bits a unit of a product is 2^-52: a sum of 2 is too much for a float64."""
    settings = {"iterations": 12, "window": 5, "lr": 2.0, "init": {"name": "normal", "std": 3.0, "bias": "zero"}}
    assert_same({**INTEGERS, **settings, "rounding": rounding, "fraction": 26}, examples)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_hidden_layers_too(rounding: str, examples: Examples) -> None:
    model = {"name": "mlp", "hidden": [7, 5], "output": "relu_ungated"}
    settings = {"model": model, "iterations": 15, "window": 5, "init": "normal(0.4)", "rounding": rounding}
    assert_same({**INTEGERS, **settings, "fraction": 10}, examples)
    assert_same({**INTEGERS, **settings, "fraction": 26, "lr": 2.0**-6, "init": "normal(1.0)"}, examples)


@pytest.mark.parametrize("output", ["linear", "relu", "relu_ungated"])
@pytest.mark.parametrize("fixed", [*ROLES, "none", "all but weight"])
def test_each_role_may_be_fixed_or_float(fixed: str, output: str, examples: Examples) -> None:
    roles = [] if fixed == "none" else [r for r in ROLES if r != "weight"] if fixed.startswith("all") else [fixed]
    named = {role: "fraction" if role in roles else "float32" for role in ROLES}
    model = {"name": "mlp", "hidden": [6], "output": output}
    settings = {"model": model, "init": "normal(0.3)", "iterations": 12, "window": 5, "fraction": 7}
    assert_same({**settings, "quantize": named}, examples)


@pytest.mark.parametrize("lr", [0.25, 1.0, 64.0])
@pytest.mark.parametrize("fraction", [0, 10])
def test_a_step_leaves_a_bound_that_holds(lr: float, fraction: int) -> None:
    """By it the kernel knows where a float64 holds its sums; gradients are rounded before the learning rate."""
    quantize = dict.fromkeys(("weight", "bias", "update"), Quantization(Unbounded(22), "up"))
    quantize["gradient"] = Quantization(Unbounded(fraction), "up")
    rules = one_example.rules_of(quantize)
    x, error = np.full(9, 2.0**-4), np.full(3, 2.0**-22)
    x[-1] = 1.0
    matrix, reach = np.zeros((9, 3)), np.zeros(2)
    chosen, offsets = np.arange(9, dtype=np.uint32), np.full(len(rules), -1)
    nothing, moves = np.empty((len(rules), 0), np.int64), np.empty((2, matrix.size))
    drawn = np.empty(0, np.float32)
    for _ in range(3):
        step(
            x, error, chosen, lr, rules, matrix, matrix[:0], 0, drawn, offsets, moves, reach, nothing
        )  # fmt: skip
        assert 0 < np.abs(matrix).max() <= reach[0]


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("master", ["float32", "fraction16", "none"])
def test_a_second_copy_holds_what_the_weights_can_not(master: str, rounding: str, examples: Examples) -> None:
    given = {} if master == "none" else {"quantize": {"master": master}}
    assert_same({**FLOAT_BACKWARD, **given, "fraction": 4, "rounding": rounding}, examples)


def test_words_of_few_bits_saturate(examples: Examples) -> None:
    quantize = {"weight": "fixed5f4", "activation": "fixed6f4", "error": "fixed4f3", "update": "fixed8f9"}
    settings = {"quantize": quantize, "lr": 0.5, "init": "normal(0.5)"}
    assert_same(settings, examples)


# --- the course -------------------------------------------------------------------------------------------------------


def test_how_iterations_are_cut_into_calls_changes_nothing(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    own = trial({**INTEGERS, "fraction": 8, "rounding": "stochastic", "iterations": 2000, "window": 1001})
    whole = trained([own], examples)
    monkeypatch.setattr(one_example, "MOST_STEPS", 7)
    parts = trained([own], examples)
    np.testing.assert_array_equal(parts.all[0].parameters.weights, whole.all[0].parameters.weights)
    assert parts.outcome(parts.all[0]) == whole.outcome(whole.all[0])


def test_a_trial_in_a_stack_gives_what_it_gives_alone(examples: Examples) -> None:
    all_of_them = [
        trial({**INTEGERS, "fraction": f, "lr": 2.0**k, "rounding": "stochastic", "iterations": 300})
        for f in (6, 12, 26)
        for k in (3, -3, -8)
    ]
    stack = trained(all_of_them, examples)
    for own, found in zip(all_of_them, stack.all, strict=True):
        alone = trained([own], examples)
        np.testing.assert_array_equal(alone.all[0].parameters.weights, found.parameters.weights)
        assert alone.outcome(alone.all[0]) == stack.outcome(found)


def test_examples_come_in_a_new_order_when_all_were_seen(examples: Examples) -> None:
    course = one_example._Course(new_model(trial({}).settings), [trial({"iterations": 4000}).view], DIGITS, examples)
    count = len(examples.train_labels)
    first = torch.cat([course._chosen(steps) for steps in course.parts()])
    assert sorted(first[:count].tolist()) == list(range(count))
    assert sorted(first[count : 2 * count].tolist()) == list(range(count))
    assert first[:count].tolist() != first[count : 2 * count].tolist()


def test_float32_learns_as_a_plain_loop_does(examples: Examples) -> None:
    own = trial({"iterations": 3000, "window": 1001})
    (found,) = (course := trained([own], examples)).all
    net = new_model(own.settings)
    order = Stream(0).permutation(len(examples.train_labels), "order", 1).tolist()
    order += Stream(0).permutation(len(examples.train_labels), "order", 2).tolist()
    optimizer, hits = torch.optim.SGD(net.parameters(), lr=2.0**-4), []
    for example in order[:3000]:
        x, y = examples.train_images[example][None].float() / 16, examples.train_labels[example]
        logits = net(x)
        hits.append(int(logits.argmax()) == int(y))
        loss = (logits - nn.functional.one_hot(y, 10)).square().sum() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    (layer,) = [layer for layer in net if isinstance(layer, nn.Linear)]  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.parameters.weights, one_example.parameters_of(layer), atol=1e-4)
    accuracy = course.outcome(found).epochs[-1]["train_accuracy"]
    assert accuracy == pytest.approx(sum(hits[-1001:]) / 1001, abs=0.003)


def test_an_overflow_and_a_nan_are_told(examples: Examples) -> None:
    linear = {"model": {"name": "mlp", "hidden": [], "output": "linear"}, "lr": 4.0, "iterations": 2000}
    integers = trained([trial({**INTEGERS, **linear, "fraction": 20})], examples).all[0]
    assert (integers.status, integers.reason.partition(" in ")[0]) == ("diverged", "an integer overflowed its 64 bits")
    floats = trained([trial(linear)], examples).all[0]
    assert (floats.status, floats.reason.partition(" in ")[0]) == ("diverged", "NaN or Inf")


def test_why_tells_which_updates_came_to_nothing(examples: Examples) -> None:
    """Errors are below 2, pixels below 1: at 2^-12 and 4 fractional bits no update is half a step."""
    course = trained([trial({**INTEGERS, "fraction": 4, "lr": 2.0**-12, "iterations": 400, "window": 200})], examples)
    row = course.outcome(course.all[0]).epochs[-1]
    assert row["update_zero"] == 1.0
    assert row["weight_stalled"] is None
    course = trained([trial({**FLOAT_BACKWARD, "fraction": 4, "lr": 2.0**-12, "iterations": 400})], examples)
    row = course.outcome(course.all[0]).epochs[-1]
    assert row["weight_stalled"] == 1.0


def test_integers_of_a_known_number_of_bits_have_a_size(examples: Examples) -> None:
    for formats, bits in (("fixed5f4", 5 * (64 * 10 + 10)), ("fraction4", None)):
        own = trial({"quantize": {"weight": formats, "bias": formats}})
        (found,) = one_example.run(new_model(own.settings), [own.view], DIGITS, examples)
        assert found.kept_sizes.get("model_bits") == bits


def test_a_test_set_is_measured_where_there_is_one(tmp_path: Path) -> None:
    ensure(DIGITS, tmp_path, print)
    standard = load(DIGITS, tmp_path)
    own = trial({"split": "standard", "iterations": 3000, **INTEGERS, "fraction": 12, "rounding": "stochastic"})
    course = trained([own], standard)
    row = course.outcome(course.all[0]).epochs[-1]
    assert 0.5 < row["test_accuracy"] < 0.9
    assert row["test_loss"] is not None


# --- what can be asked for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "path", "said"),
    [
        ({"epochs": 2}, "epochs", "replace epochs"),
        ({"batch_size": 32}, "batch_size", "expected 1"),
        ({"drop_last": True}, "drop_last", "no batches"),
        ({**INTEGERS, "fraction": 8, "lr": 0.25, "loss_scale": 8}, "loss_scale", "does not scale its loss"),
        ({"loss": "cross_entropy"}, "loss", "squared_error"),
        ({"preprocess": "centered"}, "preprocess", "a mean for each pixel"),
        ({"window": 41}, "window", "longer than 40 iterations"),
        ({"model": "lenet", "data": "mnist"}, "model", "nets of linear layers"),
        ({"model": {"name": "mlp", "dropout": 0.2}}, "model.dropout", "no dropout"),
        ({"optimizer": "adam"}, "optimizer", "take sgd"),
        ({"momentum": 0.9}, "momentum", "plain sgd"),
        ({"quantize": {"weight": "e4m3"}}, "quantize.weight", "not float"),
        ({"quantize": {"weight": "fixed8f7 overflow=wrap"}}, "quantize.weight", "wraps"),
        ({"quantize": {"momentum": "fraction8"}}, "quantize.momentum", "no momentum"),
        ({"quantize": {"weight": "fraction27"}}, "quantize.weight", "from 0 to 26"),
        ({**INTEGERS, "fraction": 8, "lr": 0.3}, "lr", "power of two"),
        ({**INTEGERS, "fraction": 8, "quantize_init": False}, "quantize_init", "begins with quantized"),
        ({"stages": [{"compress": {"weight": "uniform8"}}]}, "stages", "takes no stages"),
        ({"layers": {"linear1": "float32"}}, "layers", "takes no layers"),
        (INTEGERS, "quantize.weight", "needs a fraction"),
    ],
)
def test_what_iterations_do_not_take_is_an_error(given: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(TrialError, match=said) as error:
        trial(given)
    assert error.value.path == path


def test_forward_and_backward_are_short_for_roles() -> None:
    short = trial({**INTEGERS, "fraction": 9})
    assert short.key == trial({"fraction": 9, "quantize": dict.fromkeys(ROLES, "fraction")}).key
    assert short.key != trial({**FLOAT_BACKWARD, "fraction": 9}).key
    named = trial({**INTEGERS, "fraction": 9, "quantize": {"error": "float32"}})
    assert "error" not in named.settings["quantize"]
    assert trial({"forward": "float", "backward": "float"}).key == trial({}).key
    assert FAMILIES["fraction"].summary


def test_key_has_the_numerics_of_this_step_and_not_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = "287bc943acc3754fa5b631610e7c5f79f4a55004d44fd0f49184407c6346bbfd"
    assert trial({**INTEGERS, "fraction": 9}).key == pinned
    monkeypatch.setitem(NUMERICS, "step", 2)
    assert trial({**INTEGERS, "fraction": 9}).key == pinned
    monkeypatch.setitem(NUMERICS, "online", 2)
    assert trial({**INTEGERS, "fraction": 9}).key != pinned
