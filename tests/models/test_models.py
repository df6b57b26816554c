"""Nets: those of the catalog, users' own, their initial weights, and probing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qsweep.errors import UserError
from qsweep.kernels.streams import Stream
from qsweep.models import loading
from qsweep.models.build import CORE, build, initialize, probe, stacks
from qsweep.models.catalog import ARCHITECTURES, OUTPUT, Architecture
from qsweep.models.layers import Dropout, ReLU, UngatedReLU
from qsweep.models.shapes import TooSmallError, UnfitError
from qsweep.parameter import BadValueError, Parameter
from qsweep.training.one_example import OUTPUTS as ONLINE_OUTPUTS
from qsweep.training.places import places_of
from qsweep.training.roles import roles_of

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Unload a module that a test has loaded."""
    yield
    loading.forget()


def source(body: str) -> dict[str, str]:
    return {"d": f"import torch\nfrom torch import nn\nimport torch.nn.functional as F\n{body}"}


def own(body: str, **parameters: object) -> nn.Module:
    return build({"name": "net", "source": "d", **parameters}, source(body), SHAPE, 10)


def sequential(layer: str) -> str:
    return f"def net(shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), {layer}, nn.Linear(9, classes))"


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_architecture_builds_on_its_smallest_images_and_stacks_as_declared(architecture: Architecture) -> None:
    defaults = {p.name: p.default for p in architecture.parameters}
    side = architecture.least(defaults)
    shape = (2, side, side)
    model = {"name": architecture.name, **defaults}
    net = build(model, {}, shape, 7)
    assert stacks(model, net, shape, 7) == probe(net, shape, 7).stacks == architecture.stacks
    cores = [place for place, module in net.named_modules() if isinstance(module, CORE)]
    assert cores == [layer.place for layer in architecture.layers(shape, 7, defaults) if layer.weights]


def test_mlp_with_dropout_stacks() -> None:
    model = {"name": "mlp", "hidden": [9, 7], "dropout": 0.5}
    net = build(model, {}, SHAPE, 10)
    assert stacks(model, net, SHAPE, 10) == probe(net, SHAPE, 10).stacks


@pytest.mark.parametrize(("output", "expected"), [("linear", None), ("relu", ReLU), ("relu_ungated", UngatedReLU)])
def test_mlp_ends_with_its_output(output: str, expected: type[nn.Module] | None) -> None:
    net = build({"name": "mlp", "hidden": [9], "dropout": 0.0, "output": output}, {}, SHAPE, 10)
    assert dict(net.named_children()).get("relu2") is None if expected is None else type(net.relu2) is expected
    assert output in get_args(OUTPUT.type)


def others(parameter: Parameter) -> Iterator[Any]:
    """Values that a parameter takes besides its default."""
    for value in (*get_args(parameter.type), 0.5, 5, [9], True, False):
        with suppress(BadValueError):
            if (checked := parameter.check(value)) != parameter.default:
                yield checked


def parts(architecture: Architecture, own: Mapping[str, Any], side: int) -> list[str]:
    """The layers of a net, with their numbers; none where the parameters do not fit together."""
    with suppress(TooSmallError, UnfitError):
        net = build({"name": architecture.name, **own}, {}, (1, side, side), 10)
        return [f"{m} {[v for v in vars(m).values() if isinstance(v, int | float)]}" for m in net.modules()]
    return []


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_every_parameter_that_an_architecture_declares_changes_its_net(architecture: Architecture) -> None:
    """One that nothing reads would give trials other keys and the same results."""
    defaults = {p.name: p.default for p in architecture.parameters}
    bases = [defaults, *(defaults | {p.name: v} for p in architecture.parameters for v in others(p))]
    for parameter in architecture.parameters:
        changed = [(base, base | {parameter.name: v}) for base in bases for v in others(parameter)]
        pairs = ((one, other, side) for side in (architecture.least(defaults), 64) for one, other in changed)
        nets = ((parts(architecture, one, side), parts(architecture, other, side)) for one, other, side in pairs)
        assert any(one and other and one != other for one, other in nets), parameter.name


