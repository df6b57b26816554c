"""K-means in one dimension: what makes it a minimum, against the best of all partitions, and its codebooks' sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from qsweep.formats import parse
from qsweep.parameter import BadValueError
from qsweep.rounding import kmeans, quantize
from qsweep.trial.checks import check

Values = NDArray[np.float64]


def some(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def least_error(values: Values, clusters: int) -> float:
    """The least squared error of all ways to cut sorted values into runs (Wang & Song 2011), one by one."""
    x = np.sort(values)
    sums, squares = np.append(0, x.cumsum()), np.append(0, (x * x).cumsum())

    def cost(i: int, j: int) -> float:
        return float(squares[j] - squares[i] - (sums[j] - sums[i]) ** 2 / (j - i))

    best = [cost(0, j) if j else 0.0 for j in range(len(x) + 1)]
    for _ in range(clusters - 1):
        best = [min([best[j], *(best[i] + cost(i, j) for i in range(1, j))]) for j in range(len(x) + 1)]
    return best[-1]


def error(values: Values, found: Values) -> float:
    return float(((kmeans.nearest(values, found) - values) ** 2).sum())


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_levels_come_near_the_best_of_all_partitions(seed: int, clusters: int) -> None:
    values = np.random.default_rng(seed).normal(size=40).astype(np.float32).astype(np.float64)
    found = kmeans.levels(values, clusters)
    best = least_error(values, clusters)
    assert best <= error(values, found) * (1 + 1e-6)
    assert error(values, found) <= 1.5 * best


def test_levels_are_the_means_of_the_values_that_go_to_them() -> None:
    values = some(3000).double().numpy()
    found = kmeans.levels(values, 16)
    near = kmeans.nearest(values, found)
    assert len(found) == 16
    for level in found:
        assert values[near == level].mean() == pytest.approx(level, abs=1e-3)


def test_a_histogram_in_place_of_very_many_values_costs_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = some(20_000).double().numpy()
    exact = error(values, kmeans.levels(values, 8))
    monkeypatch.setattr(kmeans, "BINS", 4096)
    assert error(values, kmeans.levels(values, 8)) == pytest.approx(exact, rel=5e-3)


@pytest.mark.parametrize("clusters", [3, 4, 100])
def test_as_few_different_values_as_levels_stay_as_they_are(clusters: int) -> None:
    x = torch.tensor([0.1, -0.0, 0.3, 0.1, 0.3])
    assert torch.equal(quantize(x, parse(f"kmeans{clusters}")), x)


def test_channels_and_groups_have_levels_of_their_own() -> None:
    x = some(4, 3, 5)
    found = quantize(x, parse("kmeans2 per=channel"))
    assert all(len(row.unique()) == 2 for row in found)
    for row, own in zip(x, found, strict=True):
        assert torch.equal(own, quantize(row, parse("kmeans2")))
    groups = quantize(x, parse("kmeans2 per=3"))
    assert all(len(own[:3].unique()) <= 2 and torch.equal(own[3:], old[3:])
               for own, old in zip(groups.view(12, 5), x.view(12, 5), strict=True))  # fmt: skip


def test_what_is_not_finite_makes_its_group_nan_and_no_other() -> None:
    x = some(3, 8)
    x[1, 2] = torch.inf
    found = quantize(x, parse("kmeans2 per=channel"))
    assert found[1].isnan().all()
    assert torch.equal(found[0], quantize(x[0], parse("kmeans2")))


def test_the_gradient_goes_straight_through() -> None:
    x = some(9).requires_grad_()
    quantize(x, parse("kmeans2")).sum().backward()
    assert torch.equal(x.grad, torch.ones(9))  # type: ignore[arg-type]


def test_no_role_takes_levels_that_are_found_once() -> None:
    with pytest.raises(BadValueError, match="for compress, not for a role"):
        check("quantize", {"weight": "kmeans8"})
