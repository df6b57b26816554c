"""Every value that a product takes comes from a rounding place, or is listed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_functions import DIGITS, OWN, Make, built, module, places
from torch import Tensor

from qsweep.data.catalog import DATASETS
from qsweep.models.build import build
from qsweep.training.flow import Flow
from qsweep.training.places import Places, places_of
from qsweep.training.roles import Quantizers
from qsweep.trial.idle import asked

DENSE = "self.a, self.o = nn.Linear(64, 64), nn.Linear(64, 10)"
CONVOLUTIONS = """
self.c1, self.c2, self.c3 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
self.bn, self.o = nn.BatchNorm2d(4), nn.Linear(256, 10)
"""

ROUNDED = {
    "a relu": (DENSE, "return self.o(F.relu(self.a(x.flatten(1))))"),
    "nothing between": (DENSE, "return self.o(self.a(x.flatten(1)))"),
    "views and copies": (
        DENSE,
        "h = F.relu(self.a(x.flatten(1))).view(-1, 8, 8).transpose(1, 2)\nreturn self.o(h.reshape(-1, 64).clone())",
    ),
    "choice": (
        DENSE,
        "h = F.relu(self.a(x.flatten(1)))\nreturn self.o(torch.cat([h[:, 32:], h[:, :32].flip(1)], 1))",
    ),
    "padding": (DENSE, "return self.o(F.pad(F.relu(self.a(x.flatten(1)))[:, :60], (2, 2)))"),
    "assembly": (
        DENSE,
        "h = F.relu(self.a(x.flatten(1)))\ny = torch.zeros_like(h)\ny[:, :32] = h[:, 32:]\nreturn self.o(y)",
    ),
    "dropout": (f"{DENSE}\nself.d = nn.Dropout(0.5)", "return self.o(self.d(F.relu(self.a(x.flatten(1)))))"),
    "a product by hand": (DENSE, "return F.relu(x.flatten(1) @ self.a.weight.t()) @ self.o.weight.t()"),
    "convolutions": (CONVOLUTIONS, "return self.o(F.relu(self.bn(self.c2(F.relu(self.c1(x))))).flatten(1))"),
    "a residual sum before a relu": (
        CONVOLUTIONS,
        "h = F.relu(self.c1(x))\nh = F.relu(h + self.bn(self.c2(h)))\nreturn self.o(F.max_pool2d(h, 1).flatten(1))",
    ),
    "shapes and numbers looked at": (
        DENSE,
        "h = self.a(x.flatten(1))\nassert len(h) == h.shape[0] and h.dim() == 2 and bool((h < 99).all())\n"
        "return self.o(F.relu(h))",
    ),
}


@pytest.mark.parametrize(("init", "forward"), ROUNDED.values(), ids=ROUNDED.keys())
def test_values_that_places_give_are_not_listed(trial: Make, init: str, forward: str) -> None:
    assert listed(trial, places(module(init, forward))) == ()


UNROUNDED = {
    "a residual past a relu": (DENSE, "h = self.a(x.flatten(1))\nreturn self.o(F.relu(h) + h)", "add()"),
    "a sum in place": (DENSE, "h = self.a(x.flatten(1))\ng = F.relu(h)\ng += h\nreturn self.o(g)", "add()"),
    "SiLU by hand": (DENSE, "h = self.a(x.flatten(1))\nreturn self.o(h * torch.sigmoid(h))", "mul()"),
    "a mask": (DENSE, "h = self.a(x.flatten(1))\nreturn self.o(h * (h > 0))", "mul()"),
    "a square": (DENSE, "return self.o(self.a(x.flatten(1)) ** 2)", "pow()"),
    "masked_fill": (DENSE, "h = self.a(x.flatten(1))\nreturn self.o(h.masked_fill(h < 0, 0))", "masked_fill()"),
    "assignment": (DENSE, "h = self.a(x.flatten(1))\nh[h < 0] = 0\nreturn self.o(h)", "setitem()"),
    "division": (DENSE, "return self.o(F.relu(self.a(x.flatten(1))) / 3)", "div()"),
    "subtraction from a number": (DENSE, "return self.o(1 - F.relu(self.a(x.flatten(1))))", "sub()"),
    "pooling by mean": (
        "self.a, self.o = nn.Linear(64, 64), nn.Linear(32, 10)",
        "return self.o(F.relu(self.a(x.flatten(1))).view(-1, 32, 2).mean(2))",
        "mean()",
    ),
    "pooling by amax": (
        "self.a, self.o = nn.Linear(64, 64), nn.Linear(32, 10)",
        "return self.o(self.a(x.flatten(1)).view(-1, 32, 2).amax(2))",
        "amax()",
    ),
    "a view of what is computed": (
        DENSE,
        "return self.o((2.5 * F.relu(self.a(x.flatten(1)))).view(-1, 8, 8).mT.flatten(1))",
        "mul()",
    ),
    "a learned token": (
        "self.a, self.t, self.o = nn.Linear(64, 63), nn.Parameter(torch.zeros(1, 1)), nn.Linear(64, 10)",
        "return self.o(torch.cat([F.relu(self.a(x.flatten(1))), self.t.expand(len(x), -1)], 1))",
        "cat()",
    ),
    "a function of torch.ops": (
        DENSE,
        "return self.o(torch.ops.aten.mul.Tensor(self.a(x.flatten(1)), self.a.bias))",
        "mul()",
    ),
    "an embedding": (
        "self.e, self.o = nn.Embedding(17, 1), nn.Linear(64, 10)",
        "return self.o(self.e((x.flatten(1) * 16).long()).flatten(1))",
        "e.embedding()",
    ),
    "a last state": (
        "self.r, self.o = nn.GRU(8, 4, batch_first=True), nn.Linear(4, 10)",
        "return self.o(self.r(x.flatten(1).view(-1, 8, 8))[1][-1])",
        "r.gru() (another output than the first)",
    ),
    "a changed input": (DENSE, "return self.o(2 * x.flatten(1) - 1)", "sub()"),
}


@pytest.mark.parametrize(("init", "forward", "maker"), UNROUNDED.values(), ids=UNROUNDED.keys())
def test_values_that_nothing_has_rounded_are_listed_where_a_product_takes_them(
    trial: Make, init: str, forward: str, maker: str
) -> None:
    found = places(module(init, forward))
    assert f"input of o from {maker}" in listed(trial, found)
    errors = trial(**OWN, quantize={"error": "fixed8f4"}).view
    assert f"input of o from {maker}" in found.not_rounded(errors)
    operands = {"activation": {"format": "fixed8f4", "at": "operands"}}
    assert not any("input of" in what for what in found.not_rounded(trial(**OWN, quantize=operands).view))


COMPUTED_WEIGHTS = {
    "a scaled weight": (DENSE, "return F.linear(x.flatten(1), self.o.weight * 0.37)", "input of linear() from mul()"),
    "in a matmul": (DENSE, "return x.flatten(1) @ (self.o.weight * 2).t()", "input of matmul() from mul()"),
    "standardization": (
        CONVOLUTIONS,
        "w = self.c1.weight\nh = F.relu(F.conv2d(x, w - w.mean((1, 2, 3), keepdim=True), padding=1))\n"
        "return self.o(h.flatten(1))",
        "input of conv2d() from sub()",
    ),
    "moved afterwards": (
        DENSE,
        "w = torch.cat([self.o.weight - 1, self.a.weight]).clone()\nreturn F.linear(x.flatten(1), w[:10])",
        "input of linear() from sub()",
    ),
}


@pytest.mark.parametrize(("init", "forward", "expected"), COMPUTED_WEIGHTS.values(), ids=COMPUTED_WEIGHTS.keys())
def test_weights_that_are_computed_before_a_product_takes_them_are_listed(
    trial: Make, init: str, forward: str, expected: str
) -> None:
    found = places(module(init, forward))
    weights = trial(**OWN, quantize={"weight": "fixed8f4"}).view
    assert f"{expected}, computed from parameters" in found.not_rounded(weights)
    activations = trial(**OWN, quantize={"activation": "fixed8f4"}).view
    assert not any("computed from parameters" in what for what in found.not_rounded(activations))


def test_weights_that_are_only_moved_are_not_listed(trial: Make) -> None:
    forward = "w = torch.cat([self.o.weight[:5], self.o.weight[5:]]).t()\nreturn x.flatten(1) @ w"
    weights = trial(**OWN, quantize={"weight": "fixed8f4"}).view
    assert places(module(DENSE, forward)).not_rounded(weights) == ()


CONVOLUTION_PATHS = {
    "a convolution": ("return self.o(F.relu(self.c2(self.c1(x))).flatten(1))", ("input of c2 from c1",)),
    "a norm": ("return self.o(F.relu(self.c2(self.bn(self.c1(x)))).flatten(1))", ("input of c2 from bn",)),
    "a residual sum": (
        "h = F.relu(self.c1(x))\nh = h + self.c2(h)\nreturn self.o(F.relu(self.c3(h)).flatten(1))",
        ("input of c3 from add()",),
    ),
    "a norm by hand": ("return self.o(F.layer_norm(x.flatten(1), (64,)).repeat(1, 4))", ("input of o from layer_norm()",)),
    "out of the net": ("return self.c1(x).mean((1, 2, 3))[:, None].repeat(1, 10)", ("output of the net from mean()",)),
    "twice": (
        "return self.o(F.relu(self.c2(self.c2(F.relu(self.c1(x))))).flatten(1))",
        ("input of c2#2 from c2",),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("forward", "expected"), CONVOLUTION_PATHS.values(), ids=CONVOLUTION_PATHS.keys())
def test_outputs_of_convolutions_norms_and_sums_are_listed_where_no_place_follows(
    trial: Make, forward: str, expected: tuple[str, ...]
) -> None:
    assert listed(trial, places(module(CONVOLUTIONS, forward))) == expected


def test_what_only_training_computes_is_listed(trial: Make) -> None:
    forward = "h = F.relu(self.a(x.flatten(1)))\nif self.training:\n    h = h * 0.3\nreturn self.o(h)"
    assert listed(trial, places(module(DENSE, forward))) == ("input of o from mul()",)


def listed(trial: Make, found: Places) -> tuple[str, ...]:
    return found.not_rounded(trial(**OWN, quantize={"activation": "fixed8f4"}).view)


# --- a linear layer whose output goes elsewhere too ---------------------------------------------------------------------

BOTH = {
    "a sum": "h = self.a(x.flatten(1))\nreturn self.o(F.relu(h) + h)",
    "a product": "h = self.a(x.flatten(1))\nreturn self.o(h * torch.sigmoid(h))",
    "a view": "h = self.a(x.flatten(1))\ng = h.view(-1, 8, 8)\nreturn self.o(F.relu(h) + g.flatten(1))",
    "another layer": "h = self.a(x.flatten(1))\nreturn self.o(F.relu(h)) + self.o(h)",
    "out of the net": "h = self.a(x.flatten(1))\nself.o(F.relu(h))\nreturn h[:, :10]",
    "in training alone": (
        "h = self.a(x.flatten(1))\ng = F.relu(h)\nif self.training:\n    g = g + h\nreturn self.o(g)"
    ),
}


@pytest.mark.parametrize("forward", BOTH.values(), ids=BOTH.keys())
def test_a_linear_layer_whose_output_goes_elsewhere_too_is_a_place(forward: str) -> None:
    assert "a" in places(module(DENSE, forward)).outputs


ONE = {
    "a function": "return self.o(F.relu(self.a(x.flatten(1))))",
    "in place": "h = self.a(x.flatten(1))\nh.relu_()\nreturn self.o(h + h)",
    "two activation functions": "h = self.a(x.flatten(1))\nreturn self.o(F.relu(h)) + self.o(torch.tanh(h))",
    "dropout between": "return self.o(F.relu(self.d(self.a(x.flatten(1)))))",
}


@pytest.mark.parametrize("forward", ONE.values(), ids=ONE.keys())
def test_a_linear_layer_whose_output_goes_into_activation_functions_alone_is_none(forward: str) -> None:
    assert "a" not in places(module(f"{DENSE}\nself.d = nn.Dropout(0.5)", forward)).outputs


@pytest.mark.parametrize("forward", list(BOTH.values())[:4], ids=list(BOTH)[:4])
@pytest.mark.parametrize("is_training", [True, False])
def test_what_a_linear_layer_gives_is_on_the_grid_wherever_it_goes(
    trial: Make, forward: str, is_training: bool
) -> None:
    body = module(
        DENSE, forward.replace("h = self.a(x.flatten(1))", "h = self.a(x.flatten(1))\nself.seen = h.detach()")
    )
    net = built(body).train(is_training)
    settings = trial(**OWN, quantize={"activation": "fixed8f4"}, rounding="nearest").view
    flow = Flow(net, places_of(net, DIGITS.shape), Quantizers([settings], [{}], "cpu"))
    flow.start(slice(0, 1))
    net(torch.rand(16, *DIGITS.shape, generator=torch.Generator().manual_seed(0)))
    seen = net.seen
    assert isinstance(seen, Tensor)
    assert torch.equal(seen * 16, (seen * 16).round())


# --- the catalog --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "outputs"),
    [
        ({"name": "mlp", "hidden": [8, 8], "dropout": 0.5}, ("relu1", "relu2", "linear3")),
        ({"name": "mlp", "hidden": [8], "output": "relu"}, ("relu1", "relu2")),
        ({"name": "softmax"}, ("linear1",)),
        ({"name": "lenet"}, ("relu1", "pool1", "relu2", "pool2", "relu3", "linear2")),
        ({"name": "cnn3"}, ("relu1", "relu2", "pool2", "relu3", "pool3", "linear1", "linear2")),
    ],
    ids=lambda given: given.get("output", given["name"]) if isinstance(given, dict) else "",
)
def test_places_of_the_catalog_are_as_they_were(
    trial: Make, model: dict[str, object], outputs: tuple[str, ...]
) -> None:
    data = DATASETS["mnist"]
    settings = trial(model=model, data="mnist", quantize={"activation": "fixed8f4"}).view
    found = places_of(build(settings.model, {}, data.shape, data.classes), data.shape)
    assert found.outputs == outputs
    assert found.not_rounded(settings) == ()


# --- roles that nothing has ---------------------------------------------------------------------------------------------

NO_BIAS = ("self.o = nn.Linear(64, 10, bias=False)", "return self.o(x.flatten(1))")
IDLE = {
    "norms": (*NO_BIAS, {"quantize": {"norm": "range"}}, ("norm",)),
    "biases": (*NO_BIAS, {"quantize": {"bias": "range"}}, ("bias",)),
    "parts to compress": (
        *NO_BIAS,
        {"quantize": {}, "stages": [{"compress": {"weight": "kmeans3", "bias": "kmeans3", "norm_scale": "kmeans3"}}]},
        ("compress bias", "compress norm_scale"),
    ),
    "what layers leaves in float32": (
        *NO_BIAS,
        {"quantize": {"weight": "range", "activation": "fixed8f4"}, "layers": {"o": "float32"}},
        ("activation", "bias", "weight"),
    ),
    "operands of what layers leaves in float32": (
        *NO_BIAS,
        {"quantize": {"error": {"format": "e4m3", "at": "operands"}}, "layers": "float32_ends"},
        ("error",),
    ),
    "what is listed as not rounded": (
        "self.n, self.o = nn.InstanceNorm2d(1, affine=True), nn.Conv2d(1, 10, 8)",
        "return self.o(self.n(x)).flatten(1)",
        {"quantize": {"norm": "range", "activation": "fixed8f4"}},
        (),
    ),
    "all that is there": (
        "self.n, self.o = nn.BatchNorm2d(1), nn.Linear(64, 10)",
        "return self.o(self.n(x).flatten(1))",
        {
            "quantize": dict.fromkeys(
                ("weight", "norm", "error", "gradient", "update", "momentum", "master"), "fixed8f4"
            ),
            "stages": [{"compress": {"weight": "uniform8", "bias": "uniform8", "norm_scale": "uniform8"}}],
        },
        (),
    ),
}


@pytest.mark.parametrize(("init", "forward", "given", "expected"), IDLE.values(), ids=IDLE.keys())
def test_roles_and_parts_that_nothing_in_a_net_has_are_idle(
    trial: Make, init: str, forward: str, given: dict[str, Any], expected: tuple[str, ...]
) -> None:
    assert places(module(init, forward)).idle(trial(**OWN, **given).view) == expected


def test_a_bias_that_follows_the_weight_is_not_asked_for(trial: Make) -> None:
    assert asked(trial(quantize={"weight": "range"}).view) == ("weight",)
    assert asked(trial(quantize={"weight": "range", "bias": "range8"}).view) == ("weight", "bias")
