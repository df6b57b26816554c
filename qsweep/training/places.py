"""Places: where in a net activations and errors are rounded, found by running it once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qsweep.errors import UserError, unknown
from qsweep.formats import Float32, Format, name_of
from qsweep.formats.groups import grouping
from qsweep.models.build import CORE, NORMS
from qsweep.models.layers import MaskedReLU, ReLU, UngatedReLU
from qsweep.training.dataflow import DataFlow, Value
from qsweep.training.functions import WITH_OPERANDS, FunctionCalls, Kind, closed_modules, first, own_functions
from qsweep.training.nets import frozen_parameters
from qsweep.training.roles import Layers, contraction_axis, parts_of, place_of, role_at, roles_of
from qsweep.training.sizes import bits_of
from qsweep.trial.idle import OF_NORMS
from qsweep.trial.parameters import COMPRESS, LAYERS, STAGES
from qsweep.trial.roles import AT, AT_ROLES, FLOWS, OPERANDS, ROLES, STORED
from qsweep.trial.settings import Compression, Quantization, Roles, Settings

ACTIVATIONS = (
    *(MaskedReLU, ReLU, UngatedReLU),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.LogSigmoid, nn.Softsign),
    *(nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.Threshold, nn.GLU),
)
POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.LPPool1d, nn.LPPool2d, nn.LPPool3d),
)
GIVING = (*ACTIVATIONS, *POOLS, nn.Linear)
"""Layers whose outputs are activations."""


class Unreached(NamedTuple):
    """Something that roles name but no place rounds.

    Attributes:
        what: `encoder.self_attn.in_proj_weight (12,288 values)`.
        roles: the roles that would round it.
        at: where they would: at outputs or operands.
    """

    what: str
    roles: tuple[str, ...]
    at: str = AT.default


class Values(NamedTuple):
    """Values that roles may round together, and their shape.

    Attributes:
        place: the place whose formats apply.
        what: `linear1.weight`, `relu1`, `the error operand of linear1`.
        roles: the roles that round them; for a parameter also `compress weight` and the like.
        at: where they do: at outputs or operands.
        shape: for activations and errors, with the batch first.
    """

    place: str
    what: str
    roles: tuple[str, ...]
    shape: tuple[int, ...]
    at: str = AT.default

    def __str__(self) -> str:
        first = "batch" if {*self.roles} & {*FLOWS} else str(self.shape[0])
        return f"{self.what} of shape ({', '.join([first, *map(str, self.shape[1:])])})"


@dataclass(frozen=True)
class Places:
    """The places of a net, in the order in which it calls them.

    Attributes:
        outputs: calls of activation functions, pools and linear layers (`relu1`; a layer's second call is `relu1#2`),
            and of functions like them that a module calls itself (`relu()`, `block.matmul()#2`). A linear layer whose
            output only goes into an activation function is not a place: the function is.
        products: linear and convolution layers, and the functions like them (`conv2d()`).
        parameters: the role of each parameter that has one and trains.
        names: all places, layers with parameters and calls with outputs.
        calls: everything that may be a place and was called.
        unreached: what roles may name but nothing rounds.
        parts: of parameters, those that the net has and that can be compressed.
        values: those with several axes, of which a format may name one.
    """

    outputs: tuple[str, ...]
    products: tuple[str, ...]
    parameters: Mapping[str, str]
    names: tuple[str, ...]
    calls: frozenset[str] = frozenset()
    unreached: tuple[Unreached, ...] = ()
    parts: frozenset[str] = frozenset()
    values: tuple[Values, ...] = ()

    def check_axes(self, settings: Settings) -> None:
        """Check that values have the axes that a trial's formats name.

        Raises:
            UserError: lists each format with an axis that some of its values do not have.
        """
        found: dict[str, list[Values]] = {}
        for values in self.values:
            for path, own in _formats_for(values, settings):
                if values.at == own.at and lacks_axis(own, values.shape):
                    text = f"{path}: {name_of(own.format)}: there is no axis {own.axis} in "
                    found.setdefault(text, []).append(values)
        if found:
            raise UserError("\n".join(f"{text}{_few(lacking)}" for text, lacking in found.items()))

    def not_rounded(self, settings: Settings) -> tuple[str, ...]:
        """What a trial's roles name but nothing rounds or compresses."""
        asked = _asked(settings)
        found = [u.what for u in self.unreached if any((role, u.at) in asked for role in u.roles)]
        return tuple(dict.fromkeys(found))

    def idle(self, settings: Settings) -> tuple[str, ...]:
        """What a trial asks to quantize but this net does not have, except what `not_rounded` names."""
        named = {(role, own.at) for own in self.unreached for role in own.roles}
        found = _asked(settings)
        reported = {what for what, at in found if (what, at) in named}
        return tuple(what for what in sorted({what for what, _ in found} - reported) if not self._has(what, settings))

    def _has(self, what: str, settings: Settings) -> bool:
        """Whether a role is rounded anywhere in this net, or there is a part to compress."""
        if what.startswith(COMPRESS):
            return what.removeprefix(f"{COMPRESS} ") in self.parts
        layers = self.layers(settings)

        def is_rounded(role: str, place: str, at: str = AT.default) -> bool:
            own = role_at(settings, layers, role, place)
            return own is not None and own.rounds and own.at == at

        if what in AT_ROLES and any(is_rounded(what, place, OPERANDS) for place in self.products):
            return True
        if what in FLOWS:
            return any(is_rounded(what, call.partition("#")[0]) for call in self.outputs)
        own = [(place_of(name), role) for name, role in self.parameters.items()]
        if what in STORED:
            return any(role == what and is_rounded(what, place) for place, role in own)
        return any(is_rounded(what, place) and (role != "norm" or is_rounded(role, place)) for place, role in own)

    def short_groups(self, settings: Settings) -> tuple[str, ...]:
        """The weights that have fewer values along the groups of a trial's formats than a group has."""
        ends = (self.products[0], self.products[-1]) if settings.has_float32_ends else ()
        found: dict[str, None] = {}
        for values in self.values:
            for path, own in _formats_for(values, settings):
                is_left_out = values.place in ends and path.startswith("quantize.")
                if values.at == own.at and not is_left_out and not {*values.roles} & {*FLOWS}:
                    found |= dict.fromkeys(_short_groups(values, own))
        return tuple(found)

    def layers(self, settings: Settings) -> Layers:
        """A trial's exceptions, each by the names of places and roles.

        Raises:
            UserError: one that matches nothing in this net.
        """
        ends = dict.fromkeys((self.products[0], self.products[-1])) if settings.has_float32_ends else {}
        return {place: self._layer(place, own) for place, own in {**settings.layers, **ends}.items()}

    def rounding(self, settings: Settings) -> tuple[str, ...]:
        """The places whose outputs or errors a trial rounds, each call once."""
        layers = self.layers(settings)

        def is_rounded(call: str, role: str) -> bool:
            own = role_at(settings, layers, role, call.partition("#")[0])
            return own is not None and own.rounds and own.stays

        return tuple(call for call in self.outputs if any(is_rounded(call, role) for role in FLOWS))

    def stored(self, settings: Settings) -> dict[str, Format]:
        """The parameters that a trial's training keeps rounded, each with its format."""
        layers = self.layers(settings)
        own = {name: role_at(settings, layers, role, place_of(name)) for name, role in self.parameters.items()}
        return {name: at.format for name, at in own.items() if at is not None and at.rounds and at.stays}

    def _layer(self, place: str, own: Roles | None) -> Roles:
        if place not in self.names:
            raise UserError(f"layers.{place}: {unknown('place', place, self.names)}")
        if own is None:
            return dict.fromkeys(ROLES, Quantization(Float32()))
        there = self._roles_at(place)
        for role, quantization in own.items():
            at = role if quantization.stays else f"{role} at {quantization.at}"
            if at not in there:
                raise UserError(f"layers.{place}: it has no {at} (it has: {', '.join(there)})")
        return own

    def _roles_at(self, place: str) -> tuple[str, ...]:
        """What can be rounded at a place, in the order of the roles."""
        stored = {role for name, role in self.parameters.items() if place_of(name) == place}
        moved = {role for role in ROLES if role not in (*STORED, *FLOWS)} if stored else set()
        flows = {*FLOWS} if place in self.outputs else set()
        operands = [f"{role} at operands" for role in AT_ROLES] if place in self.products else []
        return (*(role for role in ROLES if role in stored | moved | flows), *operands)


def _few(lacking: Sequence[Values]) -> str:
    more = len(lacking) - SHOWN
    return "; ".join(map(str, lacking[:SHOWN])) + (f"; and {more} more" if more > 0 else "")


SHOWN = 3
"""The most values without an axis that a message lists."""


def _formats_for(values: Values, settings: Settings) -> Iterator[tuple[str, Quantization]]:
    """A trial's formats for some values, each with its path in the spec."""
    there = settings.layers.get(values.place, {})
    for role in values.roles:
        if there is None:
            break
        if role in there:
            yield f"{LAYERS}.{values.place}.{role}", there[role]
        elif role in settings.quantize:
            yield f"quantize.{role}", settings.quantize[role]
    for index, stage in enumerate(settings.stages):
        for part, own in stage.parts.items() if isinstance(stage, Compression) else ():
            if f"{COMPRESS} {part}" in values.roles:
                yield f"{STAGES}.{index}.{COMPRESS}.{part}", own


def _short_groups(values: Values, own: Quantization) -> Iterator[str]:
    """The groups of a weight in a format, if they have fewer values than the format's."""
    size, fmt = own.group_size, own.format
    if not size:
        return
    axis = "auto" if own.axis is None else own.axis
    found = grouping(name_of(fmt), values.shape, size, axis, contraction_axis(values.shape))
    if found.width < size:
        bits = bits_of(fmt, values.shape) if own.stays else None
        per_value = "" if bits is None else f", {bits / math.prod(values.shape):.4g} bits per value"
        count = "1 value" if found.width == 1 else f"{found.width} values"
        yield f"{name_of(fmt)} on {values.what}: groups of {count}{per_value}"


def lacks_axis(own: Quantization, shape: Sequence[int]) -> bool:
    """Whether a format names an axis that a shape does not have."""
    if own.axis is None:
        return False
    try:
        grouping("", shape, "channel", own.axis)
    except ValueError:
        return True
    return False


def _asked(settings: Settings) -> set[tuple[str, str]]:
    """What a trial rounds anywhere: roles, each with `at`, and the parts that it compresses."""
    found = {(role, own.at) for role, own in settings.rounded()}
    return found | {(f"compress {part}", AT.default) for part in settings.compressed_parts}


@dataclass(frozen=True)
class _Call:
    """An observed call: its name, its layer or kind, its first input, its output and, for a product, its weight (kept,
    so that ids stay unique), and the output's value."""

    name: str
    of: nn.Module | Kind
    given: Any
    output: Any
    weight: Any = None
    value: Value | None = None

    @property
    def is_activation(self) -> bool:
        return self.of is Kind.ACTIVATION or isinstance(self.of, ACTIVATIONS)

    @property
    def is_linear(self) -> bool:
        return self.of is Kind.GEMM or isinstance(self.of, nn.Linear)

    @property
    def gives_activation(self) -> bool:
        return self.of in (Kind.ACTIVATION, Kind.POOL, Kind.GEMM, Kind.OPAQUE) or isinstance(self.of, GIVING)

    @property
    def is_product(self) -> bool:
        return self.of in MULTIPLYING or isinstance(self.of, CORE)

    @property
    def place(self) -> str:
        return self.name.partition("#")[0]

    @property
    def has_operands(self) -> bool:
        """Whether its operands can be rounded."""
        return isinstance(self.of, CORE) or self.place.rpartition(".")[2].removesuffix("()") in WITH_OPERANDS


def places_of(net: nn.Module, shape: tuple[int, ...]) -> Places:
    """The places of a net, found by passing two blank examples through it in evaluation mode and in training mode."""
    evaluated, trained, output = _seen(net, shape)
    calls = [*evaluated.calls, *(call for call in trained.calls if call.name not in evaluated.names)]
    going_on = evaluated.going_on | trained.going_on
    outputs = [call.name for call in calls if call.gives_activation and (not call.is_linear or call.name in going_on)]
    products = dict.fromkeys(call.place for call in calls if call.has_operands)
    frozen = frozen_parameters(net)
    roles = roles_of(net)
    parameters = {name: role for name, role in roles.items() if name not in frozen}
    there = {*map(place_of, parameters), *outputs, *products}
    names = tuple(dict.fromkeys(call.name for call in calls if call.name in there))
    values = (
        *(_values_of(net, name, role, name in frozen) for name, role in roles.items()),
        *(Values(c.name, c.name, FLOWS, tuple(c.output.shape)) for c in calls if c.name in outputs),
        *(values for call in calls if call.has_operands for values in _operands(call)),
    )
    unreached = (
        *_unreached_parameters(net, roles, frozen),
        *_unreached_calls(calls),
        *(Unreached(what, FLOWS) for what in {**evaluated.flow.unrounded, **trained.flow.unrounded}),
        *(Unreached(what, ("weight",)) for what in trained.flow.computed_weights),
        *(Unreached(f"inside of {name}", FLOWS) for name in (*closed_modules(net), *own_functions(output))),
    )
    return Places(
        tuple(outputs),
        tuple(products),
        parameters,
        names,
        frozenset(call.name for call in calls),
        unreached,
        frozenset(parts_of(net).values()),
        tuple(own for own in values if len(own.shape) > 1),
    )


def _values_of(net: nn.Module, name: str, role: str, is_frozen: bool) -> Values:
    """A parameter, with the roles that round it or its step, and the part that compresses it."""
    moved = [own for own in ROLES if own not in (*STORED, *FLOWS)]
    roles = () if is_frozen else (role, *moved)
    return Values(place_of(name), name, (*roles, f"{COMPRESS} {role}"), tuple(net.get_parameter(name).shape))


def _operands(call: _Call) -> Iterator[Values]:
    """The operands of a product as they are rounded; for a linear layer, all examples are in one axis."""
    for role, tensor in (("activation", call.given), ("error", call.output), ("weight", call.weight)):
        if isinstance(tensor, Tensor):
            is_flat = call.is_linear and role != "weight" and tensor.dim() > 1
            shape = tuple(tensor.flatten(0, -2).shape if is_flat else tensor.shape)
            yield Values(call.place, f"the {role} operand of {call.name}", (role,), shape, OPERANDS)


def _unreached_parameters(net: nn.Module, roles: Mapping[str, str], frozen: Collection[str]) -> Iterator[Unreached]:
    modules = dict(net.named_modules())
    for name, parameter in net.named_parameters():
        count = f"{parameter.numel():,} value{'' if parameter.numel() == 1 else 's'}"
        if name in roles and name in frozen:
            yield Unreached(f"{name} ({count}, frozen)", (roles[name],))
        if name not in roles:
            is_norm = "norm" in type(modules[place_of(name)]).__name__.lower()
            yield Unreached(f"{name} ({count})", OF_NORMS if is_norm else OF_OTHERS)


OF_OTHERS = ("weight", "bias", "gradient", "update", "momentum", "compress weight", "compress bias")
"""Roles, and parts to compress, that name a parameter of anything but a norm."""


def _unreached_calls(calls: Sequence[_Call]) -> Iterator[Unreached]:
    for call in calls:
        if call.of is Kind.NONLINEAR:
            yield Unreached(call.name, FLOWS)
        if call.of is Kind.OPAQUE:
            yield Unreached(f"inside of {call.name}", FLOWS)
        if isinstance(call.of, Kind) and call.of in MULTIPLYING and not call.has_operands:
            yield Unreached(f"operands of {call.name}", AT_ROLES, OPERANDS)


MULTIPLYING = (Kind.GEMM, Kind.CONVOLUTION, Kind.OPAQUE)


def call_name(place: str, number: int) -> str:
    """A call of a layer, counted from 1."""
    return place if number == 1 else f"{place}#{number}"


@dataclass
class _Pass:
    """One pass of a net: its calls in order, and the flow of values."""

    calls: list[_Call]
    flow: DataFlow

    @property
    def names(self) -> set[str]:
        return {call.name for call in self.calls}

    @property
    def going_on(self) -> set[str]:
        """The linear layers whose output does not only go into an activation function."""
        activated = {id(call.given) for call in self.calls if call.is_activation}
        linear = [call for call in self.calls if call.is_linear]
        return {c.name for c in linear if id(c.output) not in activated or (c.value is not None and c.value.is_taken)}


def _seen(net: nn.Module, shape: tuple[int, ...]) -> tuple[_Pass, _Pass, Tensor]:
    """A pass in evaluation mode, one in training mode, and the net's output. The net's state is restored."""
    was_training = net.training
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    examples = torch.zeros(2, *shape, device=next(net.parameters()).device)
    with torch.no_grad():
        evaluated, _ = _watched(net.eval(), examples)
    with torch.enable_grad():
        trained, output = _watched(net.train(), examples)
    net.train(was_training)
    with torch.no_grad():
        for name, value in net.named_buffers():
            value.copy_(buffers[name])
    return evaluated, trained, output


def _watched(net: nn.Module, examples: Tensor) -> tuple[_Pass, Tensor]:
    """All calls of layers and functions, while the net runs once; and its output."""
    calls: list[_Call] = []
    counts: Counter[str] = Counter()
    flow = DataFlow()

    def note(place: str, of: nn.Module | Kind, taken: Sequence[Any], result: Any, weight: Any) -> None:
        counts[place] += 1
        call = _Call(call_name(place, counts[place]), of, next(iter(taken), None), first(result), weight)
        if call.is_product:
            flow.take([taken, weight], f"input of {call.name}")
        elif not call.is_activation:
            flow.take(taken)
        if call.gives_activation:
            flow.settle(call.name, result)
        else:
            flow.set(result, "" if of is Kind.NONLINEAR else call.name)  # which is listed by itself
        calls.append(replace(call, value=flow.of(call.output) if isinstance(call.output, Tensor) else None))

    def watch(place: str, layer: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            note(place, layer, inputs, output, getattr(layer, "weight", None))

        return layer.register_forward_hook(hook)

    def handle(place: str, kind: Kind, function: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        result = function(*args, **given)
        weight = args[1] if len(args) > 1 else given.get("weight")
        note(place, kind, (*args, *given.values()), result, weight)
        return result

    functions = FunctionCalls(GIVING, handle, flow.call)
    hooks = [watch(place, layer) for place, layer in net.named_modules() if isinstance(layer, (*GIVING, *CORE, *NORMS))]
    closed = closed_modules(net).values()  # listed by themselves
    hooks += [module.register_forward_hook(lambda _, inputs, output: flow.set(output)) for module in closed]
    hooks += functions.attach(net)
    flow.set(examples)
    try:
        with functions:
            output = net(examples)
    finally:
        for hook in hooks:
            hook.remove()
    flow.take(output, "output of the net")
    return _Pass(calls, flow), output
