"""What counts as trained, and the lowest value that reaches it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsweep.parameter import BadValueError
from qsweep.trial.reach import Edge, Reach, edge, read_reach


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("95%", Reach(0.95, True)),
        ("100 %", Reach(1.0, True)),
        ("7.5%", Reach(0.075, True)),
        ("0.9", Reach(0.9, False)),
        (0.9, Reach(0.9, False)),
        (1, Reach(1.0, False)),
    ],
)
def test_reach_is_a_share_or_an_accuracy(text: object, meant: Reach) -> None:
    assert read_reach(text) == meant


@pytest.mark.parametrize("text", ["0%", "101%", "95", "0", "-1%", "much", "", None, "nan", [0.9], "95%%"])
def test_what_is_neither_is_refused(text: object) -> None:
    with pytest.raises(BadValueError, match="expected a share such as 95%"):
        read_reach(text)


def test_a_share_is_one_of_the_best_reference_that_is_known() -> None:
    assert read_reach("50%").target([0.2, math.nan, 0.8]) == 0.4
    assert read_reach("0.3").target([]) == 0.3
    assert math.isnan(read_reach("50%").target([math.nan]))


ACCURACIES = st.dictionaries(st.integers(1, 30).map(float), st.floats(0, 1) | st.just(math.nan), max_size=12)


@given(ACCURACIES, st.floats(0.01, 1))
def test_edge_is_the_least_value_that_reaches_and_names_all_above_that_do_not(
    accuracies: dict[float, float], target: float
) -> None:
    found = edge(accuracies, target)
    reaching = {value for value in accuracies if accuracies[value] >= target}
    assert found.lowest == min(reaching, default=None)
    above = {value for value in accuracies if found.lowest is not None and value > found.lowest}
    assert set(found.fails) == above - reaching


def test_nothing_reaches_a_target_that_is_not_known() -> None:
    assert edge({1.0: 0.9}, math.nan) == Edge(None)
