"""Roles in blocks of convolutions: each is rounded at each layer that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qsweep.data.catalog import DATASETS
from qsweep.data.files import Examples
from qsweep.formats import parse
from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize
from qsweep.models.layers import PaddedConvolution
from qsweep.rounding import quantize
from qsweep.training.course import Course, Outcome
from qsweep.training.flow import is_chain
from qsweep.training.nets import plain_net
from qsweep.trial import cost
from qsweep.trial.key import Trial
from qsweep.trial.resolve import TrialError

Make = Callable[..., Trial]
DIGITS = DATASETS["digits"]
BATCH = 16
ROLES = ("weight", "norm", "activation", "error", "gradient", "update", "momentum", "master")

STRIDES = {"name": "conv_block", "filters": [4, [5, 6]]}
DSP = {"name": "conv_block", "filters": [4, 5], "separable": "dsp"}
XNORNET = {
    "name": "conv_block",
    "filters": [4, [5, 6]],
    "separable": "mobilenet",
    "downsample": "max_pool",
    "xnornet": True,
    "dropout": 0.25,
}
NETS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "strides": (STRIDES, ("act_0", "act_1_0", "act_1_1", "dense")),
    "dsp": (DSP, ("act_13_0", "act_31_0", "act_13_1", "act_31_1", "dense")),
    "xnornet": (
        XNORNET,
        (
            *("conv2d_dw_act_33_0", "mp_0", "mp_act_0"),
            *("conv2d_dw_act_33_1_0", "act_11_1_0", "conv2d_dw_act_33_1_1", "mp_1_1", "mp_act_1_1", "dense"),
        ),
    ),
}
"""Each with the places of its activations and errors."""


def examples() -> Examples:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 17, (5 * BATCH, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (len(images),), generator=generator)
    return Examples(images, labels, images[:20], labels[:20])


def trained(own: Trial) -> tuple[Outcome, Course]:
    model = build(own.view.model, {}, DIGITS.shape, DIGITS.classes)
    initialize(model, own.view.init, Stream(own.seed))
    course = Course(plain_net(model), model, [own.view], DIGITS, examples())
    return course.run()[0], course


def trial_of(trial: Make, model: dict[str, Any], quantize: dict[str, Any], **more: Any) -> Trial:
    given = {"init": "he_uniform", "momentum": 0.5, "lr": 0.25, "epochs": 1, "batch_size": BATCH}
    return trial(model=model, quantize=quantize, **(given | more))


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("net", NETS)
def test_every_role_is_rounded_at_every_layer(trial: Make, net: str, rounding: str) -> None:
    model, expected = NETS[net]
    own = trial_of(trial, model, dict.fromkeys(ROLES, "fixed10f6"), rounding=rounding)
    outcome, course = trained(own)
    assert (outcome.status, outcome.not_rounded) == ("done", ())
    assert is_chain(course.model)
    assert course.places.rounding(own.view) == course.places.outputs == expected
    assert {f"{role}_zero" for role in ROLES} <= outcome.epochs[-1].keys()
    assert course.stepper.masters.keys() == course.net.values.keys()
    fmt = parse("fixed10f6")
    for name, value in course.net.values.items():
        assert torch.equal(value, quantize(value, fmt)), name
    seen: dict[str, torch.Tensor] = {}
    for place in expected:
        layer = course.model.get_submodule(place)
        layer.register_forward_hook(lambda _, __, y, place=place: seen.update({place: y.clone()}))
    course.evaluate()
    assert seen.keys() == {*expected}
    for place, activation in seen.items():
        assert torch.equal(activation, quantize(activation, fmt)), place


@pytest.mark.parametrize("net", NETS)
def test_operands_of_every_product_are_rounded(trial: Make, net: str) -> None:
    roles = {role: {"format": "e4m3", "at": "operands"} for role in ("weight", "activation", "error")}
    own = trial_of(trial, NETS[net][0], roles)
    outcome, course = trained(own)
    assert (outcome.status, outcome.not_rounded) == ("done", ())
    shapes = cost.layers(own.view)
    assert shapes is not None
    assert list(course.places.products) == [layer.place for layer in shapes if layer.weights]


def test_zeros_around_an_image_stay_zeros_in_a_format_without_one(trial: Make) -> None:
    own = trial_of(trial, STRIDES, {"activation": {"format": "binary", "at": "operands"}})
    _, course = trained(own)
    first = course.model.get_submodule("conv2d_0")
    assert isinstance(first, PaddedConvolution)
    x = torch.rand(2, 1, 8, 8)
    expected = F.conv2d(F.pad(quantize(x, parse("binary")), (0, 1, 0, 1)), first.weight, stride=2)
    course.flow.start(slice(0, 1))
    assert torch.equal(first.eval()(x), expected)


def test_dropout_masks_are_drawn_by_name_and_step(trial: Make) -> None:
    own = trial_of(trial, XNORNET, {})
    _, course = trained(own)
    assert list(course.dropouts) == ["drop_0", "drop_1_1"]
    for place, shape in (("drop_0", (4, 4, 4)), ("drop_1_1", (6, 2, 2))):
        uniform = Stream(own.seed).uniform((BATCH, *shape), "dropout", place, 5)
        assert torch.equal(course.dropouts[place].mask, (uniform >= 0.25) / 0.75)


@pytest.mark.parametrize("net", NETS)
def test_sizes_are_those_of_the_layers(trial: Make, net: str) -> None:
    own = trial_of(trial, NETS[net][0], {"weight": "fixed4f2"})
    outcome, course = trained(own)
    counts = {role: cost.count_of(role, own.view) for role in ("weight", "bias", "norm")}
    assert outcome.kept_sizes["model_bits"] == 4 * (counts["weight"] + counts["bias"]) + 32 * counts["norm"]
    assert sum(counts.values()) == sum(p.numel() for p in course.model.parameters())


def test_training_has_the_bits_of_the_same_net_of_pytorchs_layers(trial: Make) -> None:
    """Whose errors may not be overwritten, as a chain's of our own layers are."""
    own = trial_of(trial, {**XNORNET, "dropout": 0.0}, {"activation": "fixed10f6", "error": "e5m2"})
    _, course = trained(own)
    model = build(own.view.model, {}, DIGITS.shape, DIGITS.classes)
    for place in [name for name, _ in model.named_children()]:
        if "act" in place:
            setattr(model, place, nn.ReLU())
        elif place in ("mp_0", "mp_1_1"):
            setattr(model, place, nn.MaxPool2d(2))
    assert not is_chain(model)
    initialize(model, own.view.init, Stream(own.seed))
    other = Course(plain_net(model), model, [own.view], DIGITS, examples())
    other.run()
    for name, value in course.net.values.items():
        assert torch.equal(value, other.net.values[name]), name


@pytest.mark.parametrize(
    ("model", "path", "said"),
    [
        ({"downsample": "max_pool", "filters": [4] * 4}, "model", "16×16 pixels at least, digits has 8×8"),
        ({"all_conv": True, "filters": [4]}, "model.all_conv", "these leave 4×4"),
        ({"xnornet": True}, "model.xnornet", "downsample: max_pool"),
        ({"name": "autoqkeras_cifar10"}, "model", "autoqkeras_cifar10 needs images of 16×16"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(trial: Make, model: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(TrialError, match=said) as error:
        trial_of(trial, {"name": "conv_block", **model}, {})
    assert error.value.path == path