def test_every_output_that_a_model_can_have_trains_on_single_examples() -> None:
    assert list(ONLINE_OUTPUTS) == list(get_args(OUTPUT.type))


def test_cnn3_computes_the_net_of_its_document() -> None:
    net = build({"name": "cnn3"}, {}, (1, 28, 28), 10).eval()
    initialize(net, {"name": "torch"}, Stream(0))
    own = dict(net.named_parameters())
    x = torch.rand(3, 1, 28, 28)
    h = x
    for number, padding in ((1, 2), (2, 1), (3, 1)):
        h = F.conv2d(h, own[f"conv{number}.weight"], own[f"conv{number}.bias"], padding=padding)
        norm = (own[f"norm{number}.weight"], own[f"norm{number}.bias"])
        h = torch.relu(F.batch_norm(h, torch.zeros(len(norm[0])), torch.ones(len(norm[0])), *norm))
        h = F.max_pool2d(h, 2) if number > 1 else h
    h = F.linear(h.flatten(1), own["linear1.weight"], own["linear1.bias"])
    expected = F.linear(h, own["linear2.weight"], own["linear2.bias"])
    assert sum(p.numel() for p in own.values()) == 481_214
    torch.testing.assert_close(net(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", ["nn.ReLU()", "nn.Tanh()", "nn.GELU()", "nn.Dropout(0.1)"])
def test_probe_listed_operations_stack(layer: str) -> None:
    assert probe(own(sequential(layer)), SHAPE, 10).stacks


@pytest.mark.parametrize(
    "layer", ["nn.Sigmoid()", "nn.SiLU()", "nn.Softplus()", "nn.LayerNorm(9)", "nn.BatchNorm1d(9)"]
)
def test_probe_other_operations_do_not_stack(layer: str) -> None:
    assert not probe(own(sequential(layer)), SHAPE, 10).stacks


def test_probe_restores_running_statistics() -> None:
    net = own(sequential("nn.BatchNorm1d(9)"))
    probe(net, SHAPE, 10)
    assert net[2].num_batches_tracked == 0  # type: ignore[index, union-attr]
    assert torch.equal(net[2].running_var, torch.ones(9))  # type: ignore[index, union-attr]


def test_probe_finds_the_shape_of_each_dropout_mask() -> None:
    net = own(sequential("nn.Dropout(0.5)"))
    probe(net, SHAPE, 10)
    assert [m.shape for m in net.modules() if isinstance(m, Dropout)] == [(9,)]
    known = build({"name": "mlp", "hidden": [9, 7], "dropout": 0.5}, {}, SHAPE, 10)
    assert [m.shape for m in known.modules() if isinstance(m, Dropout)] == [(9,), (7,)]


def test_probe_refuses_a_net_that_draws_random_numbers_itself() -> None:
    body = (
        "class N(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(64, 10)\n"
    )
    body += "    def forward(self, x):\n        return F.dropout(self.l(x.flatten(1)))\ndef net(shape, classes):\n    return N()"
    with pytest.raises(UserError, match=r"draws random numbers itself .* use torch.nn.Dropout modules"):
        probe(own(body), SHAPE, 10)


def test_probe_refuses_a_wrong_output_shape() -> None:
    body = "def net(shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))"
    with pytest.raises(UserError, match=r"shape \(2, 3\), expected \(2, 10\)"):
        probe(own(body), SHAPE, 10)


def test_build_calls_the_function_of_an_own_model_with_shape_classes_and_parameters() -> None:
    body = "def net(shape, classes, width):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, classes))"
    assert own(body, width=5)[1].out_features == 5  # type: ignore[index, union-attr]


def test_build_replaces_dropout_in_own_models() -> None:
    assert any(isinstance(m, Dropout) and m.rate == 0.1 for m in own(sequential("nn.Dropout(0.1)")).modules())


def test_build_refuses_a_missing_function_and_a_wrong_result() -> None:
    with pytest.raises(UserError, match="no function 'net'"):
        own("def other(): ...")
    with pytest.raises(UserError, match=r"returned an int, expected a torch\.nn\.Module"):
        own("def net(shape, classes): return 3")


def weights(init: dict[str, object], seed: int = 0) -> dict[str, torch.Tensor]:
    net = build({"name": "mlp", "hidden": [300], "dropout": 0.0}, {}, SHAPE, 10)
    initialize(net, init, Stream(seed))
    return {name: p.detach() for name, p in net.named_parameters()}


def test_initialize_normal_draws_kernels_and_biases() -> None:
    drawn = weights({"name": "normal", "std": 0.1})
    assert abs(drawn["linear1.weight"].std() - 0.1) < 0.002
    assert abs(drawn["linear1.bias"].std() - 0.1) < 0.02


def test_initialize_normal_can_leave_biases_at_zero_and_draws_the_same_kernels() -> None:
    drawn = weights({"name": "normal", "std": 0.1})
    zero = weights({"name": "normal", "std": 0.1, "bias": "zero"})
    assert not zero["linear1.bias"].any()
    assert torch.equal(zero["linear1.weight"], drawn["linear1.weight"])


def test_initialize_glorot_uniform_fills_its_limits_and_biases_are_zero() -> None:
    drawn = weights({"name": "glorot_uniform"})
    limit = (6 / (64 + 300)) ** 0.5
    assert 0.99 * limit < drawn["linear1.weight"].abs().max() <= limit
    assert not drawn["linear1.bias"].any()


def test_initialize_he_has_its_variance_and_biases_are_zero() -> None:
    drawn = weights({"name": "he"})
    assert abs(drawn["linear1.weight"].std() - (2 / 64) ** 0.5) < 0.004
    assert not drawn["linear1.bias"].any()


def test_initialize_he_uniform_fills_its_limits_and_biases_are_zero() -> None:
    drawn = weights({"name": "he_uniform"})
    limit = (6 / 64) ** 0.5
    assert 0.99 * limit < drawn["linear1.weight"].abs().max() <= limit
    assert not drawn["linear1.bias"].any()


def test_initialize_torch_fills_one_over_the_root_of_fan_in() -> None:
    drawn = weights({"name": "torch"})
    for name in ("linear1.weight", "linear1.bias"):
        assert 0.95 / 8 < drawn[name].abs().max() <= 1 / 8


def test_initialize_depends_only_on_the_seed() -> None:
    one, same, other = weights({"name": "he"}), weights({"name": "he"}), weights({"name": "he"}, seed=1)
    assert torch.equal(one["linear1.weight"], same["linear1.weight"])
    assert not torch.equal(one["linear1.weight"], other["linear1.weight"])


# --- torchvision's ----------------------------------------------------------------------------------------------------


def library(name: str, shape: tuple[int, ...], classes: int = 10, **parameters: object) -> nn.Module:
    return build({"name": f"torchvision:{name}", **parameters}, {}, shape, classes)


def test_classifier_of_torchvision_is_built_for_the_classes_of_the_data_set() -> None:
    net = library("resnet18", (3, 32, 32), 100)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
    assert {role for _, role in roles_of(net).items()} == {"weight", "bias", "norm"}
    assert not stacks({"name": "torchvision:resnet18"}, net, (3, 32, 32), 100)
    outputs = places_of(net, (3, 32, 32)).outputs
    assert outputs[:4] == ("relu", "maxpool", "layer1.0.relu", "layer1.0.relu#2")
    assert outputs[-2:] == ("avgpool", "fc")


def test_classifier_of_torchvision_gets_grey_images_in_three_equal_channels() -> None:
    x = torch.rand(2, 1, 32, 32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        grey = library("resnet18", (1, 32, 32)).eval()
        torch.manual_seed(0)
        colour = library("resnet18", (3, 32, 32)).eval()
    assert torch.equal(grey(x), colour(x.expand(-1, 3, -1, -1)))


def test_classifier_of_torchvision_accepts_its_own_parameters_and_has_its_dropout_replaced() -> None:
    net = library("mobilenet_v2", (3, 32, 32), dropout=0.4)
    assert [module.rate for module in net.modules() if isinstance(module, Dropout)] == [0.4]
    with pytest.raises(UserError, match=r"torchvision:resnet18: .*unexpected keyword argument 'depth'"):
        library("resnet18", (3, 32, 32), depth=3)


def test_pretrained_weights_of_torchvision_are_refused() -> None:
    with pytest.raises(UserError, match=r"torchvision:resnet18 does not accept weights: `init` initializes it"):
        library("resnet18", (3, 32, 32), weights="DEFAULT")


def test_unknown_classifier_of_torchvision_is_reported_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match="unknown classifier of torchvision 'resnet8'; did you mean 'resnet18'"):
        library("resnet8", (3, 32, 32))


def test_auxiliary_classifier_is_left_out() -> None:
    net = library("googlenet", (3, 32, 32))
    assert isinstance(net.train()(torch.zeros(2, 3, 32, 32)), torch.Tensor)


# --- what a user's net asks of the step -------------------------------------------------------------------------------

WITH_STATE = {
    "a buffer that moves": "self.register_buffer('mean', torch.zeros(64))|self.mean.mul_(0.9).add_(x.detach().mean(0))",
    "an attribute that is set": "self.mean = torch.zeros(64)|self.mean = 0.9 * self.mean + x.detach().mean(0)",
    "a hook on an activation": "pass|x = self.one(x); x.register_hook(lambda error: 2 * error)",
    "a module's backward hook": "self.two.register_full_backward_hook(lambda m, i, o: None)|pass",
}


@pytest.mark.parametrize("lines", WITH_STATE.values(), ids=WITH_STATE.keys())
def test_net_with_state_or_gradient_hooks_does_not_stack(lines: str) -> None:
    init, forward = lines.split("|")
    net = own(two_layers(init, forward))
    assert not probe(net, SHAPE, 10).stacks
    assert probe(own(two_layers("pass", "pass")), SHAPE, 10).stacks


def two_layers(init: str, forward: str) -> str:
    return f"""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(64, 64), nn.Linear(64, 10)
        {init}
    def forward(self, x):
        x = x.flatten(1)
        {forward}
        return self.two(self.one(x))

def net(shape, classes):
    return Net()
"""


def test_probe_restores_all_buffers_including_non_persistent_ones() -> None:
    net = own(two_layers("self.register_buffer('n', torch.zeros(1), persistent=False)", "self.n += 1"))
    probe(net, SHAPE, 10)
    assert float(net.get_buffer("n")) == 0


@pytest.mark.parametrize("hook", ["register_hook", "register_post_accumulate_grad_hook"])
def test_build_refuses_a_hook_on_a_parameter_by_name(hook: str) -> None:
    with pytest.raises(UserError, match=r"gradient hook on its parameter 'one\.weight', which would never be called"):
        own(two_layers(f"self.one.weight.{hook}(lambda error: None)", "pass"))


def test_build_refuses_a_net_without_trainable_parameters() -> None:
    with pytest.raises(UserError, match="no parameter of the model trains"):
        own(two_layers("self.requires_grad_(False)", "pass"))


def test_build_refuses_a_net_in_evaluation_mode_and_keeps_the_modes_of_parts() -> None:
    with pytest.raises(UserError, match="the whole model is in evaluation mode"):
        own(two_layers("self.eval()", "pass"))
    net = own(two_layers("self.norm = nn.BatchNorm1d(64).eval()", "x = self.norm(x)"))
    probe(net, SHAPE, 10)
    assert net.train().training
    assert not net.get_submodule("norm").training
    net(torch.rand(4, *SHAPE))
    assert not net.get_buffer("norm.running_mean").any()
