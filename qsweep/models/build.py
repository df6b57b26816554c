"""Builds nets: models of the catalog, users' own models, and their initial weights."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod, sqrt
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from qsweep.errors import UserError, unknown
from qsweep.kernels.streams import Stream
from qsweep.models import loading
from qsweep.models.catalog import ARCHITECTURES, LIBRARY, architecture_of
from qsweep.models.layers import Dropout, HalvingPool, MaskedReLU, PaddedConvolution, ReLU, UngatedReLU
from qsweep.models.shapes import (
    ConvolutionShape,
    DropoutShape,
    FlattenShape,
    LayerShape,
    LinearShape,
    NormShape,
    PoolShape,
    ReLUShape,
)

CORE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose `weight` and `bias` have the roles of these names."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)
"""Layers whose scale and shift have the role `norm`."""

NO_SECOND_OUTPUT = {name: {"aux_logits": False} for name in ("googlenet", "inception_v3")}
"""Arguments that disable the auxiliary classifiers of some nets."""

# --- building ---------------------------------------------------------------------------------------------------------


def build(model: Mapping[str, Any], sources: Mapping[str, str], shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build the net for a trial's `model` settings, without initial weights (see `initialize`).

    Args:
        sources: texts of users' Python files, by SHA-256.
        shape: of one example.

    Raises:
        UserError: a user's file has no such function, or it does not return a net. The file's own errors propagate.
    """
    own = {k: v for k, v in model.items() if k not in ("name", "source")}
    if "source" in model:
        return _build_source(model["name"], model["source"], sources, shape, classes, own)
    if library := LIBRARY.fullmatch(model["name"]):
        return _build_library(library[1], shape, classes, own)
    layers = ARCHITECTURES[model["name"]].layers(shape, classes, own)
    built: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in layers:
        built[layer.place] = _module(layer, built)
    return nn.Sequential(built)


def _module(layer: LayerShape, before: Mapping[str, nn.Module]) -> nn.Module:
    """Build a layer of the catalog; `before` has the earlier layers by place."""
    match layer:
        case LinearShape():
            return nn.Linear(layer.inputs, layer.outputs)
        case ConvolutionShape():
            return _convolution(layer)
        case NormShape():
            return nn.BatchNorm2d(layer.channels, eps=layer.eps, momentum=layer.momentum)
        case ReLUShape(dropout=place) if place:
            return MaskedReLU(cast(Dropout, before[place]))
        case ReLUShape():
            return ReLU() if layer.is_gated else UngatedReLU()
        case DropoutShape():
            return Dropout(layer.rate, layer.shape, layer.is_applied)
        case PoolShape():
            return HalvingPool()
        case FlattenShape():
            return nn.Flatten()
    raise TypeError(f"{layer.place}: there is no module for a {type(layer).__name__}")


def _convolution(layer: ConvolutionShape) -> nn.Module:
    left, right, top, bottom = layer.sides
    own = layer.inputs, layer.outputs, layer.kernel, layer.stride
    if (left, top) == (right, bottom):
        return nn.Conv2d(*own, padding=(top, left), groups=layer.groups, bias=layer.has_bias)
    return PaddedConvolution(layer.sides, *own, groups=layer.groups, bias=layer.has_bias)


def _build_source(
    name: str, source: str | Mapping[str, Any], sources: Mapping[str, str], shape: tuple[int, ...], classes: int,
    own: Mapping[str, Any],
) -> nn.Module:  # fmt: skip
    try:
        function = getattr(loading.load(source, sources), name, None)
        if not callable(function):
            raise UserError(f"the model's file has no function '{name}'")
        net = function(shape, classes, **own)
    except ImportError:
        loading.check(is_missing=True)  # a better message if the import was not found in advance
        raise
    if not isinstance(net, nn.Module):
        raise UserError(f"'{name}' returned {_kind_of(net)}, expected a torch.nn.Module")
    _check_parameters(net)
    return _keep_modes(_replace_dropout(net))


