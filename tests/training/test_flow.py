"""What flows through a net: rounding that would change nothing is left out, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from qsweep.data.catalog import DATASETS
from qsweep.data.files import Examples
from qsweep.formats import parse
from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize
from qsweep.models.layers import HalvingPool, ReLU
from qsweep.rounding import Stack
from qsweep.training import flow
from qsweep.training.course import Course, Totals
from qsweep.training.gates import Gate
from qsweep.training.nets import Values, plain_net, stacked_net
from qsweep.trial.checks import check
from qsweep.trial.resolve import resolve

MNIST = DATASETS["mnist"]
SOME = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12)


@given(SOME, st.data(), st.integers(2, 12))
def test_some_of_a_rounded_block_stay_as_they_are_when_they_are_rounded_again_among_zeros(
    values: list[float], data: st.DataObject, bits: int
) -> None:
    stack = Stack([parse(f"block{bits}")])
    assert stack.keeps_parts
    block = torch.tensor([values], dtype=torch.float32)
    stack.round_rows(block)
    chosen = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=12))
    part = torch.cat([block[:, chosen], torch.zeros(1, 3)], 1)
    again = part.clone()
    stack.round_rows(again)
    assert torch.equal(again, part)


def test_formats_whose_steps_depend_on_more_are_not_taken_for_such() -> None:
    for name in ("block8 per=16", "block8 compat=qtorch", "uniform8", "e4m3", "nvfp4"):
        assert not Stack([parse(name)]).keeps_parts, name
    assert not Stack([parse("block8")], "stochastic").keeps_parts


def steps(given: dict[str, Any], count: int = 3) -> tuple[Values, Tensor]:
    """Some steps of LeNet on random images."""
    base = {"data": "mnist", "model": "lenet", "optimizer": "sgd", "lr": 0.05, "batch_size": 16}
    settings = resolve({name: check(name, value) for name, value in {**base, **given}.items()}, 0).view
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, *MNIST.shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (64,), generator=generator)
    model = build(settings.model, {}, MNIST.shape, MNIST.classes)
    initialize(model, settings.init, Stream(0))
    course = Course(plain_net(model), model, [settings], MNIST, Examples(images, labels, images, labels))
    totals = Totals(1)
    for chosen in list(course.batches(1))[:count]:
        course.train_step(chosen, totals)
    return course.net.values, totals.loss


BLOCKS = {"weight": "block8", "activation": "block8", "error": "block8", "gradient": "block8"}


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each place and role that something is rounded for, call by call."""
    seen: list[str] = []
    through = Gate.through

    def watched(self: Gate, role: str, *rest: Any, **more: Any) -> Tensor:
        seen.append(f"{self.place} {role}")
        return through(self, role, *rest, **more)

    monkeypatch.setattr(Gate, "through", watched)
    return seen


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_lenet_has_the_same_bits_whether_or_not_repeated_rounding_is_left_out(
    bits: int, gates: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quantize = dict.fromkeys(BLOCKS, f"block{bits}")
    values, loss = steps({"quantize": quantize})
    assert "relu1 activation" in gates
    assert "pool1 activation" not in gates
    assert "relu1 error" not in gates
    monkeypatch.setattr(Gate, "repeats", lambda self, role: False)
    gates.clear()
    others, other_loss = steps({"quantize": quantize})
    assert gates.count("pool1 activation") == gates.count("relu1 error") == 3
    assert torch.equal(loss, other_loss)
    for name, value in values.items():
        assert torch.equal(value, others[name]), name


@pytest.mark.parametrize(
    "given",
    [
        {"quantize": BLOCKS, "layers": {"relu1": {"activation": "block4", "error": "block4"}}},
        {"quantize": BLOCKS, "compat": "qtorch"},
        {"quantize": BLOCKS, "rounding": "stochastic"},
    ],
    ids=["another format at the ReLU", "other rules", "by chance"],
)
def test_rounding_that_may_change_something_is_not_left_out(given: dict[str, Any], gates: list[str]) -> None:
    steps(given)
    assert gates.count("pool1 activation") == gates.count("relu1 error") == 3


@pytest.mark.parametrize(
    "given",
    [
        {"quantize": BLOCKS},
        {"quantize": {"error": "e4m3"}},
        {"quantize": {"activation": "fixed8f4"}, "rounding": "stochastic"},
        {"quantize": {"activation": "uniform8 per=channel", "error": "e5m2"}},
        {"quantize": {"activation": "binary"}},
    ],
    ids=["block", "errors alone", "stochastic", "scale per channel", "own format of a tensor"],
)
def test_relus_rounded_where_they_lie_give_the_bits_of_relus_rounded_apart(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    applied: list[str] = []
    through = flow._RoundedReLU.apply
    monkeypatch.setattr(flow._RoundedReLU, "apply", lambda *own: (applied.append(own[1].place), through(*own))[1])
    values, loss = steps(given)
    assert {*applied} == {"relu1", "relu2"}  # the third may have dropout before it
    applied.clear()
    monkeypatch.setattr(flow, "is_chain", lambda net: False)
    others, other_loss = steps(given)
    assert not applied
    assert torch.equal(loss, other_loss)
    for name, value in values.items():
        assert torch.equal(value, others[name]), name


@pytest.mark.parametrize("first", [nn.Tanh, ReLU, nn.ReLU], ids=["tanh", "in place", "apart"])
def test_what_is_rounded_before_the_first_parameter_is_rounded_in_each_trials_format(first: type[nn.Module]) -> None:
    digits = DATASETS["digits"]
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 17, (60, *digits.shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (60,), generator=generator)
    base = {"data": "digits", "model": "softmax", "optimizer": "sgd", "lr": 0.5, "batch_size": 20}

    def trained(*fractions: int) -> Values:
        given = [{**base, "quantize": {"activation": f"fixed8f{fraction}"}} for fraction in fractions]
        settings = [resolve({name: check(name, v) for name, v in own.items()}, 0).view for own in given]
        net = nn.Sequential(nn.Flatten(), first(), nn.Linear(64, 10))
        initialize(net, settings[0].init, Stream(0))
        course = Course(
            stacked_net(net, len(settings)), net, settings, digits, Examples(images, labels, images, labels)
        )
        totals = Totals(len(settings))
        for chosen in course.batches(1):
            course.train_step(chosen, totals)
        return {**course.net.values, "loss": totals.loss[:, None]}

    both, alone = trained(0, 6), [trained(0), trained(6)]
    for name, value in both.items():
        for trial in range(2):
            assert torch.equal(value[trial], alone[trial][name][0]), name
    assert not torch.equal(alone[0]["loss"], alone[1]["loss"])


def test_a_pool_behind_a_layer_that_comes_twice_is_not_taken_for_one_behind_a_relu() -> None:
    conv = nn.Conv2d(1, 1, 1)
    assert flow.relus_before_pools(nn.Sequential(conv, ReLU(), conv, HalvingPool())) == {}
    twice = ReLU()
    assert flow.relus_before_pools(nn.Sequential(twice, HalvingPool(), conv, twice)) == {}
    assert flow.relus_before_pools(nn.Sequential(conv, ReLU(), HalvingPool(), conv)) == {"2": "1"}
