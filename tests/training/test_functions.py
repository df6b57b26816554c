"""Functions that a net calls itself are rounded as layers are; what nothing reaches is reported."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qsweep.data.catalog import DATASETS
from qsweep.data.files import Examples
from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize, stacks
from qsweep.models.catalog import ARCHITECTURES
from qsweep.training.course import Course, Outcome, Totals
from qsweep.training.flow import Flow
from qsweep.training.functions import KINDS, OTHERS, Kind, in_place_of, kind_of
from qsweep.training.nets import Values, plain_net, stacked_net
from qsweep.training.places import Places, places_of
from qsweep.training.roles import Quantizers
from qsweep.trial.key import Trial
from qsweep.trial.settings import Settings

Make = Callable[..., Trial]
DIGITS = DATASETS["digits"]
ROLES = {"activation": "fixed4f2", "error": "fixed6f8"}
HEAD = """
import torch
import torch.nn.functional as F
from torch import nn
"""


OWN = {"model": "m.py:net", "sources": {"m.py": "d"}}


def texts(body: str) -> dict[str, str]:
    """The source of a user's model, by digest."""
    return {"d": HEAD + textwrap.dedent(body)}


def module(init: str, forward: str) -> str:
    """A module written by hand."""
    lines = ["class Net(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    lines += [f"        {line}" for line in init.strip().splitlines()] + ["    def forward(self, x):"]
    lines += [f"        {line}" for line in forward.strip().splitlines()]
    return "\n".join([*lines, "def net(shape, classes):", "    return Net()"])


def built(body: str) -> nn.Module:
    torch.manual_seed(0)
    return build({"name": "net", "source": "d"}, texts(body), DIGITS.shape, DIGITS.classes)


def trained(body: str, make: Make, steps: int = 3, count: int = 1, **changed: Any) -> tuple[Values, Tensor, Outcome]:
    """Some steps on random images, in a stack where the net stacks: values, losses, the outcome of the first trial.

    To nearest, as random bits are drawn by the names of places.
    """
    given = {**OWN, "batch_size": 16, "lr": 0.5, "init": "torch", "rounding": "nearest", **changed}
    settings = [make(**given | ({} if count == 1 else {"momentum": 0.5 / (i + 1)})).view for i in range(count)]
    net = built(body)
    initialize(net, settings[0].init, Stream(0))
    is_stacking = stacks(settings[0].model, net, DIGITS.shape, DIGITS.classes)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 17, (64, *DIGITS.shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (64,), generator=generator)
    own = stacked_net(net, count) if is_stacking else plain_net(net)
    course = Course(own, net, settings, DIGITS, Examples(images, labels, images, labels))
    totals = Totals(count)
    for chosen in list(course.batches(1))[:steps]:
        course.train_step(chosen, totals)
    return own.values, totals.loss, course.outcomes[0]


def places(body: str) -> Places:
    return places_of(built(body), DIGITS.shape)


# --- functions and methods give the bits of modules -------------------------------------------------------------------

DENSE = "self.one, self.two = nn.Linear(64, 33), nn.Linear(33, 10)"
MODULES = module(DENSE + "\nself.act = nn.ReLU()", "return self.two(self.act(self.one(x.flatten(1))))")
WAYS = {
    "F.relu": "return self.two(F.relu(self.one(x.flatten(1))))",
    "torch.relu": "return self.two(torch.relu(self.one(x.flatten(1))))",
    "a method": "return self.two(self.one(x.flatten(1)).relu())",
    "in place": "return self.two(F.relu(self.one(x.flatten(1)), inplace=True))",
    "in place by position": "return self.two(F.relu(self.one(x.flatten(1)), True))",
    "in place, its output not looked at": "x = self.one(x.flatten(1))\nx.relu_()\nreturn self.two(x)",
    "a module in place, its output not looked at": "x = self.one(x.flatten(1))\nself.act(x)\nreturn self.two(x)",
    "in place as a statement": "x = self.one(x.flatten(1))\nF.relu(x, inplace=True)\nreturn self.two(x)",
}


@pytest.mark.parametrize("forward", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("quantize", [ROLES, {"activation": "block4", "error": "block8"}], ids=["fixed", "block"])
def test_a_relu_by_any_spelling_is_rounded_as_the_module_is(
    trial: Make, forward: str, quantize: dict[str, str]
) -> None:
    expected, losses, _ = trained(MODULES, trial, quantize=quantize)
    init = DENSE + "\nself.act = nn.ReLU(inplace=True)" if "self.act" in forward else DENSE
    found, same, _ = trained(module(init, forward), trial, quantize=quantize)
    assert torch.equal(losses, same)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    _, other, _ = trained(module(init, forward), trial, quantize={})
    assert not torch.equal(losses, other), "rounding changes nothing"


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_functions_in_a_stack_give_each_trial_the_bits_it_has_alone(trial: Make, rounding: str) -> None:
    body = module(DENSE, WAYS["F.relu"])
    together, losses, _ = trained(body, trial, count=3, quantize=ROLES, rounding=rounding)
    alone, loss, _ = trained(body, trial, count=1, quantize=ROLES, rounding=rounding, momentum=0.5)
    assert torch.equal(loss[0], losses[0])
    assert all(torch.equal(alone[name][0], value[0]) for name, value in together.items())


PAIRS = {
    "max_pool2d": ("nn.MaxPool2d(2)", "F.max_pool2d(x, 2)"),
    "max_pool2d by torch": ("nn.MaxPool2d(2)", "torch.max_pool2d(x, 2)"),
    "avg_pool2d": ("nn.AvgPool2d(2)", "F.avg_pool2d(x, 2)"),
    "adaptive_avg_pool2d": ("nn.AdaptiveAvgPool2d(4)", "F.adaptive_avg_pool2d(x, 4)"),
    "adaptive_max_pool2d": ("nn.AdaptiveMaxPool2d(4)", "F.adaptive_max_pool2d(x, 4)"),
    "gelu": ("nn.GELU()", "F.gelu(x)"),
    "silu": ("nn.SiLU()", "F.silu(x)"),
    "tanh": ("nn.Tanh()", "x.tanh()"),
    "sigmoid": ("nn.Sigmoid()", "torch.sigmoid(x)"),
    "hardswish": ("nn.Hardswish()", "F.hardswish(x)"),
    "leaky_relu": ("nn.LeakyReLU(0.1)", "F.leaky_relu(x, 0.1)"),
    "softplus": ("nn.Softplus()", "F.softplus(x)"),
    "softsign": ("nn.Softsign()", "F.softsign(x)"),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_activation_functions_and_pools_are_rounded_as_their_modules_are(trial: Make, pair: tuple[str, str]) -> None:
    layer, call = pair
    init = "self.conv = nn.Conv2d(1, 4, 3, padding=1)\nself.fc = nn.LazyLinear(10)"
    size = 64 if "pool" in layer.lower() else 256
    init = f"self.conv, self.fc = nn.Conv2d(1, 4, 3, padding=1), nn.Linear({size}, 10)"
    by_module = module(f"{init}\nself.act = {layer}", "return self.fc(self.act(self.conv(x)).flatten(1))")
    by_call = module(init, f"x = self.conv(x)\nreturn self.fc(({call}).flatten(1))")
    expected, losses, _ = trained(by_module, trial, quantize=ROLES)
    found, same, _ = trained(by_call, trial, quantize=ROLES)
    assert torch.equal(losses, same)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


HAND = "self.w, self.b = nn.Parameter(torch.randn(10, 64) / 8), nn.Parameter(torch.zeros(10))"
GEMMS = {
    "F.linear": "return F.linear(x.flatten(1), self.w, self.b)",
    "matmul": "return torch.matmul(x.flatten(1), self.w.t()) + self.b",
    "@": "return x.flatten(1) @ self.w.t() + self.b",
    "addmm": "return torch.addmm(self.b, x.flatten(1), self.w.t())",
    "einsum": "return torch.einsum('bi,oi->bo', x.flatten(1), self.w) + self.b",
}


@pytest.mark.parametrize("forward", GEMMS.values(), ids=GEMMS.keys())
def test_the_output_of_a_gemm_by_hand_is_rounded(trial: Make, forward: str) -> None:
    body = module(HAND, forward)
    assert len(places(body).outputs) == 1
    _, losses, _ = trained(body, trial, quantize={"activation": "fixed3f1"})
    _, other, _ = trained(body, trial, quantize={})
    assert not torch.equal(losses, other)


@pytest.mark.parametrize(
    ("init", "by_module", "by_call"),
    [
        (
            "self.l = nn.Linear(64, 10)",
            "return self.l(x.flatten(1))",
            "return F.linear(x.flatten(1), self.l.weight, self.l.bias)",
        ),
        (
            "self.c, self.l = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Linear(64, 10)",
            "return self.l(F.relu(self.c(x)).flatten(1))",
            "return self.l(F.relu(F.conv2d(x, self.c.weight, self.c.bias, 2, padding=1)).flatten(1))",
        ),
    ],
    ids=["linear", "conv2d"],
)
def test_operands_of_functions_are_rounded_as_those_of_layers(
    trial: Make, init: str, by_module: str, by_call: str
) -> None:
    operands = {role: {"format": "block4", "per": 16, "at": "operands"} for role in ("weight", "activation", "error")}
    expected, losses, _ = trained(module(init, by_module), trial, quantize=operands)
    found, same, _ = trained(module(init, by_call), trial, quantize=operands)
    assert torch.equal(losses, same)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


# --- names of places --------------------------------------------------------------------------------------------------


def test_places_of_functions_are_named_after_the_module_that_calls_them() -> None:
    body = """
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(64, 64)
        def forward(self, x):
            return F.gelu(self.fc(F.gelu(x)))
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.act, self.out = Block(), nn.Tanh(), nn.Linear(64, 10)
        def forward(self, x):
            return self.out(F.relu(self.act(self.block(torch.relu(x.flatten(1))))))
    def net(shape, classes):
        return Net()
    """
    found = places(body)
    assert found.outputs == ("relu()", "block.gelu()", "block.gelu()#2", "act", "relu()#2", "out")
    assert found.layers(Settings({"layers": {"block.gelu()#2": "float32"}}))


def test_an_exception_at_a_function_leaves_it_in_float32(trial: Make) -> None:
    body = module(DENSE, WAYS["F.relu"])
    everywhere = {"layers": {"relu()": "float32", "two": "float32"}}
    _, losses, _ = trained(body, trial, quantize={"activation": "fixed2f1"}, **everywhere)
    _, plain, _ = trained(body, trial, quantize={})
    assert torch.equal(losses, plain)


ON_BRIGHT_IMAGES = "h = self.one(x.flatten(1))\nif float(x.mean()) > 0.2:\n    h = {}\nreturn self.two(h)"
UNSEEN = {
    "one more of a function": (
        DENSE,
        "x = self.one(x.flatten(1))\nif len(x) > 2:\n    x = F.relu(x)\nreturn self.two(F.relu(x))",
        "relu()#2",
    ),
    "the only function": (DENSE, ON_BRIGHT_IMAGES.format("torch.tanh(h)"), "tanh()"),
    "a function that is only listed": (DENSE, ON_BRIGHT_IMAGES.format("h.clamp(-1, 1)"), "clamp()"),
    "a layer": (f"{DENSE}\nself.act = nn.Tanh()", ON_BRIGHT_IMAGES.format("self.act(h)"), "act"),
    "a layer, in place": (f"{DENSE}\nself.act = nn.ReLU(True)", ON_BRIGHT_IMAGES.format("self.act(h)"), "act"),
    "a layer once more": (
        f"{DENSE}\nself.act = nn.Tanh()",
        "h = self.act(self.one(x.flatten(1)))\nif float(x.mean()) > 0.2:\n    h = self.act(h)\nreturn self.two(h)",
        "act#2",
    ),
    "a linear layer before an activation function once more": (
        DENSE,
        "h = F.relu(self.one(x.flatten(1)))\nif float(x.mean()) > 0.2:\n    h = h + self.one(x.flatten(1))\n"
        "return self.two(h)",
        "one#2",
    ),
}


@pytest.mark.parametrize(("init", "forward", "call"), UNSEEN.values(), ids=UNSEEN.keys())
@pytest.mark.parametrize("role", ["activation", "error"])
def test_a_call_that_was_not_made_when_the_net_was_looked_at_is_an_error(
    trial: Make, init: str, forward: str, call: str, role: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(call)}: this call was not made when the net was inspected"):
        trained(module(init, forward), trial, quantize={role: "fixed8f2"})


def test_a_layer_whose_operands_nothing_would_round_is_an_error(trial: Make) -> None:
    body = module(f"{DENSE}\nself.more = nn.Linear(33, 33)", ON_BRIGHT_IMAGES.format("self.more(h)"))
    for role in ("weight", "activation", "error"):
        with pytest.raises(ValueError, match=r"^more: this call was not made"):
            trained(body, trial, quantize={role: {"format": "fixed8f2", "at": "operands"}})


def test_calls_may_differ_where_nothing_that_flows_is_rounded(trial: Make) -> None:
    trained(module(DENSE, ON_BRIGHT_IMAGES.format("torch.tanh(h)")), trial, quantize={"weight": "fixed8f4"})


@pytest.mark.parametrize("model", ["mlp", "lenet", "cnn3", "softmax"])
def test_nets_of_the_catalog_need_no_watch_on_their_calls(
    trial: Make, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached: list[nn.Module] = []
    monkeypatch.setattr(Flow, "_attach_functions", lambda self: attached.append(self._net))
    data = DATASETS["mnist"]
    settings = trial(model=model, data="mnist", quantize=ROLES).view

    def attach(hook: Callable[..., Any] | None = None) -> None:
        net = build(settings.model, {}, data.shape, data.classes)
        if hook is not None:
            net.register_forward_hook(hook)
        Flow(net, places_of(net, data.shape), Quantizers([settings], [{}], "cpu"))

    attach()
    assert not attached
    attach(lambda layer, inputs, output: torch.tanh(output))  # a user's chain of the same layers may have such
    assert attached


def test_calls_of_training_alone_are_places_too() -> None:
    body = module(DENSE, "x = self.one(x.flatten(1))\nif self.training:\n    x = torch.tanh(x)\nreturn self.two(x)")
    assert "tanh()" in places(body).outputs


# --- the whole kind ---------------------------------------------------------------------------------------------------


def test_every_function_of_torch_nn_functional_is_rounded_reported_or_known_to_give_no_activation() -> None:
    names = [name for name in dir(F) if callable(getattr(F, name)) and not isinstance(getattr(F, name), type)]
    public = {name.strip("_") for name in names if not name.startswith("_") and name not in ("Callable", "Optional")}
    assert public <= KINDS.keys() | OTHERS
    assert not KINDS.keys() & OTHERS


def test_a_function_that_a_later_torch_adds_is_reported() -> None:
    def novel(x: Tensor) -> Tensor:
        return x

    novel.__module__ = "torch.nn.functional"
    assert kind_of(novel) is Kind.NONLINEAR
    novel.__module__ = "mine"
    assert kind_of(novel) is None


@pytest.mark.parametrize(
    ("function", "args", "given", "expected"),
    [
        (F.relu, (1,), {}, False),
        (F.relu, (1, True), {}, True),
        (F.relu, (1,), {"inplace": True}, True),
        (F.hardtanh, (1, -1.0, 1.0, True), {}, True),
        (torch.relu_, (1,), {}, True),
        (Tensor.relu_, (1,), {}, True),
        (Tensor.__matmul__, (1, 2), {}, False),
    ],
)
def test_in_place_of_sees_it_in_names_and_arguments(
    function: Any, args: tuple[Any, ...], given: dict[str, Any], expected: bool
) -> None:
    assert in_place_of(function, args, given) is expected


# --- what nothing reaches ---------------------------------------------------------------------------------------------

ATTENTION = module(
    "self.a, self.l = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(64, 10)",
    "x = x.flatten(1).view(-1, 8, 8)\nreturn self.l(self.a(x, x, x)[0].flatten(1))",
)
RECURRENT = module(
    "self.r, self.l = nn.GRU(8, 4, batch_first=True), nn.Linear(4, 10)",
    "return self.l(self.r(x.flatten(1).view(-1, 8, 8))[0][:, -1])",
)
OWN_FUNCTION = """
class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()
    @staticmethod
    def backward(ctx, error):
        return error
""" + module(DENSE, "return self.two(Sign.apply(self.one(x.flatten(1))))")

UNREACHED = {
    "attention": (ATTENTION, "weight", "a.in_proj_weight (192 values)"),
    "attention, inside": (ATTENTION, "activation", "inside of a.multi_head_attention_forward()"),
    "recurrent weights": (RECURRENT, "weight", "r.weight_hh_l0 (48 values)"),
    "recurrent, inside": (RECURRENT, "error", "inside of r.gru()"),
    "a transposed convolution": (
        module(
            "self.d, self.l = nn.ConvTranspose2d(1, 2, 2), nn.Linear(162, 10)",
            "return self.l(self.d(x).flatten(1))",
        ),
        "weight",
        "d.weight (8 values)",
    ),
    "a parametrized weight": (
        module(
            "self.l = nn.utils.parametrizations.weight_norm(nn.Linear(64, 10))",
            "return self.l(x.flatten(1))",
        ),
        "weight",
        "l.parametrizations.weight.original1 (640 values)",
    ),
    "a layer by hand": (module(HAND, GEMMS["F.linear"]), "weight", "w (640 values)"),
    "its gradients": (module(HAND, GEMMS["F.linear"]), "gradient", "w (640 values)"),
    "a scalar": (
        module(f"{DENSE}\nself.t = nn.Parameter(torch.ones(()))", WAYS["F.relu"] + " * self.t"),
        "weight",
        "t (1 value)",
    ),
    "a frozen layer": (
        module(f"{DENSE}\nself.one.requires_grad_(False)", WAYS["F.relu"]),
        "weight",
        "one.weight (2,112 values, frozen)",
    ),
    "a norm of another kind": (
        module(
            "self.n, self.l = nn.InstanceNorm2d(1, affine=True), nn.Linear(64, 10)",
            "return self.l(self.n(x).flatten(1))",
        ),
        "norm",
        "n.weight (1 value)",
    ),
    "softmax": (module(DENSE, "return self.two(F.softmax(self.one(x.flatten(1)), 1))"), "activation", "softmax()"),
    "clamp": (module(DENSE, "return self.two(self.one(x.flatten(1)).clamp(min=0))"), "activation", "clamp()"),
    "an autograd function": (OWN_FUNCTION, "activation", "inside of Sign"),
    "an embedding": (
        module("self.e, self.l = nn.Embedding(17, 4), nn.Linear(256, 10)", "return self.l(self.e((x.flatten(1) * 16).long()).flatten(1))"),
        "weight",
        "e.weight (68 values)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "role", "expected"), UNREACHED.values(), ids=UNREACHED.keys())
def test_what_a_role_names_and_nothing_rounds_is_reported(trial: Make, body: str, role: str, expected: str) -> None:
    found = places(body)
    asks = trial(**OWN, quantize={role: "fixed4f2"}).view
    assert expected in found.not_rounded(asks)
    asks_nothing = trial(**OWN, quantize={}).view
    assert found.not_rounded(asks_nothing) == ()


def test_operands_that_nothing_rounds_are_reported_where_operands_are_asked_for(trial: Make) -> None:
    body = module(HAND, GEMMS["@"])
    operands = {"activation": {"format": "fixed4f2", "at": "operands"}}
    assert places(body).not_rounded(trial(**OWN, quantize=operands).view) == ("operands of matmul()",)
    outputs = {"activation": "fixed4f2"}
    assert places(body).not_rounded(trial(**OWN, quantize=outputs).view) == ("output of the net from add()",)


def test_what_a_compression_names_and_does_not_reach_is_reported(trial: Make) -> None:
    body = module(HAND, GEMMS["F.linear"])
    stages = [{"compress": {"weight": "kmeans3"}}]
    asks = trial(**OWN, quantize={}, stages=stages).view
    assert places(body).not_rounded(asks) == ("w (640 values)", "b (10 values)")


@pytest.mark.parametrize("model", [name for name in ARCHITECTURES if not name.startswith("autoqkeras_cifar")])
def test_nets_of_the_catalog_are_reached_whole(trial: Make, model: str) -> None:
    data = DATASETS["mnist"]
    everything = dict.fromkeys(("weight", "bias", "norm", "activation", "error", "gradient", "momentum"), "fixed8f4")
    asks = trial(model=model, data="mnist", quantize=everything).view
    net = build(asks.model, {}, data.shape, data.classes)
    assert places_of(net, data.shape).not_rounded(asks) == ()


def test_the_outcome_keeps_what_was_not_rounded(trial: Make) -> None:
    _, _, outcome = trained(module(HAND, GEMMS["F.linear"]), trial, quantize={"weight": "binary"})
    assert outcome.not_rounded == ("w (640 values)", "b (10 values)")


# --- what the step leaves alone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantize", [{}, {"weight": "range"}], ids=["float32", "range"])
def test_a_frozen_layer_stays_as_it_was_drawn_and_the_others_train(trial: Make, quantize: dict[str, str]) -> None:
    frozen = module(f"{DENSE}\nself.one.requires_grad_(False)", WAYS["F.relu"])
    before, *_ = trained(frozen, trial, steps=0, count=2)
    after, *_ = trained(frozen, trial, steps=3, count=2, quantize=quantize, weight_decay=0.1)
    assert all(torch.equal(after[name], before[name]) for name in ("one.weight", "one.bias"))
    assert not torch.equal(after["two.weight"], before["two.weight"])


def test_a_frozen_layer_passes_errors_on_to_the_layers_before_it(trial: Make) -> None:
    frozen = module(f"{DENSE}\nself.two.requires_grad_(False)", WAYS["F.relu"])
    before, *_ = trained(frozen, trial, steps=0)
    after, *_ = trained(frozen, trial, steps=1, quantize={})
    whole, *_ = trained(module(DENSE, WAYS["F.relu"]), trial, steps=1, quantize={})
    assert torch.equal(after["one.weight"], whole["one.weight"])
    assert torch.equal(after["two.weight"], before["two.weight"])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("quantize", [{}, {"weight": "range", "gradient": "fixed8f6"}], ids=["float32", "range"])
def test_a_scalar_parameter_trains_as_a_vector_of_one_does(
    trial: Make, optimizer: str, quantize: dict[str, str]
) -> None:
    forward = WAYS["F.relu"] + " * self.t"
    scalar, vector = (module(f"{DENSE}\nself.t = nn.Parameter(torch.ones({shape}))", forward) for shape in ("()", "1"))
    given: dict[str, Any] = {"quantize": quantize, "optimizer": optimizer, "lr": 0.01}
    found, losses, _ = trained(scalar, trial, steps=4, **given)
    expected, same, _ = trained(vector, trial, steps=4, **given)
    assert torch.equal(losses, same)
    assert torch.equal(found["t"], expected["t"][:, 0])
    assert float(found["t"][0]) != 1.0
