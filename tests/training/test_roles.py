"""Every role against a training loop written by hand: plain autograd, `quantize`, torch's own products.

The hand-written loop rounds where docs/design.md says; the course must end with the same weights, exactly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qsweep.data.catalog import DATASETS
from qsweep.data.files import Examples
from qsweep.errors import UserError
from qsweep.formats import parse
from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize, probe, stacks
from qsweep.rounding import quantize
from qsweep.training.course import Course, Outcome
from qsweep.training.flow import is_chain
from qsweep.training.nets import Values, cross_entropy, plain_net, stacked_net
from qsweep.training.places import places_of
from qsweep.training.roles import contraction_axis
from qsweep.training.sizes import bits_of
from qsweep.trial.key import Trial
from qsweep.trial.settings import Settings

Make = Callable[..., Trial]
DIGITS = DATASETS["digits"]
BATCH, STEPS = 16, 5

CONVOLUTIONS = """
from torch import nn

def net(shape, classes):
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(5, classes)
    )
"""


def examples() -> Examples:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 17, (BATCH * STEPS, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (BATCH * STEPS,), generator=generator)
    return Examples(images, labels, images[:20], labels[:20])


def model_of(trial: Trial, sources: dict[str, str]) -> nn.Module:
    model = build(trial.settings["model"], sources, DIGITS.shape, DIGITS.classes)
    initialize(model, trial.settings["init"], Stream(trial.seed))
    probe(model, DIGITS.shape, DIGITS.classes)
    return model


def train(
    trials: Sequence[Trial], sources: dict[str, str] | None = None, plain: bool = False
) -> tuple[list[Outcome], Values, Course]:
    model = model_of(trials[0], sources or {})
    is_stacked = not plain and stacks(trials[0].settings["model"], model, DIGITS.shape, DIGITS.classes)
    net = stacked_net(model, len(trials)) if is_stacked else plain_net(model)
    course = Course(net, model, [t.view for t in trials], DIGITS, examples())
    return course.run(), net.values, course


# --- by hand ----------------------------------------------------------------------------------------------------------


class Rounded(torch.autograd.Function):
    """A value rounded forward, its error rounded backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Any, backward: Any) -> Tensor:
        ctx.backward = backward
        return forward(x)

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> Any:
        return ctx.backward(error), None, None


def by_hand(trial: Trial, names: dict[str, str], places: Sequence[str], sources: dict[str, str]) -> dict[str, Tensor]:
    """The trained weights; `names` gives each role's format, `places` the layers whose outputs are rounded."""
    q = {
        role: (lambda x, n=name, axis=1: quantize(x, parse(n), contraction=min(axis, x.dim() - 1)))
        for role, name in names.items()
    }
    same = lambda x, axis=1: x.clone()  # noqa: E731
    model, o = model_of(trial, sources), trial.settings["optimizer"]
    for place, layer in model.named_modules():
        if place in places:
            act, back = q.get("activation", same), q.get("error", same)
            layer.register_forward_hook(lambda _, __, y, a=act, b=back: Rounded.apply(y, a, b))
    model.to(memory_format=torch.channels_last).train()
    parameters = dict(model.named_parameters())
    master = {n: p.detach().clone() for n, p in parameters.items()}
    momentum = {n: torch.zeros_like(p) for n, p in parameters.items()}
    data, stream = examples(), Stream(trial.seed)
    order = stream.permutation(len(data.train_labels), "order", 1)
    scale = trial.settings.get("loss_scale", 1.0)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        logits = model(data.train_images[chosen].float() / 16)
        loss = cross_entropy(logits[None], data.train_labels[chosen]).mean(1).sum() * scale
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        for (name, p), g in zip(parameters.items(), gradients, strict=True):
            role = "bias" if name.endswith("bias") else "weight"
            g = q.get("gradient", same)(g) / scale
            copy = master[name] if "master" in names else p.detach()
            if o["weight_decay"]:
                g = g + copy * torch.tensor(o["weight_decay"])
            if o["momentum"]:
                momentum[name] = momentum[name] * torch.tensor(o["momentum"]) + g
                g = momentum[name]
            copy = copy - q.get("update", same)(g * torch.tensor(o["lr"]))
            copy = q["master"](copy) if names.get("master", "float32") != "float32" else copy
            master[name] = copy
            stored = q[role if role in q else "weight"](copy) if "weight" in q else copy
            p.data.copy_(stored)
            momentum[name] = q.get("momentum", same)(momentum[name])
    return {name: p.detach() for name, p in parameters.items()}


