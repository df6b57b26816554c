"""The search by bisection finds the same as the whole grid with part of its trials."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project import Project

from qsweep.cli.report import outcome
from qsweep.errors import SpecError
from qsweep.results.records import Record
from qsweep.runner.schedule import Summary
from qsweep.runner.search import Bisection, Found
from qsweep.runner.sweep import Result
from qsweep.spec.file import read
from qsweep.spec.plan import Plan, expand

pytestmark = pytest.mark.slow

SPEC = """
trial: {data: digits, model: softmax, lr: 0.1, quantize: {weight: range}}
grid:
  lr: [0.1, 0.2]
  bitwidth: {range: [16, 1]}
also: [{trial: {quantize: {}}, grid: {lr: [0.1, 0.2]}}]
seeds: 2
search: {bisect: bitwidth, reach: 95%}
"""

Accuracy = Callable[[float, int, int], float | None]
"""The accuracy for a learning rate, bitwidth and seed; None for a trial that diverges."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path: Path = tmp_path_factory.mktemp("spec") / "s.yaml"
    path.write_text(SPEC)
    return expand(read(path))


def searched(plan: Plan, accuracy: Accuracy, failing: int | None = None) -> tuple[dict[str, Record], Found, int]:
    """The final records, the result, and the number of rounds."""
    assert plan.spec.search is not None
    places = {
        row.trial.key: (row.axes[plan.axes.index("lr")], row.axes[plan.axes.index("bitwidth")]) for row in plan.rows
    }
    search, records, rounds, tried = Bisection(plan, plan.spec.search), dict[str, Record](), 0, set[str]()
    while wanted := search.wanted(records, tried):
        rounds += 1
        for trial in wanted:
            assert trial.key not in records
            tried.add(trial.key)
            lr, bits = places[trial.key]
            if bits is not None and bits == failing:
                continue
            value = 0.9 if bits is None else accuracy(lr, bits, trial.seed)
            status, result = ("diverged", {}) if value is None else ("done", {"test_accuracy": value})
            records[trial.key] = Record(trial.key, "e", status, "", "{}", "{}", result, {}, 1, 0.0, "")
    return records, search.found(records), rounds


def trained_bits(plan: Plan, records: dict[str, Record], lr: float) -> set[int]:
    lrs, bits = plan.axes.index("lr"), plan.axes.index("bitwidth")
    return {row.axes[bits] for row in plan.rows if row.axes[lrs] == lr and row.axes[bits] and row.trial.key in records}


@settings(deadline=None)
@given(st.integers(1, 17), st.integers(1, 17))
def test_every_edge_of_a_monotone_grid_is_found_with_a_part_of_its_trials(plan: Plan, one: int, other: int) -> None:
    def accuracy(lr: float, bits: int, seed: int) -> float:
        return 0.9 if bits >= (one if lr == 0.1 else other) else 0.2

    records, found, rounds = searched(plan, accuracy)
    for lr, first in ((0.1, one), (0.2, other)):
        known = trained_bits(plan, records, lr)
        assert {first - 2, first - 1, first, first + 1} & set(range(1, 17)) <= known or first == 17
        assert len(known) <= 8
    assert found == Found(2, sum(first < 17 for first in (one, other)), (), 0, len(plan.trials) - len(records))
    assert rounds <= 6


def test_neighbour_that_breaks_monotonicity_moves_the_edge_or_is_reported(plan: Plan) -> None:
    reaching = {8, 9, 11, 12, 13, 14, 15, 16}

    def accuracy(lr: float, bits: int, seed: int) -> float:
        return 0.9 if bits in (reaching if lr == 0.1 else {6, *range(8, 17)}) else 0.2

    records, found, _ = searched(plan, accuracy)
    assert {6, 7, 8, 9} <= trained_bits(plan, records, 0.1)
    assert {5, 6, 7, 8} <= trained_bits(plan, records, 0.2)
    assert found.uneven == ("lr=0.2",)


def test_diverged_seed_does_not_reach(plan: Plan) -> None:
    def accuracy(lr: float, bits: int, seed: int) -> float | None:
        return None if bits < 5 and seed == 1 else 0.9

    records, found, _ = searched(plan, accuracy)
    assert found.edges == 2
    assert {4, 5} <= trained_bits(plan, records, 0.1)


