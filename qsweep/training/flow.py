"""What flows through a net, rounded on its way: activations forward, errors backward.

At outputs, a hook rounds what a layer gives; its error is rounded at the same place on the way back. At operands, each
product of a dense or convolution layer (forward, for its input, for its weight) rounds its own two operands along the
axis that it sums over. Gradients go straight through (Bengio et al. 2013). No code of the net is touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qsweep.layers import Dropout, HalvingPool, MaskedReLU, ReLU, UngatedReLU, back_through_relu, relu, relu_
from qsweep.rounding import Stack
from qsweep.training.gates import Gate, Pass, no_view, stacked, trials_in_front
from qsweep.training.places import Places, call_name
from qsweep.training.products import Convolution, Dense, Law, Product
from qsweep.training.roles import Noise, Quantizers
from qsweep.training.why import Tally


class Flow:
    """The activations and errors of a stack of trials."""

    def __init__(self, net: nn.Module, places: Places, quantizers: Quantizers) -> None:
        self._places = places
        self._net = net
        self._layers = dict(net.named_modules())
        self._is_chain = is_chain(net)
        self._relus = relus_before_pools(net)
        self.use(quantizers)
        self._attach()
        self._calls: Counter[str] = Counter()
        self._pass = Pass(0, None, None, set())

    def use(self, quantizers: Quantizers) -> None:
        """Go on with the formats of these trials."""
        self._quantizers = quantizers
        self._found: dict[tuple[str, str, bool], tuple[Mapping[str, Stack], frozenset[str]]] = {}

    def start(self, part: slice, noise: Noise | None = None, tally: Tally | None = None) -> None:
        """Begin a pass of some trials through the net; a tally is told what rounding did."""
        self._calls.clear()
        self._pass = Pass(part.start, noise, tally, set())

    def _attach(self) -> None:
        """Hooks where outputs are rounded, and products with rounded operands."""
        outputs = {call for call in self._places.outputs if self._rounds(call, "outputs")}
        for place in dict.fromkeys(call.partition("#")[0] for call in outputs):
            layer = self._layers[place]
            is_relu = type(layer) is ReLU
            if is_relu and self._is_chain:
                layer.forward = partial(self._relu, place, outputs, layer)
            else:
                layer.register_forward_hook(partial(self._output, place, outputs))
        products = [place for place in self._places.products if self._rounds(place, "operands")]
        for place in products:
            layer = self._layers[place]
            layer.forward = partial(self._product, place, layer)

    def _rounds(self, place: str, at: str) -> bool:
        roles = ("activation", "error") if at == "outputs" else ("activation", "error", "weight")
        return any(self._stack(self._quantizers, role, place, at) for role in roles)

    def _stack(self, quantizers: Quantizers, role: str, place: str, at: str) -> Stack | None:
        return quantizers.of(role, place) if quantizers.at(role, place) == at else None

    # outputs

    def _output(self, place: str, outputs: set[str], layer: nn.Module, _: Any, output: Tensor) -> Tensor:
        """The hook of a layer: its output, rounded where this call is a place."""
        gate = self._next_gate(place, outputs, layer)
        return output if gate is None else _Through.apply(output, gate, False, self._witness())

    def _relu(self, place: str, outputs: set[str], layer: nn.Module, x: Tensor) -> Tensor:
        """In place of the forward of a ReLU in a chain, whose output no one else holds: rounded where it lies."""
        gate = self._next_gate(place, outputs, layer)
        return relu(x) if gate is None else _RoundedReLU.apply(x, gate, False, [], self._witness())

    def _witness(self) -> Tensor | None:
        """A tensor that each trial has its own of, by which `vmap` knows a stack: what comes before the first parameter
        is one for all."""
        return next((parameter.detach() for parameter in self._net.parameters()), None)

    def _next_gate(self, place: str, outputs: set[str], layer: nn.Module) -> Gate | None:
        """What rounds at the next call of a layer, where that is a place."""
        self._calls[place] += 1
        call = call_name(place, self._calls[place])
        return self._gate(layer, call, "outputs") if call in outputs else None

    def _gate(self, layer: nn.Module, place: str, at: str) -> Gate:
        wanted = place, at, layer.training
        if wanted not in self._found:
            stacks = self._stacks(*wanted)
            self._found[wanted] = stacks, self._repeated(place, stacks, layer.training)
        stacks, repeated = self._found[wanted]
        return Gate(place, stacks, self._pass, self._is_chain, self._relus.get(place, ""), repeated)

    def _repeated(self, place: str, stacks: Mapping[str, Stack], training: bool) -> frozenset[str]:
        """What a pool rounds as the ReLU before it does, and would do again to values that stay as they are."""
        if place not in self._relus:
            return frozenset()
        before = self._stacks(self._relus[place], "outputs", training)
        alike = (r for r, stack in stacks.items() if stack.keeps_parts and r in before and stack.is_like(before[r]))
        return frozenset(alike)

    def _stacks(self, place: str, at: str, training: bool) -> Mapping[str, Stack]:
        quantizers = self._quantizers if training else self._quantizers.evaluating
        stacks = {role: self._stack(quantizers, role, place, at) for role in ("activation", "error", "weight")}
        return {role: stack for role, stack in stacks.items() if stack is not None}

    # products

    def _product(self, place: str, layer: nn.Module, x: Tensor) -> Tensor:
        """In place of a layer's forward."""
        self._calls[f"{place} product"] += 1
        call = call_name(place, self._calls[f"{place} product"])
        gate = self._gate(layer, place, "operands")._replace(place=call)
        law: Law = Dense() if isinstance(layer, nn.Linear) else Convolution.of(place, layer)
        result: Tensor = Product.apply(x, layer.weight, layer.bias, gate, law, False)
        return result


CHAIN = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.Flatten, Dropout, HalvingPool, MaskedReLU, ReLU, UngatedReLU)


def is_chain(net: nn.Module) -> bool:
    """Whether each layer's error is a tensor that no one else holds, as where a sum hands one error to two layers."""
    return type(net) is nn.Sequential and all(type(layer) in CHAIN for layer in net)


def relus_before_pools(net: nn.Module) -> dict[str, str]:
    """The halving pools that stand straight behind a ReLU in a chain of our layers, each with that ReLU, by name."""
    layers = list(net._modules.items()) if is_chain(net) else []  # `named_children` leaves out what comes again
    times = Counter(layer for _, layer in layers)
    return {
        name: before
        for (before, relu), (name, pool) in pairwise(layers)
        if type(relu) is ReLU and type(pool) is HalvingPool and times[relu] == times[pool] == 1
    }


class _Through(torch.autograd.Function):
    """A layer's output: the activation on the way forward, its error on the way back."""

    @staticmethod
    def forward(x: Tensor, gate: Gate, is_stacked: bool, witness: Tensor | None) -> Tensor:
        if "activation" not in gate.stacks or gate.repeats("activation"):
            return x.clone()  # no view: the next layer may work in place
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
    """A ReLU and what rounds its output, in place both ways; see `qsweep.layers` for what is kept."""

    @staticmethod
    def forward(x: Tensor, gate: Gate, is_stacked: bool, kept: list[Tensor], witness: Tensor | None) -> Tensor:
        kept.append(relu_(x))
        own = trials_in_front(x, is_stacked)
        found = gate.through("activation", own, None, in_place=True)
        if found.data_ptr() != own.data_ptr():  # it lay with gaps
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