ROLE_SETS: dict[str, dict[str, str]] = {
    "activation": {"activation": "fixed6f3"},
    "error": {"error": "e4m3"},
    "block error": {"error": "block6 per=4", "activation": "block6 per=4"},
    "gradient": {"gradient": "block5"},
    "update": {"update": "e5m2"},
    "momentum": {"momentum": "e4m3"},
    "master": {"weight": "fixed5f4", "master": "bf16"},
    "float master": {"weight": "block4 per=8", "master": "float32"},
    "all": {
        **dict.fromkeys(("weight", "activation", "error", "gradient"), "block8"),
        "update": "e5m10",
        "momentum": "bf16",
        "master": "bf16",
    },
}
NETS = {
    "dense": ({"name": "mlp", "hidden": [12, 9], "dropout": 0.0}, ("relu1", "relu2", "linear3")),
    "convolutions": ("m.py:net", ("1", "2", "4")),
    "blocks": (
        {"name": "conv_block", "filters": [4, [5, 6]], "norm": False},
        ("act_0", "act_1_0", "act_1_1", "dense"),
    ),
    "depthwise": (
        {"name": "conv_block", "filters": [4], "norm": False, "separable": "mobilenet", "downsample": "max_pool"},
        ("conv2d_dw_act_33_", "act_11_", "mp_", "dense"),
    ),
}


def trial_of(trial: Make, net: str, quantize: dict[str, Any], **more: Any) -> Trial:
    model, _ = NETS[net]
    given = {"momentum": 0.5, "weight_decay": 2.0**-6, "lr": 0.25, "epochs": 1, "batch_size": BATCH}
    shared = {"quantize_init": False, "rounding": "nearest", "sources": {"m.py": "d"}, "init": "torch", "model": model}
    return trial(quantize=quantize, **(given | shared | more))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("roles", ROLE_SETS)
def test_roles_are_rounded_where_a_loop_by_hand_rounds_them(trial: Make, net: str, roles: str) -> None:
    own = trial_of(trial, net, ROLE_SETS[roles])
    _, values, _ = train([own], {"d": CONVOLUTIONS}, plain=True)
    expected = by_hand(own, ROLE_SETS[roles], NETS[net][1], {"d": CONVOLUTIONS})
    for name, value in expected.items():
        torch.testing.assert_close(values[name][0], value, rtol=0, atol=0, msg=f"{name} of {roles}")


def test_a_loss_scale_lifts_small_errors_over_the_least_number_of_a_format(trial: Make) -> None:
    given = {"quantize": {"error": "e4m3", "gradient": "e4m3"}, "net": "dense", "lr": 2.0}
    own = trial_of(trial, loss_scale=1024, **given)
    _, scaled, _ = train([own], plain=True)
    expected = by_hand(own, given["quantize"], NETS["dense"][1], {})
    assert all(torch.equal(scaled[name][0], value) for name, value in expected.items())
    (plain,), _, _ = train([trial_of(trial, **given)])
    (lifted,), _, _ = train([own])
    assert plain.epochs[0]["error_zero"] > lifted.epochs[0]["error_zero"]  # type: ignore[operator]


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_memories_of_other_optimizers_are_rounded_after_their_use(trial: Make, optimizer: str) -> None:
    given: dict[str, Any] = {"optimizer": optimizer, "quantize": {"momentum": "bf16"}, "net": "dense", "lr": 0.01}
    _, _, course = train([trial_of(trial, **given)])
    for memory in course.stepper._memory.values():
        for remembered in memory.values():
            assert torch.equal(quantize(remembered, parse("bf16")), remembered)
            assert remembered.any()


STACKED = {
    **ROLE_SETS,
    "stochastic": {
        role: {"format": "fixed", "rounding": "stochastic", "fraction": 5}
        for role in ("weight", "activation", "error", "gradient", "update", "momentum")
    },
    "operands": {role: {"format": "mxfp4", "at": "operands"} for role in ("weight", "activation", "error")},
    "stochastic operands": {
        role: {"format": "block", "at": "operands", "rounding": "stochastic"} for role in ("activation", "error")
    },
}


