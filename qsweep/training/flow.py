"""What flows through a net, rounded on its way: activations forward, errors backward.

At outputs, a hook rounds what a layer gives; its error is rounded at the same place on the way back. At operands, each
product of a dense or convolution layer (forward, for its input, for its weight) rounds its own two operands along the
axis that it sums over. Gradients go straight through (Bengio et al. 2013). No code of the net is touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qsweep.layers import Dropout, HalvingPool, MaskedReLU, ReLU, UngatedReLU
from qsweep.rounding import Stack
from qsweep.training.nets import memory_order
from qsweep.training.places import Places, call_name
from qsweep.training.roles import Noise, Quantizers
from qsweep.training.why import Tally, count_clipped


class Flow:
    """The activations and errors of a stack of trials."""

    def __init__(self, net: nn.Module, places: Places, quantizers: Quantizers) -> None:
        self._places = places
        self._layers = dict(net.named_modules())
        self._is_chain = is_chain(net)
        self._relus = relus_before_pools(net)
        self.use(quantizers)
        self._attach()
        self._calls: Counter[str] = Counter()
        self._pass = _Pass(0, None, None, set())

    def use(self, quantizers: Quantizers) -> None:
        """Go on with the formats of these trials."""
        self._quantizers = quantizers
        self._found: dict[tuple[str, str, bool], tuple[Mapping[str, Stack], frozenset[str]]] = {}

    def start(self, part: slice, noise: Noise | None = None, tally: Tally | None = None) -> None:
        """Begin a pass of some trials through the net; a tally is told what rounding did."""
        self._calls.clear()
        self._pass = _Pass(part.start, noise, tally, set())

    def _attach(self) -> None:
        """Hooks where outputs are rounded, and products with rounded operands."""
        outputs = {call for call in self._places.outputs if self._rounds(call, "outputs")}
        for place in dict.fromkeys(call.partition("#")[0] for call in outputs):
            self._layers[place].register_forward_hook(partial(self._output, place, outputs))
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
        self._calls[place] += 1
        call = call_name(place, self._calls[place])
        if call not in outputs:
            return output
        rounded: Tensor = _Through.apply(output, self._gate(layer, call, "outputs"), False)
        return rounded

    def _gate(self, layer: nn.Module, place: str, at: str) -> _Gate:
        wanted = place, at, layer.training
        if wanted not in self._found:
            stacks = self._stacks(*wanted)
            self._found[wanted] = stacks, self._repeated(place, stacks, layer.training)
        stacks, repeated = self._found[wanted]
        return _Gate(place, stacks, self._pass, self._is_chain, self._relus.get(place, ""), repeated)

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
        law: _Law = _Dense() if isinstance(layer, nn.Linear) else _Convolution.of(place, layer)
        result: Tensor = _Product.apply(x, layer.weight, layer.bias, gate, law, False)
        return result


class _Pass(NamedTuple):
    """One pass of some trials through the net: the number of the first one, their noise, who counts, and the places
    whose errors come rounded already."""

    first: int
    noise: Noise | None
    tally: Tally | None
    settled: set[str]


class _Gate(NamedTuple):
    """What rounds at one place in one pass.

    Of a pool also the ReLU straight before it, and the roles that both round alike: what a pool takes from rounded
    values, and what it gives back, is rounded.
    """

    place: str
    stacks: Mapping[str, Stack]
    own: _Pass
    is_chain: bool
    relu: str
    repeated: frozenset[str]

    def repeats(self, role: str) -> bool:
        """Whether rounding changes nothing here or at the ReLU before; a step that is counted rounds all the same."""
        return role in self.repeated and self.own.tally is None

    def through(self, role: str, values: Tensor, axis: int | None, where: str = "", in_place: bool = False) -> Tensor:
        """Values (R, *shape) of trials, rounded in the format of a role; themselves where it has none.

        Args:
            axis: of the shape, along which groups of values run; None: that of features.
            where: which product this is for.
            in_place: whether the values may be overwritten.
        """
        stack = self.stacks.get(role)
        if stack is None:
            return values
        shape = tuple(values.shape[1:])
        first, noise, tally, _ = self.own
        name = f"{self.place} {where}".strip()
        drawn = None if noise is None else noise.of(stack, role, name, shape)
        along = features_axis(shape) if axis is None else axis
        if tally is None:
            return rounded(stack, values, drawn, first, along, in_place)
        for trial, own in enumerate(values.split(1), start=first):
            tally.add(role, trial, own.numel(), count_clipped(stack, own, trial, along))
        result = rounded(stack, values, drawn, first, along, in_place)
        for trial, own in enumerate(result, start=first):
            tally.add_rounded(role, name, trial, own)
        return result


CHAIN = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.Flatten, Dropout, HalvingPool, MaskedReLU, ReLU, UngatedReLU)


def is_chain(net: nn.Module) -> bool:
    """Whether each layer's error is a tensor that no one else holds, as where a sum hands one error to two layers."""
    return type(net) is nn.Sequential and all(type(layer) in CHAIN for layer in net)