def _kind_of(value: object) -> str:
    """The type of a value in words: `an int`, `a type`, `None`."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _check_parameters(net: nn.Module) -> None:
    """Refuse parameters that training can't handle.

    Raises:
        UserError: no parameter trains, or one has a hook, which `torch.autograd.grad` never calls.
    """
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise UserError("no parameter of the model trains: it has none, or all have requires_grad=False")
    for name, parameter in net.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise UserError(
                f"the model has a gradient hook on its parameter '{name}', which would never be called: use a module's"
                " register_full_backward_hook, or move it to the forward pass"
            )


def _keep_modes(net: nn.Module) -> nn.Module:
    """Keep modules in evaluation mode that a model's file has put into it (`self.norm.eval()`).

    Raises:
        UserError: the whole net is in evaluation mode.
    """
    if not net.training:
        raise UserError(
            "the whole model is in evaluation mode: remove its `.eval()`; only parts of it may be in evaluation mode"
        )
    for module in [m for m in net.modules() if not m.training]:
        module.train = partial(_keep_mode, module)  # type: ignore[method-assign]
    return net


def _keep_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    """Replaces a module's `train`."""
    return module


def _build_library(name: str, shape: tuple[int, ...], classes: int, own: Mapping[str, Any]) -> nn.Module:
    """A model of torchvision with its code unchanged; grey images are expanded to three channels."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(unknown("classifier of torchvision", name, known))
    if "weights" in own:
        raise UserError(f"torchvision:{name} does not accept weights: `init` initializes it, and nothing is downloaded")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about initial weights, which `initialize` replaces
        try:
            net: nn.Module = models.get_model(name, num_classes=classes, **NO_SECOND_OUTPUT.get(name, {}), **own)
        except (TypeError, ValueError) as error:
            raise UserError(f"torchvision:{name}: {error}") from None
    if shape[0] == 1:
        net.register_forward_pre_hook(lambda _, inputs: (inputs[0].expand(-1, 3, -1, -1),))
    return _replace_dropout(net)


def _replace_dropout(net: nn.Module) -> nn.Module:
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(module, name, Dropout(child.p))
    return net


# --- initial weights --------------------------------------------------------------------------------------------------


def initialize(net: nn.Module, init: Mapping[str, Any], stream: Stream) -> None:
    """Draw the kernels and biases of a net's linear layers and convolutions; norms keep theirs.

    normal: Normal(0, std) for both, or for kernels only, with biases 0. glorot_uniform: kernels uniform in
    ±√(6/(fan_in + fan_out)) (Glorot & Bengio 2010), biases 0. he: kernels Normal(0, √(2/fan_in)), he_uniform: kernels
    uniform in ±√(6/fan_in) (both He et al. 2015), biases 0. torch: both uniform in ±1/√fan_in.
    """
    with torch.no_grad():
        for place, module in net.named_modules():
            if not isinstance(module, CORE):
                continue
            bound = 1 / sqrt(prod(module.weight.shape[1:]))
            for name, parameter in module.named_parameters(recurse=False):
                values = _initial(parameter, name, init, bound, stream, f"{place}.{name}")
                parameter.copy_(values)


def _initial(parameter: Tensor, name: str, init: Mapping[str, Any], bound: float, stream: Stream, place: str) -> Tensor:
    shape = tuple(parameter.shape)
    kind = init["name"]
    if kind == "normal" and not (name == "bias" and init.get("bias") == "zero"):
        return _normal(shape, init["std"], stream, place)
    if kind == "torch":
        return _uniform(shape, bound, stream, place)
    if name == "bias":
        return torch.zeros(shape)
    if kind == "he":
        return _normal(shape, sqrt(2.0) * bound, stream, place)
    if kind == "he_uniform":
        return _uniform(shape, sqrt(6.0) * bound, stream, place)
    fan_in, fan_out = prod(shape[1:]), shape[0] * prod(shape[2:])
    return _uniform(shape, sqrt(6 / (fan_in + fan_out)), stream, place)


def _normal(shape: tuple[int, ...], std: float, stream: Stream, place: str) -> Tensor:
    return torch.from_numpy(stream.normal(shape, "init", place) * std).float()


def _uniform(shape: tuple[int, ...], limit: float, stream: Stream, place: str) -> Tensor:
    return (stream.uniform(shape, "init", place, 0).double() * (2 * limit) - limit).float()


# --- probing nets -----------------------------------------------------------------------------------------------------

STACKING_OPERATIONS = frozenset(
    (
        *("addmm", "mm", "t", "sum"),  # linear
        *("relu", "relu_", "threshold_backward", "tanh", "tanh_backward", "gelu", "gelu_backward"),
        *("_log_softmax", "_log_softmax_backward_data", "nll_loss_forward", "nll_loss_backward"),
        *("add", "mul", "mul_", "view", "detach", "ones_like", "empty_like"),
    )
)
"""Operations with the same bits in a stack as alone on a CPU, each checked by a test. Convolutions, sigmoid, SiLU,
softplus and pow are not: their vectorized bodies and scalar tails round differently, or their algorithm depends on
P."""

RANDOM_OPERATIONS = frozenset(
    ("bernoulli", "bernoulli_", "native_dropout", "rand", "randn", "rand_like", "randn_like", "normal_", "uniform_")
)


@dataclass(frozen=True)
class Probe:
    """What one forward and backward pass of a net uses.

    Attributes:
        operations: ATen operations, forward and backward.
        has_memory: whether the net keeps tensors between passes (running buffers, attributes that are set).
        has_hooks: whether modules or activations have gradient hooks.
    """

    operations: frozenset[str]
    has_memory: bool = False
    has_hooks: bool = False

    @property
    def stacks(self) -> bool:
        """Whether a pass of many trials has the same bits as passes of each alone; never with state or hooks."""
        return self.operations <= STACKING_OPERATIONS and not self.has_memory and not self.has_hooks


HOOKS = ("register_hook", "register_post_accumulate_grad_hook")


class _HookRecorder(TorchFunctionMode):
    """Records whether a net adds gradient hooks to its activations."""

    def __init__(self) -> None:
        super().__init__()
        self.has_hooks = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.has_hooks |= getattr(func, "__name__", "") in HOOKS
        return func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler at the first operation, which takes seconds

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def stacks(model: Mapping[str, Any], net: nn.Module, shape: tuple[int, ...], classes: int) -> bool:
    """Whether a net trains in stacks: declared for models of the catalog, probed for open ones.

    Raises:
        UserError: an open model draws random numbers itself, or the shape of its output is not (batch, classes).
    """
    known = architecture_of(model)
    return probe(net, shape, classes).stacks if known is None else known.stacks


def probe(net: nn.Module, shape: tuple[int, ...], classes: int) -> Probe:
    """Run a net once on two examples to find its operations and the shapes of its dropout masks.

    Raises:
        UserError: it draws random numbers itself, or the shape of its output is not (batch, classes).
    """
    net.train()
    kept = [*net.named_parameters(), *net.named_buffers()]
    before = [value.detach().clone() for _, value in kept]
    memory = _memory(net)
    examples, labels = torch.zeros(2, *shape), torch.zeros(2, dtype=torch.int64)
    with _Recorder() as recorder, _HookRecorder() as hooks:
        output = net(examples)
        if not isinstance(output, Tensor):
            raise UserError(f"the model returned {_kind_of(output)}, expected a tensor of shape (2, {classes})")
        if tuple(output.shape) != (2, classes):
            raise UserError(
                f"the model's output has the shape {tuple(output.shape)}, expected (2, {classes}) for 2 examples"
            )
        torch.nn.functional.cross_entropy(output, labels).backward()
    if drawn := sorted(recorder.seen & RANDOM_OPERATIONS):
        raise UserError(f"the model draws random numbers itself ({', '.join(drawn)}): use torch.nn.Dropout modules")
    has_memory = not _is_same(memory, _memory(net))
    with torch.no_grad():
        for (_, value), old in zip(kept, before, strict=True):  # undo the running statistics of two blank examples
            value.copy_(old)
    net.zero_grad(set_to_none=True)
    has_hooks = hooks.has_hooks or any(m._backward_hooks or m._backward_pre_hooks for m in net.modules())
    return Probe(frozenset(recorder.seen), has_memory, has_hooks)


def _memory(net: nn.Module) -> dict[tuple[str, str], tuple[Tensor, int]]:
    """All tensors of modules that are not parameters, with their versions."""
    return {
        (place, name): (value, value._version)
        for place, module in net.named_modules()
        if not isinstance(module, Dropout)
        for name, value in (*module._buffers.items(), *vars(module).items())
        if isinstance(value, Tensor)
    }


def _is_same(memory: Mapping[Any, tuple[Tensor, int]], other: Mapping[Any, tuple[Tensor, int]]) -> bool:
    return memory.keys() == other.keys() and all(
        value is other[name][0] and version == other[name][1] for name, (value, version) in memory.items()
    )