@pytest.mark.parametrize("roles", STACKED)
def test_a_stack_gives_each_trial_the_bits_that_it_has_alone(trial: Make, roles: str) -> None:
    trials = [trial_of(trial, "dense", STACKED[roles], lr=0.5 / (i + 1), bitwidth=9 - i, epochs=2) for i in range(5)]
    together, values, _ = train(trials)
    for i in (0, 3):
        alone, own, _ = train(trials[i : i + 1])
        assert alone[0].epochs == together[i].epochs
        assert all(torch.equal(own[name][0], values[name][i]) for name in own)


# --- operands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", NETS)
def test_operands_of_each_product_are_rounded_along_the_axis_that_it_sums_over(trial: Make, net: str) -> None:
    """One step against the three products of each layer, written out."""
    names = {"weight": "block4 per=4", "activation": "block5 per=4", "error": "block6 per=4"}
    quantized = {role: {"format": name, "at": "operands"} for role, name in names.items()}
    own = trial_of(trial, net, quantized, momentum=0.0, weight_decay=0.0, batch_size=BATCH * STEPS)
    _, values, _ = train([own], {"d": CONVOLUTIONS})
    q = {role: lambda x, axis, n=name: quantize(x, parse(n), contraction=axis) for role, name in names.items()}

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor, op: Any) -> Tensor:
            ctx.save_for_backward(x, w, b)
            ctx.op = op
            return op(q["activation"](x, 1), q["weight"](w, 1), b)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Any:
            x, w, b = ctx.saved_tensors
            with torch.enable_grad():
                at_x, at_w = x.clone().requires_grad_(), w.clone().requires_grad_()
                of_x = torch.autograd.grad(ctx.op(at_x, q["weight"](w, 0), b), at_x, q["error"](g, 1))[0]
                of_w = torch.autograd.grad(ctx.op(q["activation"](x, 0), at_w, b), at_w, q["error"](g, 0))[0]
            return of_x, of_w, g.sum((0, *range(2, g.dim()))) if b is not None else None, None

    model = model_of(own, {"d": CONVOLUTIONS})
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.forward = lambda x, m=layer: Product.apply(x, m.weight, m.bias, nn.functional.linear)
        elif isinstance(layer, nn.Conv2d):
            sides = getattr(layer, "sides", (0, 0, 0, 0))
            op = lambda x, w, b, m=layer, s=sides: m._conv_forward(nn.functional.pad(x, s), w, b)  # noqa: E731
            layer.forward = lambda x, m=layer, op=op: Product.apply(x, m.weight, m.bias, op)
    data = examples()
    order = Stream(own.seed).permutation(len(data.train_labels), "order", 1)
    logits = model(data.train_images[order].float() / 16)
    nn.functional.cross_entropy(logits, data.train_labels[order]).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(values[name][0], p.detach() - 0.25 * p.grad, rtol=1e-5, atol=1e-6)


# --- places and exceptions --------------------------------------------------------------------------------------------


def test_places_are_what_activation_functions_pools_and_the_last_layer_give(trial: Make) -> None:
    dense = places_of(model_of(trial_of(trial, "dense", {}), {}), DIGITS.shape)
    assert dense.outputs == ("relu1", "relu2", "linear3")
    assert dense.products == ("linear1", "linear2", "linear3")
    net = places_of(model_of(trial_of(trial, "convolutions", {}), {"d": CONVOLUTIONS}), DIGITS.shape)
    assert net.outputs == ("1", "2", "4")
    assert net.products == ("0", "4")
    assert net.names == ("0", "1", "2", "4")


def test_a_layer_called_twice_has_a_place_a_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.act = nn.Linear(64, 64), nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.linear(self.act(self.linear(x.flatten(1)))))

    assert places_of(Twice(), DIGITS.shape).outputs == ("act", "act#2")


def test_outputs_are_rounded_where_roles_say_so_and_never_those_of_convolutions_and_norms(trial: Make) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))
    places = places_of(net, DIGITS.shape)
    assert places.names == ("0", "1", "2", "4")
    for asked, layers, rounding in (
        ({"activation": "e4m3"}, {}, ("2", "4")),
        ({"error": "e5m2"}, {"2": {"error": "float32"}}, ("4",)),
        ({}, {"2": {"activation": "e4m3"}}, ("2",)),
        ({"weight": "e4m3", "activation": {"format": "e4m3", "at": "operands"}}, {}, ()),
    ):
        more = {"layers": layers} if layers else {}
        assert places.rounding(trial(quantize=asked, **more).view) == rounding