def relus_before_pools(net: nn.Module) -> dict[str, str]:
    """The halving pools that stand straight behind a ReLU in a chain of our layers, each with that ReLU, by name."""
    pairs = pairwise(net.named_children()) if is_chain(net) else ()
    return {name: before for (before, relu), (name, pool) in pairs if type(relu) is ReLU and type(pool) is HalvingPool}


def features_axis(shape: Sequence[int]) -> int:
    """Of activations (batch, features), (batch, channels, height, width …) or (batch, tokens, features)."""
    return 1 if len(shape) > 3 else len(shape) - 1


def rounded(
    stack: Stack, values: Tensor, noise: Tensor | None, first: int, axis: int, in_place: bool = False
) -> Tensor:
    """Values (R, *shape) rounded, in a new tensor where not `in_place`, which lies in memory as they do.

    Args:
        noise: (*shape).
    """
    values = values.detach()
    if not stack.by_rows:
        result = values if in_place else values.clone()
        stack.round_whole(result, noise, first, axis)
        return result
    order = memory_order(values)
    rows = values.permute(order).contiguous()  # a view, but of what has gaps
    result = rows if in_place else torch.empty_like(rows)
    drawn = None if noise is None else noise.permute([d - 1 for d in order[1:]]).reshape(-1).contiguous()
    stack.round_rows(rows.flatten(1), drawn, first, result.flatten(1))
    return result.permute(sorted(range(len(order)), key=order.__getitem__))


def _no_view(fresh: Tensor, shape: Sequence[int]) -> Tensor:
    """A new tensor in another shape, and no view to autograd: the next layer may work in place."""
    reshaped: Tensor = torch.ops.aten._unsafe_view(fresh, shape)
    return reshaped


def _trials_in_front(x: Tensor, is_stacked: bool) -> Tensor:
    return x if is_stacked else x[None]


class _Through(torch.autograd.Function):
    """A layer's output: the activation on the way forward, its error on the way back."""

    @staticmethod
    def forward(x: Tensor, gate: _Gate, is_stacked: bool) -> Tensor:
        if "activation" not in gate.stacks or gate.repeats("activation"):
            return x.clone()  # no view: the next layer may work in place
        return _no_view(gate.through("activation", _trials_in_front(x, is_stacked), None), x.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.gate, ctx.is_stacked = inputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, None, None]:
        gate, own = ctx.gate, _trials_in_front(error, ctx.is_stacked)
        if gate.place in gate.own.settled:
            return error, None, None
        found = gate.through("error", own, None, in_place=gate.is_chain)
        if gate.repeats("error"):
            gate.own.settled.add(gate.relu)
        return found.view(error.shape), None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, gate: _Gate, is_stacked: bool) -> tuple[Tensor, int]:
        return _Through.apply(_stacked(info, x, in_dims[0]), gate, True), 0


def _stacked(info: Any, x: Tensor, dim: int | None) -> Tensor:
    """The tensor of all trials behind a tensor inside `vmap`."""
    return x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)


# --- products ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Dense:
    """The products of a dense layer, for tensors of all trials: x (P, …, in), w (P, out, in), errors (P, …, out)."""

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        y = torch.matmul(x, w.transpose(1, 2))
        return y if bias is None else y + bias[:, None]

    def of_input(self, error: Tensor, w: Tensor, shape: Sequence[int]) -> Tensor:
        return torch.matmul(error, w)

    def of_weight(self, error: Tensor, x: Tensor, shape: Sequence[int]) -> Tensor:
        return torch.matmul(error.transpose(1, 2), x)

    def of_bias(self, error: Tensor) -> Tensor:
        return error.sum(1)


