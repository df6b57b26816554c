"""Rounding what flows through a net: activations forward, errors (grad_output of each layer) backward.

At outputs, a hook rounds the output of a layer, and its error at the same place in the backward pass. At operands, each
product of a linear or convolution layer (forward, grad_input, grad_weight) rounds its own two operands in groups along
the axis that it sums over. Functions that a net calls itself (`F.relu`, `x @ w`) are intercepted and treated like
layers. Gradients pass straight through rounding (Bengio et al. 2013). The net's code is not changed.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor
from torch.autograd.function import once_differentiable

from qsweep.models.build import CORE, NORMS
from qsweep.models.layers import (
    Dropout,
    HalvingPool,
    MaskedReLU,
    PaddedConvolution,
    ReLU,
    UngatedReLU,
    back_through_relu,
    relu,
    relu_,
)
from qsweep.rounding import Stack
from qsweep.training.functions import FunctionCalls, Kind, first, in_place_of, name_of, with_first
from qsweep.training.gates import Gate, Pass, no_view, stacked, trials_in_front
from qsweep.training.places import GIVING, Places, call_name
from qsweep.training.products import Convolution, Linear, Operation, Product
from qsweep.training.roles import Noise, Quantizers
from qsweep.training.why import Tally
from qsweep.trial.roles import FLOWS, OPERANDS


class Flow:
    """The activations and errors of a stack of trials."""

    def __init__(self, net: nn.Module, places: Places, quantizers: Quantizers) -> None:
        self._places = places
        self._net = net
        self._layers: dict[str, Any] = dict(net.named_modules())
        self._is_chain = is_chain(net)
        self._has_fixed_calls = has_fixed_calls(net)
        self._relus = relus_before_pools(net)
        self.use(quantizers)
        self._outputs = {call for call in places.outputs if self._rounds(call, "outputs")}
        self._products = {place for place in places.products if self._rounds(place, "operands")}
        self._attach()
        self._calls: Counter[str] = Counter()
        self._pass = Pass(0, None, None, set())

    def use(self, quantizers: Quantizers) -> None:
        """Use the formats of these trials."""
        self._quantizers = quantizers
        self._found: dict[tuple[str, str, bool], tuple[Mapping[str, Stack], frozenset[str]]] = {}

    def start(self, part: slice, noise: Noise | None = None, tally: Tally | None = None) -> None:
        """Begin a pass of some trials through the net; a tally counts the effects of rounding."""
        self._calls.clear()
        self._pass = Pass(part.start, noise, tally, set())

    def _attach(self) -> None:
        """Attach hooks where outputs are rounded, products with rounded operands, and a watch on all other calls."""
        outputs = {call.partition("#")[0] for call in self._outputs}
        for place in outputs & self._layers.keys():
            layer = self._layers[place]
            is_in_place = self._is_chain and type(layer) is ReLU
            if is_in_place:
                layer.forward = partial(self._relu, place, layer)
            elif getattr(layer, "inplace", False):
                layer.forward = partial(self._overwriting, place, layer)
            else:
                layer.register_forward_hook(partial(self._output, place))
        for place in self._products & self._layers.keys():
            layer = self._layers[place]
            layer.forward = partial(self._product, place, layer)
        if self._asks and not self._has_fixed_calls:
            self._watch(outputs)
            self._attach_functions()

    @property
    def _asks(self) -> bool:
        """Whether the trials round activations, errors or operands anywhere, apart from exceptions."""
        roles = self._quantizers.roles
        return bool({*FLOWS} & {*roles}) or bool(self._products) or self._quantizers.at("weight", "") == OPERANDS

    def _watch(self, outputs: Collection[str]) -> None:
        """Refuse calls of layers that were not made when the net was inspected: they would not be rounded."""
        called = {call.partition("#")[0] for call in self._places.calls}
        for place, layer in self._layers.items():
            if isinstance(layer, (*GIVING, *CORE)) and place not in called:
                layer.register_forward_pre_hook(lambda _, inputs, place=place: self._refuse(place))
            elif isinstance(layer, GIVING) and place not in outputs:
                layer.register_forward_hook(partial(self._output, place))

    def _attach_functions(self) -> None:
        """Intercept the functions that the net calls itself."""
        functions = FunctionCalls(GIVING, self._function)
        functions.attach(self._net)
        net: Any = self._net
        forward = net.forward

        def run(*args: Any, **given: Any) -> Any:
            with functions:
                return forward(*args, **given)

        net.forward = run

    def _rounds(self, place: str, at: str) -> bool:
        roles = ("activation", "error") if at == "outputs" else ("activation", "error", "weight")
        return any(self._stack(self._quantizers, role, place, at) for role in roles)

    def _stack(self, quantizers: Quantizers, role: str, place: str, at: str) -> Stack | None:
        return quantizers.of(role, place) if quantizers.at(role, place) == at else None

    # outputs

    def _output(self, place: str, layer: nn.Module, _: Any, output: Any) -> Any:
        """The hook of a layer: its output, rounded if this call is a place."""
        gate = self._next_gate(place)
        return output if gate is None else with_first(output, self._through(first(output), gate))

    def _relu(self, place: str, layer: nn.Module, x: Tensor) -> Tensor:
        """Replaces the forward of a ReLU in a chain, whose output nothing else holds: rounds in place."""
        gate = self._next_gate(place)
        return relu(x) if gate is None else _RoundedReLU.apply(x, gate, False, [], self._witness())

    def _overwriting(self, place: str, layer: nn.Module, x: Tensor) -> Tensor:
        """Replaces the forward of a layer that overwrites its input: a net may ignore the output and continue with the
        input, which has to be rounded too."""
        forward: Any = type(layer).forward
        gate = self._next_gate(place)
        if gate is None:
            output: Tensor = forward(layer, x)
            return output
        rounded = self._through(forward(layer, x.clone()), gate)
        if is_batchedtensor(x) or not is_batchedtensor(rounded):  # otherwise all trials share x, which holds only one
            x.copy_(rounded)
        return rounded  # not `x`: through copy_, the bits of gradients would differ

    def _through(self, output: Tensor, gate: Gate) -> Tensor:
        rounded: Tensor = _Through.apply(output, gate, False, self._witness())
        return rounded

    def _witness(self) -> Tensor | None:
        """A tensor that differs between trials, so that `vmap` batches the call: before the first parameter all trials
        share one tensor."""
        return next((parameter.detach() for parameter in self._net.parameters()), None)

    def _next_gate(self, place: str) -> Gate | None:
        """The gate of the next call of a layer, if it is a place."""
        call = self._next_call(place)
        return self._gate(call, "outputs") if call in self._outputs else None

    def _next_call(self, place: str) -> str:
        """The next call of a layer or function.

        Raises:
            ValueError: the net did not make this call when it was inspected.
        """
        self._calls[place] += 1
        call = call_name(place, self._calls[place])
        if call not in self._places.calls:
            self._refuse(call)
        return call

    def _refuse(self, call: str) -> NoReturn:
        raise ValueError(f"{call}: this call was not made when the net was inspected; what is rounded must not change")

    def _gate(self, place: str, at: str) -> Gate:
        wanted = place, at, self._net.training  # of the whole net: a layer may be kept in evaluation mode
        if wanted not in self._found:
            stacks = self._stacks(*wanted)
            self._found[wanted] = stacks, self._repeated(place, stacks, self._net.training)
        stacks, repeated = self._found[wanted]
        return Gate(place, stacks, self._pass, self._is_chain, self._relus.get(place, ""), repeated)

    def _repeated(self, place: str, stacks: Mapping[str, Stack], training: bool) -> frozenset[str]:
        """The roles that a pool rounds like the ReLU before it, so that rounding again would change nothing."""
        if place not in self._relus:
            return frozenset()
        before = self._stacks(self._relus[place], "outputs", training)
        alike = (r for r, stack in stacks.items() if stack.keeps_parts and r in before and stack.is_like(before[r]))
        return frozenset(alike)

    def _stacks(self, place: str, at: str, training: bool) -> Mapping[str, Stack]:
        quantizers = self._quantizers if training else self._quantizers.evaluating
        stacks = {role: self._stack(quantizers, role, place, at) for role in ("activation", "error", "weight")}
        return {role: stack for role, stack in stacks.items() if stack is not None}

    # functions

    def _function(self, place: str, kind: Kind, function: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        """A call of a function, with the mode off: its output or its operands are rounded like a layer's."""
        call = self._next_call(place)
        if place in self._products:
            return self._product_function(place, call, function, args, given)
        if call not in self._outputs:
            return function(*args, **given)
        gate = self._gate(call, "outputs")
        if not in_place_of(function, args, given):
            result = function(*args, **given)
            return with_first(result, self._through(first(result), gate))
        x = args[0] if args else given["input"]
        copy = x.clone()  # what the function saves for the backward pass must not change
        rest = {name: value for name, value in given.items() if name != "input"}
        return x.copy_(self._through(function(copy, *args[1:], **rest), gate))

    # products

    def _product(self, place: str, layer: nn.Module, x: Tensor) -> Tensor:
        """Replaces a layer's forward."""
        self._calls[f"{place} product"] += 1
        call = call_name(place, self._calls[f"{place} product"])
        op: Operation = Linear() if isinstance(layer, nn.Linear) else Convolution.of(place, layer)
        return self._multiplied(place, call, op, x, layer.weight, layer.bias)

    def _product_function(
        self, place: str, call: str, function: Any, args: tuple[Any, ...], given: dict[str, Any]
    ) -> Tensor:
        """Replaces `F.linear` or `F.conv2d`; its output is rounded if it is a place."""
        if name_of(function) == "linear":
            own = LINEAR.bind(*args, **given).arguments
            op: Operation = Linear()
        else:
            own = CONVOLUTION.bind(*args, **given).arguments
            op = Convolution.called(place, own)
        y = self._multiplied(place, call, op, own["input"], own["weight"], own.get("bias"))
        return self._through(y, self._gate(call, "outputs")) if call in self._outputs else y

    def _multiplied(self, place: str, call: str, op: Operation, x: Tensor, w: Any, bias: Any) -> Tensor:
        gate = self._gate(place, "operands")._replace(place=call)
        result: Tensor = Product.apply(x, w, bias, gate, op, False)
        return result


