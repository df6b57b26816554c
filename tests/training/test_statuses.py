"""The status of a trial in which a NaN, an Inf or an exception appears, in every phase of every stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qsweep.training.course import Course, Totals
from qsweep.training.job import Job
from qsweep.training.nets import Net
from qsweep.training.step import Stepper
from qsweep.trial.key import Trial

Make = Callable[..., Trial]
STEPS = 2 * math.ceil(1500 / 500)
STAGES: dict[str, dict[str, Any]] = {
    "training": {},
    "compress": {"stages": [{"compress": {"weight": "fixed8f4"}}]},
    "retrain": {"stages": [{"compress": {"weight": "fixed8f4"}}, {"retrain": {"epochs": 2}}]},
}
HIT = 1
"""The trial of three that it happens to."""


def trials(make: Make, stage: str) -> list[Trial]:
    given: dict[str, Any] = {"model": {"name": "mlp", "hidden": [9]}, "quantize": {}, "epochs": 2, "batch_size": 500}
    return [make(lr=lr, **given, **STAGES[stage]) for lr in (0.1, 0.2, 0.3)]


def run(of: Sequence[Trial], folder: Path, given: Sequence[bytes] = ()) -> list[dict[str, Any]]:
    return Job(sources={}, data_folder=folder, device="cpu", kept=[t.key for t in of])([t.settings for t in of], given)


def bases(of: Sequence[Trial], folder: Path) -> list[bytes]:
    """What the last stage of trials starts from."""
    weights: list[bytes] = []
    for at in range(len(of[0].bases)):
        weights = [record["weights"] for record in run([t.bases[at] for t in of], folder, weights)]
    return weights


Poison = Callable[[Mapping[str, Tensor]], None]


def at_step(patched: pytest.MonkeyPatch, step: int, poison: Poison) -> None:
    """Do something to the weights after so many updates, counted from 1; 0: before the first."""
    original, start, taken = Stepper.update, Course.__post_init__, [0]

    def update(self: Stepper, values: Any, *more: Any, **named: Any) -> None:
        original(self, values, *more, **named)
        taken[0] += 1
        if taken[0] == step:
            poison(values)

    def begin(self: Course) -> None:
        start(self)
        if step == 0:
            poison(self.net.values)

    patched.setattr(Stepper, "update", update)
    patched.setattr(Course, "__post_init__", begin)


def at_evaluation(patched: pytest.MonkeyPatch, number: int, poison: Callable[[Tensor], None]) -> None:
    """Do something to the outputs in one evaluation, counted from 1."""
    original, seen = Net.logits, [0]

    def logits(self: Net, x: Tensor, part: slice) -> Tensor:
        found = original(self, x, part)
        seen[0] += 1
        if seen[0] == number:
            poison(found)
        return found

    patched.setattr(Net, "logits", logits)


def fill(value: float) -> Poison:
    def poison(values: Mapping[str, Tensor]) -> None:
        for own in values.values():
            own[(HIT, *([0] * (own.dim() - 1)))] = value

    return poison


def overflow(values: Mapping[str, Tensor]) -> None:
    for own in values.values():
        own[HIT].fill_(3e38)


def check(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]], reason: str) -> None:
    """One trial diverged, and its neighbours have the bits that they have without that."""
    assert [record["status"] for record in found] == ["done", "diverged", "done"]
    assert found[HIT]["reason"] == reason
    assert found[HIT]["result"] == {}
    assert "weights" not in found[HIT]
    for at in (0, 2):
        assert found[at]["history"] == expected[at]["history"]
        assert found[at]["result"] == expected[at]["result"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("step", "epoch"), [(0, 1), (1, 1), (STEPS // 2, 1), (STEPS // 2 + 1, 2), (STEPS, 2)])
@pytest.mark.parametrize("stage", ["training", "retrain"])
def test_a_weight_that_is_not_finite_at_any_step_is_diverged(
    data_folder: Path, trial: Make, monkeypatch: pytest.MonkeyPatch, stage: str, step: int, epoch: int, value: float
) -> None:
    of = trials(trial, stage)
    given = bases(of, data_folder)
    expected = run(of, data_folder, given)
    with monkeypatch.context() as patched:
        at_step(patched, step, fill(value))
        found = run(of, data_folder, given)
    check(found, expected, f"NaN or Inf in a batch loss or a weight in epoch {epoch}")
    assert len(found[HIT]["history"]) == epoch - 1


@pytest.mark.parametrize("stage", ["training", "retrain"])
def test_outputs_that_overflow_after_the_last_update_are_diverged(
    data_folder: Path, trial: Make, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """All weights are finite, and so is every loss that the training saw."""
    of = trials(trial, stage)
    given = bases(of, data_folder)
    expected = run(of, data_folder, given)
    with monkeypatch.context() as patched:
        at_step(patched, STEPS, overflow)
        found = run(of, data_folder, given)
    check(found, expected, "NaN or Inf in the outputs or the loss of the test set after epoch 2")
    assert [row["epoch"] for row in found[HIT]["history"]] == [1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("stage", "epoch"), [("training", 1), ("training", 2), ("retrain", 1), ("retrain", 2), ("compress", 1)]
)
def test_an_output_that_is_not_finite_in_an_evaluation_is_diverged(
    data_folder: Path, trial: Make, monkeypatch: pytest.MonkeyPatch, stage: str, epoch: int, value: float
) -> None:
    of = trials(trial, stage)
    given = bases(of, data_folder)
    expected = run(of, data_folder, given)

    def poison(logits: Tensor) -> None:
        logits[HIT, 3, 7] = value

    with monkeypatch.context() as patched:
        at_evaluation(patched, epoch, poison)
        found = run(of, data_folder, given)
    where = "its compression" if stage == "compress" else f"epoch {epoch}"
    check(found, expected, f"NaN or Inf in the outputs or the loss of the test set after {where}")
    assert len(found[HIT]["history"]) == epoch - 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_after_a_compression_is_diverged(
    data_folder: Path, trial: Make, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    of = trials(trial, "compress")
    given = bases(of, data_folder)
    expected = run(of, data_folder, given)
    with monkeypatch.context() as patched:
        at_step(patched, 0, fill(value))
        found = run(of, data_folder, given)
    check(found, expected, "NaN or Inf in a weight after its compression")
    assert found[HIT]["history"] == []


def test_a_loss_of_the_test_set_that_overflows_is_diverged_though_all_outputs_are_finite(
    data_folder: Path, trial: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = [trial(lr=lr, quantize={}, epochs=1, loss="squared_error") for lr in (0.01, 0.02, 0.03)]
    expected = run(of, data_folder)

    def poison(logits: Tensor) -> None:
        logits[HIT, 3, 7] = 1e30

    with monkeypatch.context() as patched:
        at_evaluation(patched, 1, poison)
        found = run(of, data_folder)
    check(found, expected, "NaN or Inf in the outputs or the loss of the test set after epoch 1")


def test_a_net_that_overflows_in_the_last_update_of_a_sweep_is_diverged(data_folder: Path, trial: Make) -> None:
    """One step with a huge learning rate: finite weights, and accuracy 0 of outputs that are NaN."""
    given: dict[str, Any] = {"model": {"name": "mlp", "hidden": [16]}, "epochs": 1, "batch_size": 1500}
    rates = (0.1, 1e18, 1e25, 1e37)
    of = [trial(lr=lr, loss="squared_error", quantize={}, **given) for lr in rates]
    assert [record["status"] for record in run(of, data_folder)] == ["done", "diverged", "diverged", "diverged"]


def boom(*_: object) -> None:
    raise RuntimeError("boom")


@pytest.mark.parametrize("step", [0, 1, STEPS // 2, STEPS])
@pytest.mark.parametrize("stage", STAGES)
def test_an_exception_at_any_step_is_failed_and_never_raised(
    data_folder: Path, trial: Make, monkeypatch: pytest.MonkeyPatch, stage: str, step: int
) -> None:
    of = trials(trial, stage)
    given = bases(of, data_folder)
    with monkeypatch.context() as patched:
        at_step(patched, step, boom)
        found = run(of, data_folder, given)
    untouched = stage == "compress" and step > 0  # a compression takes no step
    expected = ("done", "") if untouched else ("failed", "RuntimeError: boom")
    assert [(record["status"], record["reason"]) for record in found] == [expected] * 3


@pytest.mark.parametrize("stage", STAGES)
def test_an_exception_in_an_evaluation_is_failed_and_never_raised(
    data_folder: Path, trial: Make, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    of = trials(trial, stage)
    given = bases(of, data_folder)
    with monkeypatch.context() as patched:
        at_evaluation(patched, 1, boom)
        found = run(of, data_folder, given)
    assert [(record["status"], record["reason"]) for record in found] == [("failed", "RuntimeError: boom")] * 3


def test_classes_that_are_predicted_leave_out_those_of_no_class() -> None:
    totals = Totals(1)
    totals.examples = 3
    totals.seen = torch.tensor([[True, False, True, True]])
    assert totals.predicted(0) == 2
    assert Totals(1).predicted(0) is None