def test_exceptions_by_place_leave_the_ends_in_float32_or_give_them_other_formats(trial: Make) -> None:
    roles = {"weight": "fixed3f2", "activation": "fixed3f2"}
    for layers in ("float32_ends", {"linear1": "float32", "linear3": "float32"}):
        _, values, _ = train([trial_of(trial, "dense", roles, layers=layers)])
        counts = [len(values[f"linear{i}.weight"].unique()) for i in (1, 2, 3)]
        assert [count <= 8 for count in counts] == [False, True, False]
    _, values, _ = train([trial_of(trial, "dense", roles, layers={"linear2": {"weight": "fixed6f5"}})])
    assert 8 < len(values["linear2.weight"].unique()) <= 64


def test_an_exception_can_round_what_is_left_in_float32_elsewhere(trial: Make) -> None:
    layers = {"linear2": {"weight": "fixed3f2"}, "relu2": {"error": "e4m3"}}
    own = trial_of(trial, "dense", {"master": "float32"}, layers=layers, quantize_init=True, loss_scale=4)
    assert {"quantize_init", "loss_scale"} <= own.settings.keys()
    (outcome,), values, course = train([own])
    assert len(values["linear2.weight"].unique()) <= 8 < len(values["linear1.weight"].unique())
    assert list(course.stepper.masters) == ["linear2.weight", "linear2.bias"]
    assert {"weight_levels", "error_zero"} <= outcome.epochs[-1].keys()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"linear9": "float32"}, r"layers.linear9: unknown place 'linear9' \(one of: linear1, relu1, linear2"),
        (
            {"relu1": {"weight": "fixed6f5"}},
            r"layers.relu1: it has no weight \(it has: activation, error\)",
        ),
    ],
)
def test_an_exception_that_matches_nothing_is_an_error(trial: Make, layers: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train([trial_of(trial, "dense", {"weight": "fixed3f2"}, layers=layers)])


CHANNELS = "uniform4 per=channel axis=3"
WEIGHTS = "linear1.weight of shape (33, 64); linear2.weight of shape (10, 33)"
FLOWING = "relu1 of shape (batch, 33); linear2 of shape (batch, 10)"


@pytest.mark.parametrize(
    ("given", "path", "lacking"),
    [
        *(({"quantize": {role: CHANNELS}}, f"quantize.{role}", WEIGHTS) for role in ("weight", "gradient", "update")),
        ({"quantize": {"weight": "uniform4", "master": CHANNELS}}, "quantize.master", WEIGHTS),
        ({"quantize": {"momentum": CHANNELS}, "momentum": 0.9}, "quantize.momentum", WEIGHTS),
        *(({"quantize": {role: CHANNELS}}, f"quantize.{role}", FLOWING) for role in ("activation", "error")),
        (
            {"quantize": {"weight": f"{CHANNELS} at=operands"}},
            "quantize.weight",
            "the weight operand of linear1 of shape (33, 64); ",
        ),
        (
            {"quantize": {"error": f"{CHANNELS} at=operands"}},
            "quantize.error",
            "the error operand of linear1 of shape (batch, 33); ",
        ),
        ({"quantize": {"weight": "mxfp4 axis=2"}}, "quantize.weight", WEIGHTS),
        ({"quantize": {"weight": "quantized_bits(4,0,1) axis=2"}}, "quantize.weight", WEIGHTS),
        (
            {"layers": {"linear1": {"weight": CHANNELS}}, "quantize": {}},
            "layers.linear1.weight",
            "linear1.weight of shape (33, 64)",
        ),
        (
            {"quantize": {"weight": CHANNELS}, "layers": {"linear1": "float32"}},
            "quantize.weight",
            "linear2.weight of shape (10, 33)",
        ),
        (
            {"quantize": {}, "stages": [{"compress": {"weight": "kmeans4 per=channel axis=2"}}]},
            "stages.0.compress.weight",
            WEIGHTS,
        ),
    ],
)
def test_an_axis_that_values_lack_is_found_in_the_net_with_role_place_and_shape(
    trial: Make, given: Any, path: str, lacking: str
) -> None:
    settings = trial(**{"rounding": "nearest", **given}).view
    net = build(settings.model, {}, DIGITS.shape, DIGITS.classes)
    with pytest.raises(UserError, match=rf"^{re.escape(path)}: .*: there is no axis [23] in {re.escape(lacking)}"):
        places_of(net, DIGITS.shape).check_axes(settings)


@pytest.mark.parametrize(
    "quantize",
    [
        {"bias": CHANNELS},
        {"weight": "uniform4 per=channel axis=-2"},
        {"activation": "block4 per=16 axis=1 at=operands"},
    ],
)
def test_an_axis_that_values_have_is_no_mistake(trial: Make, quantize: Any) -> None:
    settings = trial(rounding="nearest", quantize=quantize).view
    net = build(settings.model, {}, DIGITS.shape, DIGITS.classes)
    places_of(net, DIGITS.shape).check_axes(settings)
    train([trial_of(trial, "dense", quantize)])


ON_LINEAR2 = "on linear2.weight: groups of 33 values"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"quantize": {"weight": "mxfp4"}}, ()),
        ({"quantize": {"weight": "block4 per=64"}}, (f"block4 per=64 {ON_LINEAR2}, 4.242 bits per value",)),
        (
            {"quantize": {"weight": "mxfp4 axis=0"}},
            ("mxfp4 axis=0 on linear2.weight: groups of 10 values, 4.8 bits per value",),
        ),
        ({"quantize": {"weight": "e4m3", "gradient": "block4 per=64"}}, (f"block4 per=64 {ON_LINEAR2}, 4.242 bits",)),
        (
            {"quantize": {"weight": "block4 per=64 at=operands"}},
            ("block4 per=64 on the weight operand of linear2: groups of 33 values",),
        ),
        ({"quantize": {"weight": "block4 per=64"}, "layers": "float32_ends"}, ()),
        ({"quantize": {"weight": "block4 per=64"}, "layers": {"linear2": "float32"}}, ()),
        ({"quantize": {"activation": "block4 per=64"}}, ()),
        ({"stages": [{"compress": {"weight": "kmeans4 per=64"}}]}, (f"kmeans4 per=64 {ON_LINEAR2}",)),
    ],
)
def test_short_groups_are_those_of_weights_with_fewer_values_than_a_group(
    trial: Make, given: Any, expected: tuple[str, ...]
) -> None:
    settings = trial(**{"quantize": {}, "rounding": "nearest", **given}).view
    net = build(settings.model, {}, DIGITS.shape, DIGITS.classes)
    found = places_of(net, DIGITS.shape).short_groups(settings)
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))


