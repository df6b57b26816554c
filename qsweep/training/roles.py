"""Roles in a net: the role of each parameter, and the formats of each role at each place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from torch import Tensor, nn

from qsweep.formats.declared import random_bits
from qsweep.kernels.streams import Stream
from qsweep.models.build import CORE, NORMS
from qsweep.rounding import Stack
from qsweep.trial.roles import AT
from qsweep.trial.settings import Quantization, Roles, Settings

PARAMETERS = ("weight", "bias")
"""Names of the parameters that have a role."""


def roles_of(net: nn.Module) -> dict[str, str]:
    """The role of each parameter that has one, by name: weights and biases of linear and convolution layers, norms."""
    return dict(_named_roles(net))


def _named_roles(net: nn.Module) -> Iterator[tuple[str, str]]:
    for place, module in net.named_modules():
        if isinstance(module, CORE + NORMS):
            for name, _ in module.named_parameters(recurse=False):
                if name in PARAMETERS:  # weight_norm and its like have others
                    yield f"{place}.{name}" if place else name, name if isinstance(module, CORE) else "norm"


def parts_of(net: nn.Module) -> dict[str, str]:
    """The part of each parameter that can be compressed, by name: one of qsweep.trial.parameters.COMPRESSIBLE."""
    of_norms = {"weight": "norm_scale", "bias": "norm_shift"}
    found = {name: of_norms.get(name.rpartition(".")[2]) if r == "norm" else r for name, r in roles_of(net).items()}
    return {name: part for name, part in found.items() if part}


def place_of(parameter: str) -> str:
    """The layer that a parameter belongs to."""
    return parameter.rpartition(".")[0]


Layers = Mapping[str, Roles]
"""A trial's exceptions: the formats of roles by place."""


class Quantizers:
    """The formats and the rounding of each role of a stack of trials, at every place."""

    def __init__(
        self, trials: Sequence[Settings], layers: Sequence[Layers], device: str, evaluating: bool = False
    ) -> None:
        """`layers`: each trial's exceptions. `evaluating`: stochastic roles round to nearest."""
        self._trials = trials
        self._layers = layers
        self._device = device
        self._is_evaluating = evaluating
        self._made: dict[tuple[str, str], Stack | None] = {}

    @cached_property
    def evaluating(self) -> Quantizers:
        """The quantizers for evaluation."""
        return Quantizers(self._trials, self._layers, self._device, True)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that are quantized anywhere, in order."""
        return self._trials[0].quantized_roles

    @property
    def kept(self) -> tuple[str, ...]:
        """Those of them whose rounded values are stored."""
        return self._trials[0].kept_roles

    def names(self, role: str, place: str) -> bool:
        """Whether the trials set a role at a place, even to float32."""
        return self._own(0, role, place) is not None

    def of(self, role: str, place: str) -> Stack | None:
        """One format per trial, or None if the role stays in float32."""
        if (role, place) not in self._made:
            self._made[role, place] = self._stack(role, place)
        return self._made[role, place]

    def at(self, role: str, place: str) -> str:
        """Where a role is rounded: at the outputs of layers, or at the operands of products."""
        own = self._own(0, role, place)
        return AT.default if own is None else own.at

    def _stack(self, role: str, place: str) -> Stack | None:
        own = [o for trial in range(len(self._trials)) if (o := self._own(trial, role, place)) is not None]
        if not own or not own[0].rounds:
            return None
        rounding = own[0].rounding
        if self._is_evaluating and random_bits(rounding) != 0:
            rounding = "nearest"
        return Stack([o.format for o in own], rounding, self._device)

    def _own(self, trial: int, role: str, place: str) -> Quantization | None:
        """A trial's setting of a role at a place."""
        return role_at(self._trials[trial], self._layers[trial], role, place)


def role_at(settings: Settings, layers: Layers, role: str, place: str) -> Quantization | None:
    """A trial's setting of a role at a place, if any. `layers`: its exceptions."""
    return layers.get(place, {}).get(role) or settings.quantize.get(role)


def contraction_axis(shape: tuple[int, ...]) -> int:
    """The axis of a weight (outputs, inputs, …) along which its groups run; a bias has only one.

    A convolution also sums over the positions of its kernel, which are in different groups.
    """
    return min(1, len(shape) - 1)


class Noise:
    """The random bits of one step: drawn for stochastic rounding only, once for all trials of a stack."""

    def __init__(self, stream: Stream, step: int, device: str) -> None:
        self._stream = stream
        self._step = step
        self._device = device
        self._drawn: dict[tuple[str, str], Tensor] = {}

    def of(self, stack: Stack, role: str, place: str, shape: tuple[int, ...]) -> Tensor | None:
        """Noise for values of a shape: (*shape), or (draws, *shape) for several draws per value; None if not drawn."""
        if not stack.draws:
            return None
        if (role, place) not in self._drawn:
            dims = shape if stack.draws == 1 else (stack.draws, *shape)
            self._drawn[role, place] = self._stream.uniform(dims, f"rounding {role}", place, self._step).to(
                self._device
            )
        return self._drawn[role, place]
