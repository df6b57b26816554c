"""What is told of why a trial learns or doesn't: against counts made by hand, and at no cost in bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qsweep.formats import parse
from qsweep.kernels.streams import Stream
from qsweep.rounding import quantize
from qsweep.training.optimizers import OptimizerStack, Rows, update_eager
from qsweep.training.places import Places
from qsweep.training.roles import Noise
from qsweep.training.step import Stepper
from qsweep.training.why import Tally, different, is_watched, levels
from qsweep.trial.key import Trial
from qsweep.trial.settings import OptimizerSettings

NO_NOISE = Noise(Stream(0), 1, "cpu")
Make = Callable[..., Trial]
ROLES = {"linear1.weight": "weight", "linear1.bias": "bias"}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd"},
    "decay": {"optimizer": "sgd", "weight_decay": 0.1},
    "momentum": {"optimizer": "sgd", "momentum": 0.9},
    "rmsprop": {"optimizer": "rmsprop"},
    "adam": {"optimizer": "adam", "weight_decay": 0.1},
}


def tensors(count: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of a few trials that lie as a net's do, and gradients with zeros among them."""
    torch.manual_seed(1)
    values = {
        "linear1.weight": torch.randn(count, 30, 20).transpose(1, 2) * 0.4,
        "linear1.bias": torch.randn(count, 20) * 0.4,
    }
    gradients = {name: torch.randn_like(v) * (torch.rand_like(v) > 0.3) for name, v in values.items()}
    return values, gradients


def step(trials: list[Trial], tally: Tally | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    values, gradients = tensors(len(trials))
    stepper = Stepper([t.view for t in trials], Places((), (), ROLES, ()), values)
    stepper.quantize(values, NO_NOISE)
    before = {name: value.clone() for name, value in values.items()}
    stepper.start(1)
    stepper.update(values, gradients, NO_NOISE, slice(0, len(trials)), tally)
    return before, values


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "name", ["range4", "fixed6f4", "fixed5f4 overflow=wrap", "block4 per=8", "uniform4 scaling=0.5"]
)
def test_tally_has_the_counts_of_the_formulas_and_changes_no_bit(trial: Make, optimizer: str, name: str) -> None:
    trials = [
        trial(quantize={"weight": name}, rounding="nearest", scale=2, lr=lr, **OPTIMIZERS[optimizer])
        for lr in (0.01, 0.3)
    ]
    tally = Tally(2, ("weight", "bias"))
    before, after = step(trials, tally)
    _, plain = step(trials, None)
    _, gradients = tensors(2)
    fmt = parse(f"{name} scale=2" if name == "range4" else name)
    for p, one in enumerate(trials):
        for place, role in ROLES.items():
            assert torch.equal(plain[place][p], after[place][p])
            old, own = before[place][p], one.view.optimizer
            update = by_hand(old, gradients[place][p], own)
            moved = old - update
            ends = (-0.5, 0.4375) if name == "range4" else (-2.0, 1.9375) if name == "fixed6f4" else (-0.5, 0.5)
            clipped = 0 if "wrap" in name else int(((moved < ends[0]) | (moved > ends[1])).sum())
            stalled = int(((update != 0) & (old == after[place][p])).sum())
            found = tally.counts[role][:, p].tolist()
            assert found[0] == old.numel()
            assert found[4:] == [int((update != 0).sum()), stalled]
            if not name.startswith("block"):
                assert found[1] == clipped
            assert torch.equal(after[place][p], quantize(moved, fmt, contraction=min(1, old.dim() - 1)))


def by_hand(weight: Tensor, gradient: Tensor, own: OptimizerSettings) -> Tensor:
    """The update of a first step."""
    memory = {name: torch.zeros_like(weight)[None] for name in own.memory}
    rows = Rows(weight[None].clone(), gradient[None].clone(), memory)
    update_eager(rows, OptimizerStack([own]), subtract=False)
    return rows.gradient[0]


def test_rows_are_shares_and_empty_where_nothing_moved() -> None:
    tally = Tally(2, ("weight",))
    for clipped in (2, 0):
        tally.add("weight", 0, seen=8, clipped=clipped)
        tally.add_moves("weight", 0, moves=4, stalled=3)
    tally.add("weight", 1, seen=8, clipped=0)
    assert tally.rows() == [
        {"weight_clipped": 0.125, "weight_stalled": 0.75},
        {"weight_clipped": 0.0, "weight_stalled": None},
    ]
    tally.keep([1])
    assert tally.rows() == [{"weight_clipped": 0.0, "weight_stalled": None}]


