"""Histograms of trained weights: every value in its bin, and the same bits in any stack."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qsweep.training.histograms import histogram, histograms
from qsweep.training.job import Job
from qsweep.trial.key import Trial, stack_signature

Make = Callable[..., Trial]

CONVOLUTION = """
from torch import nn

def net(shape, classes):
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, classes))
"""


def records(trials: list[Trial], folder: Path, **sources: str) -> list[dict[str, Any]]:
    settings = [trial.settings for trial in trials]
    return Job(sources, folder, "cpu")(settings)


# --- one tensor -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [1, 2, 8, 64])
@pytest.mark.parametrize("shape", [(65,), (13, 5), (5, 13, 2, 2)])
def test_histogram_of_numbers_whose_bins_are_exact_is_numpys(bins: int, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(bins)
    values = torch.randint(-32, 33, shape, generator=generator) / 64
    values.view(-1)[:2] = torch.tensor([-0.5, 0.5])
    counts, edges = np.histogram(values.numpy().astype(np.float64), bins)
    found = histogram(values, bins)
    assert found == {"low": edges[0], "high": edges[-1], "counts": counts.tolist()}


@pytest.mark.parametrize("bins", [7, 1000, 10_000])
def test_histogram_counts_each_value_once_and_in_its_bin(bins: int) -> None:
    values = torch.randn(3000, generator=torch.Generator().manual_seed(0))
    found = histogram(values, bins)
    low, high = min(values.tolist()), max(values.tolist())
    expected = [0] * bins
    for x in values.tolist():
        expected[min(math.floor((x - low) / (high - low) * bins), bins - 1)] += 1
    assert found == {"low": low, "high": high, "counts": expected}
    assert sum(expected) == 3000


@pytest.mark.parametrize("value", [0.0, -0.0, -0.25, 2.0**-149])
def test_histogram_of_values_all_alike_fills_the_first_bin(value: float) -> None:
    found = histogram(torch.full((5,), value), 3)
    assert found == {"low": value, "high": value, "counts": [5, 0, 0]}
    assert "-0.0" not in json.dumps(found), "two texts for one number"


def test_histogram_does_not_depend_on_how_a_tensor_lies_in_memory() -> None:
    values = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    assert histogram(values.t().contiguous().t(), 50) == histogram(values, 50)


def test_histograms_are_of_parameters_that_have_a_role() -> None:
    values = {"a.weight": torch.tensor([0.0, 1.0]), "norm.weight": torch.tensor([2.0])}
    found = histograms(values, {"a.weight": "weight"}, 2)
    assert found == {"a.weight": {"role": "weight", "low": 0.0, "high": 1.0, "counts": [1, 1]}}


# --- of a trial -------------------------------------------------------------------------------------------------------


def test_trial_that_asks_has_one_of_each_weight_and_bias_in_its_result_alone(data_folder: Path, trial: Make) -> None:
    (record,) = records([trial(histogram=50)], data_folder)
    found = record["result"]["histograms"]
    assert list(found) == ["linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"]
    sizes = {place: sum(own["counts"]) for place, own in found.items()}
    assert sizes == {"linear1.weight": 64 * 33, "linear1.bias": 33, "linear2.weight": 33 * 10, "linear2.bias": 10}
    assert {(own["role"], len(own["counts"])) for own in found.values()} == {("weight", 50), ("bias", 50)}
    assert all(-0.5 <= own["low"] < own["high"] < 0.5 for own in found.values()), "scale 2: the range is ±1/2"
    assert "histograms" not in record["history"][-1]


def test_trial_that_does_not_ask_has_none_and_trains_to_the_same_numbers(data_folder: Path, trial: Make) -> None:
    (asked,), (plain,) = records([trial(histogram=9)], data_folder), records([trial()], data_folder)
    assert "histograms" not in plain["result"]
    assert asked["history"] == plain["history"]
    assert {**plain["result"], "histograms": asked["result"]["histograms"]} == asked["result"]


def test_stack_gives_each_trial_the_histograms_that_it_has_alone(data_folder: Path, trial: Make) -> None:
    trials = [trial(histogram=100, lr=0.5 / (i + 1), bitwidth=2 + i, epochs=1) for i in range(5)]
    together = records(trials, data_folder)
    alone = [record for one in trials[2:] for record in records([one], data_folder)]
    assert [r["result"]["histograms"] for r in alone] == [r["result"]["histograms"] for r in together[2:]]


def test_trial_beside_one_that_diverged_keeps_its_own_histograms(data_folder: Path, trial: Make) -> None:
    bad, good = (trial(lr=lr, quantize={}, histogram=20) for lr in (1e30, 0.1))
    diverged, beside = records([bad, good], data_folder)
    (alone,) = records([good], data_folder)
    assert (diverged["status"], diverged["result"]) == ("diverged", {})
    assert beside["result"] == alone["result"]


def test_convolution_weights_are_counted_and_batch_norms_are_not(data_folder: Path, trial: Make) -> None:
    own = trial(sources={"m.py": "d"}, model="m.py:net", init="he", lr=0.01, quantize={}, histogram=10, epochs=1)
    (record,) = records([own], data_folder, d=CONVOLUTION)
    assert list(record["result"]["histograms"]) == ["0.weight", "0.bias", "4.weight", "4.bias"]


# --- the parameter ----------------------------------------------------------------------------------------------------


def test_key_changes_where_a_histogram_is_asked_for_alone(trial: Make) -> None:
    assert trial(histogram=0).key == trial().key
    assert len({trial(histogram=bins).key for bins in (0, 10, 1000)}) == 3


def test_numerics_of_histograms_are_in_the_keys_that_have_some(trial: Make) -> None:
    assert "histogram" not in trial().settings["numerics"]
    assert trial(histogram=5).settings["numerics"]["histogram"] == 1


def test_trials_of_one_stack_share_their_bins(trial: Make) -> None:
    assert stack_signature(trial(histogram=5).settings) != stack_signature(trial(histogram=6).settings)