def test_line_whose_ends_and_middle_do_not_reach_is_not_trained_further(plan: Plan) -> None:
    records, found, rounds = searched(plan, lambda lr, bits, seed: 0.1)
    assert (found.edges, rounds) == (0, 1)
    assert len(trained_bits(plan, records, 0.1)) == 3


def test_failed_trials_are_not_retried(plan: Plan) -> None:
    records, found, _ = searched(plan, lambda lr, bits, seed: 0.9 if bits > 4 else 0.1, failing=9)
    assert found.lines == 2
    assert 9 not in trained_bits(plan, records, 0.1)
    assert found.needed == 4  # two seeds of two lines


@pytest.mark.parametrize(
    ("old", "new", "output"),
    [
        ("bisect: bitwidth", "bisect: bits", "s.yaml:8:10: search.bisect: unknown axis 'bits'"),
        ("bisect: bitwidth", "bisect: lr", "s.yaml:8:1: search: 95% is a share of the accuracy of trials without lr"),
        ("{range: [16, 1]}", "[16, 1]\n  rounding: [zero, nearest]", None),
        ("also: [{trial: {quantize: {}}, grid: {lr: [0.1, 0.2]}}]", "", "add a block of them"),
        ("search: {bisect: bitwidth, reach: 95%}", "search: bitwidth", "search"),
        (
            "also: [",
            "also: [{trial: {rounding: zero}, grid: {lr: [0.1], bitwidth: [4]}}, ",
            "s.yaml:8:1: search: two trials at one place of the grid differ in rounding",
        ),
        ("reach: 95%", "reach: 95", "search"),
        ("reach: 95%", "to: 1", "search"),
    ],
)
def test_invalid_search_is_refused_at_its_line(tmp_path: Path, old: str, new: str, output: str | None) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SPEC.replace(old, new))
    if output is None:
        expand(read(path))
        path.write_text(path.read_text().replace("bisect: bitwidth", "bisect: rounding"))
        output = 's.yaml:9:10: search.bisect: rounding has the value "zero", which is not a number, so it has no order'
    with pytest.raises(SpecError, match=re.escape(output)):
        expand(read(path))


def test_unfinished_search_is_reported(plan: Plan) -> None:
    def output(found: Found) -> list[str]:
        return list(outcome(Result(Path(), plan, 0, 0, Summary(), {}, [], found)))

    assert (
        output(Found(2, 1, (), 4, 10))[-1]
        == "searched 2 lines, not to the end: 4 trials are needed next; run again to continue"
    )
    assert output(Found(2, 1, (), 0, 10))[-1] == (
        "searched 2 lines: 1 with an edge, 1 where neither the ends nor the middle reach it; 10 trials were not needed"
    )


def test_run_with_a_search_continues_where_it_was_and_finds_the_edges_of_the_grid(
    tmp_path: Path, data_folder: Path
) -> None:
    grid = """
trial: {data: digits, split: all, model: {name: mlp, hidden: []}, loss: squared_error, init: normal(0.1),
        iterations: 2000, forward: fixed, backward: fixed, rounding: zero}
grid: {lr: [0.03125, 0.0625], fraction: {range: [1, 16]}}
also: [{trial: {forward: float, backward: float}, grid: {lr: [0.03125, 0.0625]}}]
plots: [{kind: threshold, x: lr, y: fraction, z: train_accuracy, reach: 70%}]
"""
    project = Project(tmp_path, data_folder)
    project.write("part.yaml", grid + "search: {bisect: fraction, reach: 70%}\n")
    project.write("whole.yaml", grid)
    output = project.run("run", "part.yaml", "--backend", "serial")
    assert "searched 2 lines: 2 with an edge; " in output
    assert "missing" not in output
    trained = len(project.records())
    assert trained < 20
    again = project.run("run", "part.yaml", "--backend", "serial")
    assert "trained 0, known" in again
    assert len(project.records()) == trained
    project.run("run", "whole.yaml", "--backend", "serial")
    part, whole = (
        project.out("table", f"results/{name}", "--lowest", "fraction", "--reach", "70%") for name in ("part", "whole")
    )
    assert [line.split()[:3] for line in part.splitlines()[1:]] == [line.split()[:3] for line in whole.splitlines()[1:]]
    assert (tmp_path / "results" / "part" / "figures" / "threshold-train_accuracy.png").is_file()
