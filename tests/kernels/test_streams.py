"""Random bits: pure functions of their name, evenly spread, and pinned."""

from __future__ import annotations

import numpy as np
import torch

from qsweep.kernels.streams import Stream

PINNED_WORDS = [1067144, 8714504, 812273, 6491014]
PINNED_ORDER = [6, 5, 0, 4, 2, 7, 1, 3]
PINNED_NORMAL = [-0.36746227741241455, 0.7651904225349426]


def test_uniform_same_name_gives_the_same_bits_whatever_was_drawn_before() -> None:
    first = Stream(3).uniform((5, 7), "dropout", "dropout1", 4)
    Stream(3).uniform((100,), "rounding weight", "linear1.weight", 4)
    assert torch.equal(first, Stream(3).uniform((5, 7), "dropout", "dropout1", 4))


def test_uniform_differs_by_seed_stage_purpose_place_and_step() -> None:
    draws = [
        Stream(0).uniform((64,), "a", "b", 1),
        Stream(1).uniform((64,), "a", "b", 1),
        Stream(0, 1).uniform((64,), "a", "b", 1),
        Stream(0).uniform((64,), "c", "b", 1),
        Stream(0).uniform((64,), "a", "c", 1),
        Stream(0).uniform((64,), "a", "b", 2),
    ]
    assert len({tuple(d.tolist()) for d in draws}) == len(draws)


def test_uniform_a_shorter_draw_is_the_beginning_of_a_longer_one() -> None:
    assert torch.equal(Stream(0).uniform((7,), "a", "b", 1), Stream(0).uniform((1000,), "a", "b", 1)[:7])


def test_uniform_is_in_0_1_on_a_grid_of_24_bits_and_even() -> None:
    u = Stream(0).uniform((1_000_000,), "a", "b", 1)
    assert u.dtype == torch.float32
    assert 0 <= u.min() < 1e-5
    assert 1 - 1e-5 < u.max() < 1
    assert torch.equal(u * 2**24, (u * 2**24).round())
    counts = torch.histc(u, 100, 0, 1)
    assert float(((counts - 10_000) ** 2 / 10_000).sum()) < 170  # chi-squared, 99 degrees of freedom: p < 1e-5


def test_permutation_holds_each_number_once_and_differs_by_step() -> None:
    one, two = Stream(0).permutation(1000, "order", 1), Stream(0).permutation(1000, "order", 2)
    assert sorted(one.tolist()) == list(range(1000))
    assert not torch.equal(one, two)


def test_normal_has_mean_0_and_variance_1() -> None:
    x = Stream(0).normal((100_000,), "init", "a")
    assert abs(x.mean()) < 0.02
    assert abs(x.var() - 1) < 0.03


def test_draws_are_pinned() -> None:
    """Every key and record rests on these bits: if this fails, raise NUMERICS["random"]."""
    words = (Stream(0).uniform((4,), "dropout", "dropout1", 1) * 2**24).int().tolist()
    assert words == PINNED_WORDS
    assert Stream(0).permutation(8, "order", 1).tolist() == PINNED_ORDER
    assert np.float32(Stream(0).normal((2,), "init", "linear1.weight")).tolist() == PINNED_NORMAL