def test_of_what_flows_lost_values_are_told_and_different_ones_in_the_last_step() -> None:
    """`zero` is the share of the values other than 0 that rounding made 0: what was 0 before counts for nothing."""
    tally = Tally(3, ("error",))
    nonzero = torch.tensor([[False, True, True, True]])
    for tally.is_last in (False, True):
        for trial in (0, 2):
            tally.add("error", trial, seen=4, clipped=trial)
            rounded = torch.tensor([[0.0, 1.0, -0.0, float(tally.is_last)]])
            tally.add_rounded("error", "relu1", trial, rounded, nonzero)
            tally.add_rounded("error", "relu1", trial, torch.arange(trial).float(), torch.ones(trial) > 0)
    expected = [
        {"error_clipped": 0.0, "error_zero": 3 / 6, "error_levels": 2},
        {"error_clipped": 0.5, "error_zero": 5 / 10, "error_levels": 2},
    ]
    assert [row for row in tally.rows() if row["error_zero"]] == expected
    tally.keep([2])
    assert tally.rows() == expected[1:]


def test_of_values_that_all_were_0_no_share_is_told() -> None:
    tally = Tally(1, ("gradient",))
    tally.add("gradient", 0, seen=2, clipped=0)
    tally.add_rounded("gradient", "linear1", 0, torch.zeros(2), torch.zeros(2) > 0)
    assert tally.rows() == [{"gradient_clipped": 0.0, "gradient_zero": None, "gradient_levels": None}]


@pytest.mark.parametrize("role", ["gradient", "update", "momentum"])
def test_zeros_of_the_steps_roles_are_counted_of_what_was_not_0_before(trial: Make, role: str) -> None:
    """Gradients of `tensors` are 0 in a third of all places; a wide enough format loses none of the others."""
    for name, lost in (("bf16", 0.0), ("fixed4f0", 1.0)):
        one = trial(quantize={role: name}, rounding="nearest", lr=0.01, momentum=0.9)
        tally = Tally(1, (role,), kept=())
        values, gradients = tensors(1)
        gradients = {place: g * 0.01 for place, g in gradients.items()}
        stepper = Stepper([one.view], Places((), (), ROLES, ()), values)
        stepper.start(1)
        nonzero = sum(int(torch.count_nonzero(g)) for g in gradients.values())
        stepper.update(values, gradients, NO_NOISE, slice(0, 1), tally)
        assert 0 < nonzero < sum(g.numel() for g in gradients.values())
        assert tally.counts[role][2].item() == nonzero
        assert tally.rows()[0][f"{role}_zero"] == lost


def test_of_more_values_than_can_be_counted_none_is_told() -> None:
    tally = Tally(1, ("error",))
    tally.is_last = True
    tally.add("error", 0, seen=1, clipped=0)
    values = torch.arange(16_384).float()
    tally.add_rounded("error", "relu1", 0, values, values != 0)
    assert tally.rows()[0]["error_levels"] == 16_384
    tally.add_rounded("error", "relu1", 0, torch.tensor([0.5]), torch.tensor([True]))
    assert tally.rows()[0]["error_levels"] is None


DRIFTING = [
    *("uniform4", "uniform8 per=channel", "uniform4 symmetric=true", "uniform4 symmetric=true per=7", "nvfp4"),
    *("nvfp4 arithmetic=nvidia", "binary", "binary scaling=po2 per=channel", "ternary per=channel"),
    *("quantized_bits(4,0,1,alpha='auto')", "qkeras_binary(alpha='auto')", "qkeras_ternary(alpha='auto')"),
    *("stochastic_ternary(alpha='auto')", "stochastic_binary(alpha='auto')", "bernoulli(alpha='auto')"),
]


