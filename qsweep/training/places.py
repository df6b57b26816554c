"""Places: where in a net activations and errors are rounded, found by running it once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qsweep.errors import UserError, unknown
from qsweep.layers import MaskedReLU, ReLU, UngatedReLU
from qsweep.models import CORE, NORMS
from qsweep.training.roles import Layers, place_of, roles_of
from qsweep.vocabulary import AT, AT_ROLES, FLOAT32, FLOAT32_ENDS, FLOWS, LAYERS, ROLES, STORED

ACTIVATIONS = (
    *(
        MaskedReLU,
        ReLU,
        UngatedReLU,
        nn.ReLU,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.PReLU,
        nn.ELU,
        nn.SELU,
        nn.CELU,
        nn.GELU,
        nn.SiLU,
        nn.Mish,
    ),
    *(nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus),
)
POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
GIVING = (*ACTIVATIONS, *POOLS, nn.Linear)
"""Layers whose outputs are activations."""


@dataclass(frozen=True)
class Places:
    """The places of a net, in the order in which it calls them.

    Attributes:
        outputs: calls of activation functions, pools and dense layers (`relu1`; a layer's second call is `relu1#2`).
            A dense layer whose output goes straight into an activation function is none: that one's output is.
        products: dense and convolution layers.
        parameters: the role of each parameter that has one.
        names: all places, layers with parameters and calls with outputs.
    """

    outputs: tuple[str, ...]
    products: tuple[str, ...]
    parameters: Mapping[str, str]
    names: tuple[str, ...]

    def layers(self, settings: Mapping[str, Any]) -> Layers:
        """A trial's exceptions, each by the names of places and roles.

        Raises:
            UserError: one that matches nothing in this net.
        """
        given = settings.get(LAYERS, {})
        if given == FLOAT32_ENDS:
            given = dict.fromkeys((self.products[0], self.products[-1]), FLOAT32)
        return {place: self._layer(place, own) for place, own in given.items()}

    def _layer(self, place: str, own: Any) -> Mapping[str, Mapping[str, Any]]:
        if place not in self.names:
            raise UserError(f"layers: {unknown('place', place, self.names)}")
        if own == FLOAT32:
            return {role: {"format": FLOAT32} for role in ROLES}
        there = self._roles_at(place)
        for role, settings in own.items():
            at = f"{role} at {settings[AT.name]}" if settings.get(AT.name, AT.default) != AT.default else role
            if at not in there:
                raise UserError(f"layers.{place}: it has no {at} (it has: {', '.join(there)})")
        roles: Mapping[str, Mapping[str, Any]] = own
        return roles

    def _roles_at(self, place: str) -> tuple[str, ...]:
        """What can be rounded at a place, in the order of the roles."""
        stored = {role for name, role in self.parameters.items() if place_of(name) == place}
        moved = {role for role in ROLES if role not in (*STORED, *FLOWS)} if stored else set()
        flows = {*FLOWS} if place in self.outputs else set()
        operands = [f"{role} at operands" for role in AT_ROLES] if place in self.products else []
        return (*(role for role in ROLES if role in stored | moved | flows), *operands)


def call_name(place: str, number: int) -> str:
    """A call of a layer, counted from 1."""
    return place if number == 1 else f"{place}#{number}"


def places_of(net: nn.Module, shape: tuple[int, ...]) -> Places:
    """The places of a net, found by one pass of two blank examples through it, in evaluation mode."""
    calls: list[tuple[str, nn.Module, Any, Any]] = []
    was_training = net.training
    with _watched(net, lambda *call: calls.append(call)), torch.no_grad():
        net.eval()(torch.zeros(2, *shape, device=next(net.parameters()).device))
    net.train(was_training)
    activated = {id(given) for _, layer, given, _ in calls if isinstance(layer, ACTIVATIONS)}
    outputs = [
        name
        for name, layer, _, given in calls
        if isinstance(layer, GIVING) and not (isinstance(layer, nn.Linear) and id(given) in activated)
    ]
    products = dict.fromkeys(name.partition("#")[0] for name, layer, _, _ in calls if isinstance(layer, CORE))
    parameters = roles_of(net)
    there = {*map(place_of, parameters), *outputs}
    return Places(tuple(outputs), tuple(products), parameters, tuple(name for name, *_ in calls if name in there))


@contextmanager
def _watched(net: nn.Module, note: Callable[[str, nn.Module, Any, Any], None]) -> Iterator[None]:
    """Note each call of a layer: its name, the layer, the first input and the output (kept: ids stay theirs)."""
    counts: Counter[str] = Counter()

    def watch(place: str, layer: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            counts[place] += 1
            note(call_name(place, counts[place]), layer, inputs[0] if inputs else None, output)

        return layer.register_forward_hook(hook)

    hooks = [watch(place, layer) for place, layer in net.named_modules() if isinstance(layer, (*GIVING, *CORE, *NORMS))]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