def _signature(names: str) -> inspect.Signature:
    """The signature of a built-in function, which does not expose it."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind, default=None) for name in names.split()])


LINEAR = _signature("input weight bias")
CONVOLUTION = _signature("input weight bias stride padding dilation groups")


CHAIN = (
    *(nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.Flatten),
    *(Dropout, HalvingPool, MaskedReLU, PaddedConvolution, ReLU, UngatedReLU),
)


def is_chain(net: nn.Module) -> bool:
    """Whether nothing else holds each layer's error; after a sum, for example, two layers share one."""
    return type(net) is nn.Sequential and all(type(layer) in CHAIN for layer in net)


FIXED = (*CHAIN, *GIVING, *CORE, *NORMS, nn.Sequential, nn.Identity, nn.Unflatten)
"""Modules that call the same layers in each pass, and no functions that are places."""


def has_fixed_calls(net: nn.Module) -> bool:
    """Whether a net can only make the calls that were seen when it was inspected."""
    return all(type(m) in FIXED and not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())


def relus_before_pools(net: nn.Module) -> dict[str, str]:
    """The halving pools directly after a ReLU in a chain of qsweep's layers, each with that ReLU, by name."""
    layers = list(net._modules.items()) if is_chain(net) else []  # `named_children` leaves out repetitions
    times = Counter(layer for _, layer in layers)
    return {
        name: before
        for (before, relu), (name, pool) in pairwise(layers)
        if type(relu) is ReLU and type(pool) is HalvingPool and times[relu] == times[pool] == 1
    }