def test_groups_of_a_convolution_run_along_its_input_channels() -> None:
    fmt, shape = parse("mxfp4"), (8, 1, 3, 3)
    assert contraction_axis(shape) == 1
    assert bits_of(fmt, shape) == 12 * 72
    assert bits_of(fmt, (8, 32, 3, 3)) == 4.25 * 8 * 32 * 9


def test_a_layer_called_twice_draws_for_each_of_its_products(trial: Make) -> None:
    text = """
from torch import nn

class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(64, 9), nn.Linear(9, 9), nn.Linear(9, 10)

    def forward(self, x):
        x = self.first(x.flatten(1))
        return self.last(self.shared(self.shared(x)))

def net(shape, classes):
    return Twice()
"""
    roles = {"activation": {"format": "fixed6f4", "at": "operands", "rounding": "stochastic"}}
    own = trial_of(trial, "convolutions", roles)
    _, _, course = train([own], {"d": text}, plain=True)
    noise = course._noise()
    course.flow.start(slice(0, 1), noise)
    course.net.gradients(torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64), slice(0, 1), None)
    drawn = [place.removesuffix(" forward") for _, place in noise._drawn if place.endswith(" forward")]
    assert drawn == ["first", "shared", "shared#2", "last"]


def test_lenet_has_the_six_places_of_its_document_and_trains_with_all_roles(trial: Make) -> None:
    every = dict.fromkeys(("weight", "activation", "error", "gradient"), "block8")
    own = trial_of(trial, "dense", {**every, "momentum": "bf16", "master": "bf16"}, data="mnist", model="lenet", lr=0.1)
    mnist = DATASETS["mnist"]
    model = build(own.settings["model"], {}, mnist.shape, mnist.classes)
    assert sum(p.numel() for p in model.parameters()) == 431_080
    initialize(model, own.settings["init"], Stream(0))
    assert places_of(model, mnist.shape).outputs == ("relu1", "pool1", "relu2", "pool2", "relu3", "linear2")
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 10, (64,), generator=generator)
    bars = torch.arange(28)[:, None] // 3 == labels[:, None, None]
    images = (255 * bars.expand(-1, -1, 28)).to(torch.uint8)[:, None]
    course = Course(
        plain_net(model),
        model,
        [Settings({**own.settings, "epochs": 20})],
        mnist,
        Examples(images, labels, images, labels),
    )
    (outcome,) = course.run()
    assert outcome.epochs[-1]["train_loss"] < 0.5 * outcome.epochs[0]["train_loss"]  # type: ignore[operator]