@dataclass(frozen=True)
class _Convolution:
    """The products of a convolution of one trial: x (1, batch, in, …), w (1, out, in, …)."""

    stride: Any
    padding: Any
    dilation: Any
    groups: int

    @classmethod
    def of(cls, place: str, layer: Any) -> _Convolution:
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            raise ValueError(
                f"{place}: `at: operands` takes convolutions that pad a number of zeros, not padding by name"
            )
        return cls(layer.stride, layer.padding, layer.dilation, layer.groups)

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        b = None if bias is None else bias[0]
        dims = len(self.stride)
        zero = [0] * dims
        y = torch.convolution(x[0], w[0], b, self.stride, self.padding, self.dilation, False, zero, self.groups)
        return y[None]

    def of_input(self, error: Tensor, w: Tensor, shape: Sequence[int]) -> Tensor:
        return self._back(error, error.new_empty(1).expand(shape[1:]), w[0], 0)

    def of_weight(self, error: Tensor, x: Tensor, shape: Sequence[int]) -> Tensor:
        return self._back(error, x[0], error.new_empty(1).expand(shape[1:]), 1)

    def _back(self, error: Tensor, x: Tensor, w: Tensor, which: int) -> Tensor:
        zero = [0] * len(self.stride)
        mask = [which == 0, which == 1, False]
        found = torch.ops.aten.convolution_backward(
            error[0], x, w, None, self.stride, self.padding, self.dilation, False, zero, self.groups, mask
        )
        gradient: Tensor = found[which]
        return gradient[None]

    def of_bias(self, error: Tensor) -> Tensor:
        return error.sum((1, *range(3, error.dim())))


_Law = _Dense | _Convolution
BATCH, FEATURES = 0, 1
OUTPUTS, INPUTS = 0, 1
"""The axes of operands (batch, features …) and weights (outputs, inputs …) along which products sum."""


class _Product(torch.autograd.Function):
    """A layer's three products, each of operands rounded for it."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, bias: Tensor | None, gate: _Gate, law: _Law, is_stacked: bool) -> Tensor:
        values, weights = _trials_in_front(x, is_stacked), _trials_in_front(w, is_stacked)
        biases = None if bias is None else _trials_in_front(bias, is_stacked)
        flat = _two_axes(values, law)
        operand = gate.through("activation", flat, FEATURES, "forward")
        y = law.forward(operand, gate.through("weight", weights, INPUTS, "forward"), biases)
        shape = (*values.shape[:-1], y.shape[-1]) if isinstance(law, _Dense) else tuple(y.shape)
        return _no_view(y, shape if is_stacked else shape[1:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, bias, ctx.gate, ctx.law, ctx.is_stacked = inputs
        ctx.has_bias = bias is not None
        ctx.save_for_backward(x, w)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Any, ...]:
        gate, law = ctx.gate, ctx.law
        x, w, error = (_trials_in_front(t, ctx.is_stacked) for t in (*ctx.saved_tensors, error))
        flat, errors = _two_axes(x, law), _two_axes(error, law)
        of_x = of_bias = None
        if ctx.needs_input_grad[0]:
            weights = gate.through("weight", w, OUTPUTS, "input")
            of_x = law.of_input(gate.through("error", errors, FEATURES, "input"), weights, flat.shape).view(x.shape)
        operand = gate.through("activation", flat, BATCH, "weight")
        of_w = law.of_weight(gate.through("error", errors, BATCH, "weight"), operand, w.shape)
        if ctx.has_bias:
            of_bias = law.of_bias(errors)
        found = (of_x, of_w, of_bias)
        return *(t if t is None or ctx.is_stacked else t[0] for t in found), None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, w: Tensor, bias: Tensor | None, gate: _Gate, law: _Law, is_stacked: bool
    ) -> tuple[Tensor, int]:
        own = (None if t is None else _stacked(info, t, dim) for t, dim in zip((x, w, bias), in_dims[:3], strict=True))
        return _Product.apply(*own, gate, law, True), 0


def _two_axes(x: Tensor, law: _Law) -> Tensor:
    """What goes into a dense layer as (P, examples, features), tokens being examples."""
    return x.flatten(1, -2) if isinstance(law, _Dense) else x