class _Through(torch.autograd.Function):
    """A layer's output: rounds the activation in the forward pass, its error in the backward pass."""

    @staticmethod
    def forward(x: Tensor, gate: Gate, is_stacked: bool, witness: Tensor | None) -> Tensor:
        if "activation" not in gate.stacks or gate.repeats("activation"):
            return x.clone()  # not a view: the next layer may work in place
        return no_view(gate.through("activation", trials_in_front(x, is_stacked), None), x.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.gate, ctx.is_stacked, _ = inputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.gate.back(error, ctx.is_stacked), None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, gate: Gate, is_stacked: bool, witness: Tensor | None
    ) -> tuple[Tensor, int]:
        return _Through.apply(stacked(info, x, in_dims[0]), gate, True, None), 0


class _RoundedReLU(torch.autograd.Function):
    """A ReLU and the rounding of its output, in place in both passes; see `qsweep.models.layers` for what is saved."""

    @staticmethod
    def forward(x: Tensor, gate: Gate, is_stacked: bool, kept: list[Tensor], witness: Tensor | None) -> Tensor:
        kept.append(relu_(x))
        own = trials_in_front(x, is_stacked)
        found = gate.through("activation", own, None, in_place=True)
        if found.data_ptr() != own.data_ptr():  # it was not contiguous
            own.copy_(found)
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.gate, ctx.is_stacked, ctx.kept, _ = inputs
        ctx.mark_dirty(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, None, None, None, None]:
        return back_through_relu(ctx.gate.back(error, ctx.is_stacked), *ctx.kept), None, None, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Any,
        x: Tensor,
        gate: Gate,
        is_stacked: bool,
        kept: list[Tensor],
        witness: Tensor | None,
    ) -> tuple[Tensor, int]:
        # As it is: of a view, which even movedim(0, 0) gives, autograd would copy the whole that is written to.
        own = x if in_dims[0] == 0 else stacked(info, x, in_dims[0]).contiguous()
        return _RoundedReLU.apply(own, gate, True, kept, None), 0