def test_weights_rounded_for_products_alone_are_counted_as_the_products_have_them(trial: Make) -> None:
    own = trial_of(trial, "dense", {"weight": "fixed3f2 at=operands", "error": "e5m2 at=operands"})
    (outcome,), values, _ = train([own])
    found = outcome.epochs[-1]
    levels = torch.cat([quantize(v[0], parse("fixed3f2")).flatten() for n, v in values.items() if n.endswith("weight")])
    assert 2 <= found["weight_levels"] <= 2**3  # type: ignore[operator]
    assert found["weight_zero"] == pytest.approx(float((levels == 0).float().mean()), abs=0.1)
    assert "weight_stalled" not in found
    assert "bias_levels" not in found


@pytest.mark.parametrize("formats", [{}, {"activation": "block8", "error": "block8"}, {"error": "e5m2"}])
def test_lenet_trains_to_the_bits_of_the_same_net_of_pytorchs_layers(trial: Make, formats: dict[str, str]) -> None:
    """Whose errors may not be overwritten, as a chain's of our own layers are."""
    own = trial_of(trial, "dense", formats, data="mnist", model="lenet", lr=0.1).view
    mnist = DATASETS["mnist"]
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (192, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (192,), generator=generator)
    found = []
    for is_own in (True, False):
        net = build(own.model, {}, mnist.shape, mnist.classes)
        assert is_chain(net)
        if not is_own:
            for place in ("relu1", "relu2", "relu3"):
                setattr(net, place, nn.ReLU())
            net.pool1, net.pool2 = nn.MaxPool2d(2), nn.MaxPool2d(2)
            assert not is_chain(net)
        initialize(net, own.init, Stream(0))
        course = Course(plain_net(net), net, [own], mnist, Examples(images, labels, images, labels))
        course.run()
        found.append(course.net.values)
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_norms_stay_in_float32_with_all_that_moves_them_unless_they_are_named(trial: Make) -> None:
    text = CONVOLUTIONS.replace("nn.ReLU(inplace=True)", "nn.BatchNorm2d(5), nn.ReLU(inplace=True)")
    roles = {"weight": "fixed3f2", "gradient": "fixed2f1", "master": "fixed3f2"}
    _, values, _ = train([trial_of(trial, "convolutions", roles)], {"d": text})
    assert len(values["1.weight"].unique()) == 5
    _, values, course = train([trial_of(trial, "convolutions", roles | {"norm": "fixed4f2"})], {"d": text})
    assert torch.equal(values["1.weight"][0], quantize(values["1.weight"][0], parse("fixed4f2")))
    assert "1.weight" in course.stepper.masters


def test_histograms_tell_of_all_that_was_rounded_in_the_last_step(trial: Make) -> None:
    roles = {
        "weight": "fixed4f2",
        "master": "bf16",
        "activation": "fixed4f2",
        "gradient": "fixed8f7",
        "momentum": "bf16",
    }
    (outcome,), _, course = train([trial_of(trial, "dense", roles, histogram=8, epochs=2)])
    found = {name: h["role"] for name, h in outcome.histograms.items()}
    layers = [f"linear{i}.{part}" for i in (1, 2, 3) for part in ("weight", "bias")]
    moved = {f"{name}.{role}": role for name in layers for role in ("gradient", "master")}
    memories = {f"{name} momentum.momentum": "momentum" for name in layers}
    flows = {f"{place}.activation": "activation" for place in ("relu1", "relu2", "linear3")}
    assert found == {name: name.rpartition(".")[2] for name in layers} | moved | memories | flows
    second = outcome.histograms["linear1.weight.master"]
    assert second["high"] == float(course.stepper.masters["linear1.weight"].max())
    assert sum(outcome.histograms["relu1.activation"]["counts"]) == BATCH * 12
