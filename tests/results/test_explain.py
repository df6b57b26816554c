"""Explanations of why a trial learned or did not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qsweep.results.explain import reasons
from qsweep.trial.checks import check
from qsweep.trial.key import Trial
from qsweep.trial.resolve import resolve
from qsweep.trial.settings import Settings

Make = Callable[..., Trial]
GOOD = {"test_accuracy": 0.9, "predicted_classes": 10, "weight_clipped": 0.01, "weight_zero": 0.02, "weight_levels": 16}


@pytest.mark.parametrize(
    ("changed", "measures", "sentence"),
    [
        (
            {"rounding": "nearest"},
            {"weight_stalled": 0.981},
            "98 % of the updates of its weights were smaller than half a step of its 4-bit weights and were lost to "
            "nearest rounding: master weights (`quantize.master: float32`), stochastic rounding, a larger learning rate, "
            "or more bits would preserve them.",
        ),
        (
            {"rounding": "nearest", "quantize": {"weight": "e4m3"}},
            {"weight_stalled": 0.9999},
            "99 % of the updates of its weights were smaller than half a step of e4m3 and were lost to nearest rounding",
        ),
        (
            {"rounding": "nearest", "quantize": {"weight": "ternary"}},
            {"weight_stalled": 1.0, "weight_clipped": 0.04},
            "100 % of the updates of its weights were smaller than half a step of ternary and were lost",
        ),
        (
            {"rounding": "down"},
            {"bias_stalled": 0.6},
            "60 % of the updates of its biases were lost to rounding down: master weights (`quantize.master: float32`), "
            "stochastic rounding, or rounding to nearest would preserve them.",
        ),
        (
            {"rounding": "nearest", "quantize": {"weight": "range4", "master": "bf16"}},
            {"weight_stalled": 0.9, "master_stalled": 0.7},
            "70 % of the updates of its master weights were smaller than half a step of bf16 and were lost to nearest "
            "rounding: stochastic rounding, a larger learning rate, or more bits would preserve them.",
        ),
        (
            {"rounding": "nearest", "quantize": {}, "layers": {"linear1": {"weight": "uniform4"}}},
            {"weight_stalled": 0.8},
            "80 % of the updates of its weights were smaller than half a step of its 4-bit weights",
        ),
        (
            {},
            {"weight_stalled": 0.97},
            "Stochastic rounding left 97 % of the weights with an update unchanged",
        ),
        ({}, {"weight_clipped": 0.32}, "32 % of its weights were out of the range of range4 scale=2.0 after an update"),
        ({}, {"bias_zero": 1.0}, "100 % of its biases are 0."),
        (
            {"quantize": {"weight": "e4m3 at=operands"}},
            {"weight_zero": 0.6},
            "Stochastic rounding rounded 60 % of its non-zero weights to 0",
        ),
        (
            {"quantize": {"weight": "e4m3 at=operands"}},
            {"weight_clipped": 0.2},
            "20 % of its weights were out of the range of e4m3 and were clipped.",
        ),
        ({}, {"weight_levels": 3}, "Its weights use 3 of the 16 values of range4 scale=2.0."),
        ({}, {"predicted_classes": 1}, "It predicts 1 of the 10 classes."),
        ({}, {"test_accuracy": 0.11}, "It does no better than guessing."),
    ],
)
def test_remarkable_facts_are_reported(
    trial: Make, changed: dict[str, Any], measures: dict[str, Any], sentence: str
) -> None:
    (found,) = reasons(trial(**changed).view, {**GOOD, **measures})
    assert found.startswith(sentence)


def test_updates_out_of_range_are_not_attributed_to_rounding(trial: Make) -> None:
    measures = {**GOOD, "weight_stalled": 1.0, "weight_clipped": 0.86}
    found, clipped = reasons(trial(rounding="nearest").view, measures)
    assert found.startswith(
        "100 % of the updates of its weights did not change them, mostly because they would leave the range of range4"
    )
    assert "a smaller learning rate or a wider range" in found
    assert clipped.startswith("86 % of its weights were out of the range")


@pytest.mark.parametrize("name", ["uniform4", "block4", "mxfp4", "nvfp4", "po2_4"])
def test_lost_updates_are_not_attributed_to_a_range_that_follows_the_values(trial: Make, name: str) -> None:
    measures = {**GOOD, "weight_stalled": 0.8, "weight_clipped": 0.45}
    found, _ = reasons(trial(rounding="nearest", quantize={"weight": name}).view, measures)
    assert "lost to nearest rounding: master weights (`quantize.master: float32`)" in found


@pytest.mark.parametrize("name", ["ternary", "binary", "qkeras_binary"])
def test_values_out_of_the_range_of_signs_are_not_reported(trial: Make, name: str) -> None:
    measures = {**GOOD, "weight_stalled": 0.8, "weight_clipped": 0.95}
    (found,) = reasons(trial(rounding="nearest", quantize={"weight": name}).view, measures)
    assert "lost to nearest rounding: master weights (`quantize.master: float32`)" in found


def test_updates_that_add_up_in_master_weights_are_not_called_lost(trial: Make) -> None:
    roles = {"weight": "uniform4", "master": "float32"}
    assert reasons(trial(quantize=roles, rounding="nearest").view, {**GOOD, "weight_stalled": 0.99}) == []


def test_nothing_is_reported_for_a_good_trial(trial: Make) -> None:
    assert reasons(trial().view, {**GOOD, "weight_stalled": 0.2}) == []


def test_float32_trial_and_trial_without_metrics_have_no_sentences_about_roles(trial: Make) -> None:
    assert reasons(trial(quantize={}).view, {"test_accuracy": 0.9, "predicted_classes": 9}) == [
        "It predicts 9 of the 10 classes."
    ]
    assert reasons(trial().view, {}) == []


def test_activations_and_errors_are_reported_without_updates_and_float32_master_weights_not_at_all(trial: Make) -> None:
    roles = {"activation": "fixed4f2", "error": "e4m3", "weight": "range4", "master": "float32"}
    measures = {"activation_clipped": 0.3, "activation_zero": 0.2, "error_zero": 0.9}
    assert reasons(trial(quantize=roles, rounding="nearest").view, {**GOOD, **measures}) == [
        "30 % of its activations were out of the range of fixed4f2 and were clipped.",
        "90 % of its non-zero errors became 0 in e4m3: a larger `loss_scale`, more bits, or stochastic "
        "rounding would keep them.",
    ]


@pytest.mark.parametrize(
    ("rounding", "sentence"),
    [
        (
            "nearest",
            "99 % of its non-zero updates became 0 in fraction8: a larger learning rate, more fraction "
            "bits, or stochastic rounding would keep them.",
        ),
        ("zero", "99 % of its non-zero updates became 0 in fraction8"),
        (
            "stochastic",
            "Stochastic rounding rounded 99 % of its non-zero updates to 0, and the others to at least a whole step.",
        ),
    ],
)
def test_updates_lost_in_integers_are_reported_as_the_cause(rounding: str, sentence: str) -> None:
    given = {
        "data": "digits",
        "model": {"name": "mlp", "hidden": []},
        "loss": "squared_error",
        "iterations": 2000,
        "quantize": {"update": "fraction8"},
        "rounding": rounding,
        "lr": 0.001953125,
    }
    settings = resolve({name: check(name, value) for name, value in given.items()}, 0).view
    lost, guessing = reasons(settings, {"train_accuracy": 0.12, "predicted_classes": 10, "update_zero": 0.994})
    assert lost.startswith(sentence)
    assert guessing == "It does no better than guessing."


@pytest.mark.parametrize(
    ("name", "used", "sentence"),
    [
        ("block8", 109, "Its weights have 109 distinct values in all."),  # a scale per tensor: 255 values each
        ("uniform8", 109, "Its weights have 109 distinct values in all."),
        ("uniform8 scaling=1", 109, "Its weights use 109 of the 256 values of uniform8 scaling=1.0."),
        ("fixed8f4", 109, "Its weights use 109 of the 256 values of fixed8f4."),
        ("uniform8 symmetric=true scaling=1", 109, "Its weights use 109 of the 255 values of"),
    ],
)
def test_values_are_compared_with_the_levels_of_a_format_only_if_all_tensors_share_them(
    trial: Make, name: str, used: int, sentence: str
) -> None:
    measures = {**GOOD, "weight_levels": used}
    (found,) = reasons(trial(quantize={"weight": name}, rounding="nearest").view, measures)
    assert found.startswith(sentence)


def test_values_are_not_compared_with_the_levels_of_a_format_if_some_layer_has_another(trial: Make) -> None:
    settings = trial(quantize={"weight": "fixed8f4"}, layers={"linear2": {"weight": "fixed4f2"}}).view
    assert reasons(settings, {**GOOD, "weight_levels": 109}) == ["Its weights have 109 distinct values in all."]


@pytest.mark.parametrize(("used", "reported"), [(42, False), (10, True)])
def test_few_values_are_not_reported_if_the_net_has_few(trial: Make, used: int, reported: bool) -> None:
    settings = trial(quantize={"weight": "float32", "bias": "fixed8f4"}).view  # a net of 43 biases
    assert bool(reasons(settings, {**GOOD, "bias_levels": used})) == reported


def test_few_biases_of_a_net_of_unknown_size_are_not_reported(trial: Make) -> None:
    settings = trial(quantize={"bias": "fixed8f4"}).view
    unknown = Settings({**settings.given, "model": {"name": "torchvision:resnet18"}})
    assert reasons(unknown, {**GOOD, "bias_levels": 10}) == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "e4m3",
            "Values beyond ±448 become NaN in e4m3, the format of its activations and errors, which may be why it"
            " diverged: with `saturate: true` they become the largest value.",
        ),
        ("e5m2", "Values beyond ±57344 become Inf in e5m2"),
        ("e4m3 saturate=true", ""),
        ("e3m2", ""),  # every code is a number
        ("bf16", ""),  # overflows where float32 does
        ("fixed8f4", ""),
    ],
)
def test_format_without_saturation_is_reported_for_a_diverged_trial(trial: Make, name: str, sentence: str) -> None:
    settings = trial(quantize={"activation": name, "error": name}, rounding="nearest").view
    found = " ".join(reasons(settings, {}, diverged=True))
    assert found.startswith(sentence)
    assert bool(found) == bool(sentence)
    assert reasons(settings, {}) == []
