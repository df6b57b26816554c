"""The bases that must run before a trial with stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from qsweep.results.records import Record
from qsweep.runner.lineage import family, needed, storing_weights, taken_over
from qsweep.trial.key import Trial

Make = Callable[..., Trial]
COMPRESS = {"compress": {"weight": "uniform4"}}
STAGES = [COMPRESS, {"retrain": {"epochs": 1}}, COMPRESS]


def record(key: str, status: str = "done", reason: str = "") -> Record:
    return Record(key, "here", status, reason, "{}", "{}", {}, {}, 1, 0.0, "")


@pytest.fixture
def long(trial: Make) -> Trial:
    return trial(quantize={}, stages=STAGES)


def names(trials: list[Trial], of: Trial) -> list[int]:
    """The number of stages of each trial."""
    line = [one.key for one in (*of.bases, of)]
    return [line.index(one.key) for one in trials]


def run(of: Trial, records: Mapping[str, Record], *weights: Trial) -> list[int]:
    there = {one.key for one in weights}
    return names(needed([of], records, there.__contains__), of)


def test_needed_without_records_is_every_stage_once_and_in_order(trial: Make, long: Trial) -> None:
    other = trial(quantize={}, stages=[*STAGES, {"retrain": {"epochs": 2}}])
    found = needed([other, long], {}, lambda key: False)
    assert [one.key for one in found] == [*(base.key for base in long.bases), long.key, other.key]


def test_needed_begins_after_the_last_base_with_weights(long: Trial) -> None:
    records = {base.key: record(base.key) for base in long.bases}
    assert run(long, records, *long.bases) == [3]
    assert run(long, records, *long.bases[:2]) == [2, 3]
    assert run(long, records) == [0, 1, 2, 3]


def test_needed_ignores_weights_without_a_record(long: Trial) -> None:
    assert run(long, {}, *long.bases) == [0, 1, 2, 3]


@pytest.mark.parametrize(("status", "stages"), [("diverged", [3]), ("failed", [0, 1, 2, 3]), ("timeout", [0, 1, 2, 3])])
def test_needed_includes_a_base_without_weights_unless_it_diverged(long: Trial, status: str, stages: list[int]) -> None:
    records = {base.key: record(base.key, status) for base in long.bases}
    assert run(long, records) == stages


def test_family_and_trials_whose_weights_are_stored(trial: Make, long: Trial) -> None:
    plain = trial(quantize={}, lr=0.5)
    assert [one.key for one in family([long, plain, long.bases[0]])] == [
        *(base.key for base in long.bases),
        *(long.key, plain.key),
    ]
    assert storing_weights([long, plain]) == {long.key, long.bases[-1].key}
    assert storing_weights([*long.bases, long]) == {base.key for base in long.bases} | {long.key}


def test_taken_over_has_the_status_and_reason_of_the_base(long: Trial) -> None:
    found: dict[str, Any] = taken_over(long, "diverged", "NaN in epoch 3", "here")
    assert (found["key"], found["status"], found["environment"]) == (long.key, "diverged", "here")
    assert found["reason"] == f"its base {long.bases[-1].key[:10]} diverged: NaN in epoch 3"