@pytest.mark.parametrize("name", DRIFTING)
def test_updates_too_small_for_any_code_are_stalled_though_the_scale_moves_all_values(trial: Make, name: str) -> None:
    """Every weight shrinks by 0.1 %: under a scale that follows, no code can change."""
    one = trial(quantize={"weight": name}, rounding="nearest", lr=0.001)
    values, _ = tensors(1)
    stepper = Stepper([one.view], Places((), (), ROLES, ()), values)
    stepper.quantize(values, NO_NOISE)
    before = {place: value.clone() for place, value in values.items()}
    tally = Tally(1, ("weight", "bias"))
    stepper.start(1)
    stepper.update(values, {place: value.clone() for place, value in values.items()}, NO_NOISE, slice(0, 1), tally)
    for place, role in ROLES.items():
        moved = before[place] != 0
        is_single = role == "bias" and ("channel" in name or "alpha" in name)  # the scale is all there is to a value
        assert tally.rows()[0][f"{role}_stalled"] == (0.0 if is_single and "po2" not in name else 1.0)
        if "po2" not in name:
            assert (values[place] != before[place])[moved].double().mean() > 0.9


@pytest.mark.parametrize("name", DRIFTING)
def test_updates_that_change_codes_are_not_stalled(trial: Make, name: str) -> None:
    one = trial(quantize={"weight": name}, rounding="nearest", lr=1.0)
    values, _ = tensors(1)
    stepper = Stepper([one.view], Places((), (), ROLES, ()), values)
    stepper.quantize(values, NO_NOISE)
    tally = Tally(1, ("weight", "bias"))
    stepper.start(1)
    opposite = {place: 2 * value for place, value in values.items()}
    stepper.update(values, opposite, NO_NOISE, slice(0, 1), tally)
    if "bernoulli" not in name:
        assert tally.rows()[0]["weight_stalled"] < 0.2


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "zero"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_stalled_of_uniform_levels_counts_the_levels_that_are_the_same(trial: Make, rounding: str, bits: int) -> None:
    one = trial(quantize={"weight": f"uniform{bits}"}, rounding=rounding, lr=0.003)
    tally = Tally(1, ("weight", "bias"))
    noise = Noise(Stream(0), 1, "cpu")
    values, gradients = tensors(1)
    stepper = Stepper([one.view], Places((), (), ROLES, ()), values)
    stepper.quantize(values, noise)
    before = {name: value.clone() for name, value in values.items()}
    stepper.start(2)
    stepper.update(values, gradients, Noise(Stream(0), 2, "cpu"), slice(0, 1), tally)
    for place, role in ROLES.items():
        new = values[place].double()
        low, width = new.min(), new.max() - new.min()
        levels_of = [
            ((v.double() - low) / width * (2**bits - 1)).round().clamp(0, 2**bits - 1) for v in (before[place], new)
        ]
        moved = gradients[place] != 0
        stalled = int((moved & (levels_of[0] == levels_of[1])).sum())
        assert tally.counts[role][4:, 0].tolist() == [int(moved.sum()), stalled]
        assert stalled > 0


def test_watched_are_powers_of_two_and_the_last_of_an_epoch() -> None:
    assert [s for s in range(1, 101) if is_watched(s, is_last=s % 50 == 0)] == [2, 4, 8, 16, 32, 50, 64, 100]


@pytest.mark.parametrize("count", [1, 2, 255, 65_536, 65_537, 200_000])
def test_different_counts_values_as_sorting_does(count: int) -> None:
    values = torch.from_numpy(np.random.default_rng(0).permutation(count).astype(np.float32)) / 7
    tensors = [values, -values, torch.tensor([-0.0, 0.0]), values[: count // 2]]
    assert different(tensors) == len(torch.cat(tensors).unique())


def test_levels_of_a_role_that_no_parameter_plays_are_not_told() -> None:
    assert levels({"a.weight": torch.ones(1, 2)}, {"a.weight": "weight"}, ["weight", "bias"], 1) == [
        {"weight_zero": 0.0, "weight_levels": 1}
    ]


def test_levels_are_those_of_all_tensors_of_a_role() -> None:
    values = {"a.weight": torch.tensor([[0.0, 1.0], [2.0, 2.0]]), "b.weight": torch.tensor([[0.0, -1.0], [2.0, 2.0]])}
    roles = {"a.weight": "weight", "b.weight": "weight"}
    assert levels(values, roles, ["weight"], 2) == [
        {"weight_zero": 0.5, "weight_levels": 3},
        {"weight_zero": 0.0, "weight_levels": 1},
    ]
