"""Values cut off before they are rounded: percentiles and least squares against numpy and a search by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from qsweep.formats import parse
from qsweep.rounding import quantize
from qsweep.rounding.clipping import RATIOS, compressed


def some(*shape: int) -> Tensor:
    """Most values near 0, a few far away."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)) ** 3


@pytest.mark.parametrize(
    "name", ["uniform3", "uniform4 symmetric=true per=channel", "block4 per=5", "fixed6f3", "po2_4"]
)
def test_nothing_is_cut_off_unless_it_is_asked_for(name: str) -> None:
    x = some(6, 10)
    assert torch.equal(compressed(x, parse(name), "none", 1), quantize(x, parse(name), contraction=1))


def test_a_percentage_is_what_numpy_leaves_between_two_quantiles() -> None:
    x = some(40, 50)
    low, high = np.quantile(x.double().numpy(), [0.05, 0.95]).astype(np.float32)
    found = compressed(x, parse("uniform3"), 90.0, 1)
    assert torch.equal(found, quantize(x.clamp(float(low), float(high)), parse("uniform3")))
    assert float(found.min()) == low
    assert float(found.max()) == high


def test_a_percentage_is_of_each_group_by_itself() -> None:
    x = some(3, 200) * torch.tensor([[1.0], [100.0], [0.01]])
    found = compressed(x, parse("uniform3 per=channel"), 95.0, 1)
    for row, own in zip(x, found, strict=True):
        assert torch.equal(own, compressed(row, parse("uniform3"), 95.0, 0))


@pytest.mark.parametrize("name", ["uniform2", "uniform4", "uniform4 symmetric=true", "block3", "po2_3"])
def test_least_squares_is_the_best_of_all_cuts(name: str) -> None:
    x, fmt = some(500), parse(name)
    middle, half = (x.min() + x.max()) / 2, (x.max() - x.min()) / 2
    if name in ("uniform2", "uniform4"):
        cuts = [x if r == 1 else x.clamp(middle - half * r, middle + half * r) for r in RATIOS]
    else:
        cuts = [x.clamp(-x.abs().max() * r, x.abs().max() * r) for r in RATIOS]
    errors = [float((quantize(cut, fmt) - x).double().square().sum()) for cut in cuts]
    found = float((compressed(x, fmt, "least_squares", 0) - x).double().square().sum())
    assert found == pytest.approx(min(errors))
    assert found < errors[0] or name == "po2_3"


def test_least_squares_of_channels_are_those_of_each_alone() -> None:
    x = some(4, 3, 3, 3)
    fmt, alone = parse("uniform3 per=channel"), parse("uniform3")
    found = compressed(x, fmt, "least_squares", 1)
    for row, own in zip(x, found, strict=True):
        assert torch.equal(own, compressed(row, alone, "least_squares", 1))


@pytest.mark.parametrize("clip", [80.0, "least_squares"])
def test_a_group_that_is_shorter_than_others_is_cut_by_its_own_values(clip: float | str) -> None:
    x = some(2, 25)
    found = compressed(x, parse("uniform2 per=16"), clip, 1)
    for row, own in zip(x, found, strict=True):
        assert torch.equal(own[16:], compressed(row[16:], parse("uniform2"), clip, 0))


def test_where_nothing_helps_it_is_rounded_as_without_a_cut() -> None:
    x = torch.full((8,), 1e38)
    assert torch.equal(compressed(x, parse("e4m3"), "least_squares", 0).isnan(), quantize(x, parse("e4m3")).isnan())


def test_what_has_one_value_stays() -> None:
    x = torch.full((3, 4), 0.1)
    for clip in (90.0, "least_squares"):
        assert torch.equal(compressed(x, parse("uniform3"), clip, 1), x)
