"""The catalog of models: names, parameters and layer shapes. Data only, no torch; qsweep.models.build builds them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from qsweep.models.conv_block import AUTOQKERAS, OWN_PARAMETERS, autoqkeras, conv_block
from qsweep.models.shapes import Chain, LayerShape, Shape, TooSmallError, UnfitError
from qsweep.parameter import Parameter

LARGEST = 1 << 40
"""More pixels than any image has per side."""


@dataclass(frozen=True)
class Architecture:
    """A model by name.

    Attributes:
        layers: (shape of an example, classes, the model's parameters) → its layers in order, from which
            qsweep.models.build builds the net. Raises TooSmallError or UnfitError if there is no such net.
        stacks: whether all its operations have the same bits in a stack as alone on a CPU.
        numerics: version of its arithmetic; raise it on purpose when a change alters results (see qsweep.trial.key).
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    layers: Callable[[Shape, int, dict[str, Any]], list[LayerShape]]
    stacks: bool
    numerics: int = 1

    def least(self, own: dict[str, Any]) -> int:
        """The minimum height and width of an image."""
        sides = range(1, LARGEST)
        return sides[bisect_left(sides, True, key=lambda side: self._takes(side, own))]

    def _takes(self, side: int, own: dict[str, Any]) -> bool:
        try:
            self.layers((1, side, side), 2, own)
        except TooSmallError:
            return False
        except UnfitError:  # whatever the size
            pass
        return True


def _mlp(shape: Shape, classes: int, own: Mapping[str, Any]) -> list[LayerShape]:
    chain = Chain(shape)
    chain.flatten()
    _add_linear(chain, [*own["hidden"], classes], own["dropout"])
    if (output := own.get("output", "linear")) != "linear":
        chain.relu(f"relu{len(own['hidden']) + 1}", is_gated=output == "relu")
    return chain.layers


def _add_linear(chain: Chain, widths: list[int], rate: float = 0.0, first: int = 1) -> None:
    """Linear layers, all except the last with dropout and ReLU, numbered from `first`."""
    for number, outputs in enumerate(widths, start=1):
        chain.linear(f"linear{number}", outputs)
        if number < len(widths):
            dropout, relu = (f"{kind}{first - 1 + number}" for kind in ("dropout", "relu"))
            chain.dropout(dropout, rate, is_applied=False)
            chain.relu(relu, dropout=dropout)


LENET_CHANNELS, LENET_HIDDEN, LENET_KERNEL = (20, 50), 500, (5, 5)


def _lenet(shape: Shape, classes: int) -> list[LayerShape]:
    """Two convolutions, each followed by a pool that halves the sides, and two linear layers."""
    chain = Chain(shape)
    for number, outputs in enumerate(LENET_CHANNELS, start=1):
        chain.convolution(f"conv{number}", outputs, LENET_KERNEL)
        chain.relu(f"relu{number}")
        chain.pool(f"pool{number}")
    chain.flatten()
    _add_linear(chain, [LENET_HIDDEN, classes], first=len(LENET_CHANNELS) + 1)
    return chain.layers


CNN3_CHANNELS, CNN3_KERNELS, CNN3_HIDDEN = (16, 16, 32), (5, 3, 3), 300


def _cnn3(shape: Shape, classes: int) -> list[LayerShape]:
    """Three padded convolutions with norms and two pools, and two linear layers without an activation between them."""
    chain = Chain(shape)
    for number, (outputs, kernel) in enumerate(zip(CNN3_CHANNELS, CNN3_KERNELS, strict=True), start=1):
        chain.convolution(f"conv{number}", outputs, (kernel, kernel), same=True)
        chain.norm(f"norm{number}")
        chain.relu(f"relu{number}")
        if number > 1:
            chain.pool(f"pool{number}")
    chain.flatten()
    chain.linear("linear1", CNN3_HIDDEN)
    chain.linear("linear2", classes)
    return chain.layers


HIDDEN = Parameter(
    "hidden",
    Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(max_length=32)],
    "a list of layer widths, such as [512, 512]; [] for an output layer alone",
    default=[512, 512],
)
DROPOUT = Parameter(
    "dropout",
    Annotated[float, Field(ge=0, lt=1)],
    "a number from 0 up to, not including, 1 (the fraction of activations set to 0)",
    default=0.0,
)

AUTOQKERAS_DROPOUT = replace(DROPOUT, default=0.2)

OUTPUT = Parameter(
    "output",
    Literal["linear", "relu", "relu_ungated"],
    "linear, relu or relu_ungated (a ReLU after the last layer; ungated passes all errors)",
    default="linear",
    as_before="linear",
)
"""The layer after the last linear layer."""

ARCHITECTURES = {
    a.name: a
    for a in (
        Architecture(
            "mlp",
            "linear layers with ReLU, each followed by dropout, and a linear output layer",
            (HIDDEN, DROPOUT, OUTPUT),
            _mlp,
            stacks=True,
        ),
        Architecture(
            "softmax",
            "one linear layer: multinomial logistic regression",
            (),
            lambda shape, classes, _: _mlp(shape, classes, {"hidden": [], "dropout": 0.0}),
            stacks=True,
        ),
        Architecture(
            "lenet",
            "two 5×5 convolutions of 20 and 50 channels with ReLU and 2×2 max-pools, a linear layer of 500 with ReLU,"
            " and an output layer",
            (),
            lambda shape, classes, _: _lenet(shape, classes),
            stacks=False,
        ),
        Architecture(
            "cnn3",
            "5×5, 3×3 and 3×3 convolutions of 16, 16 and 32 channels with BatchNorm and ReLU, 2×2 max-pools after the"
            " last two, a linear layer of 300 without ReLU, and an output layer",
            (),
            lambda shape, classes, _: _cnn3(shape, classes),
            stacks=False,
        ),
        Architecture(
            "conv_block",
            "blocks of convolutions with BatchNorm and ReLU, each with half the sides of the one before, and a linear"
            " output",
            (*OWN_PARAMETERS, DROPOUT),
            conv_block,
            stacks=False,
        ),
        *(
            Architecture(
                f"autoqkeras_{data}",
                f"conv_block with the parameters that AutoQKeras's notebook has for {data}",
                (AUTOQKERAS_DROPOUT,),
                partial(autoqkeras, data),
                stacks=False,
            )
            for data in AUTOQKERAS
        ),
    )
}


def architecture_of(model: Mapping[str, Any]) -> Architecture | None:
    """The architecture of a trial's `model` settings; None for an open model, which is a user's own or a library's."""
    return None if "source" in model else ARCHITECTURES.get(model["name"])


SOURCE = re.compile(r"([^:]+\.py):([A-Za-z_]\w*)")
"""A user's model: a Python file, and its function that builds the net."""
LIBRARY = re.compile(r"torchvision:([a-z]\w*)")
"""A classifier of torchvision.models; the installed version defines which exist."""
OPEN_MODELS = ("torchvision:NAME", "FILE.py:FUNCTION")


def is_open(model: str) -> bool:
    """Whether a model's parameters and layers are defined outside of qsweep: by a user or a library."""
    return SOURCE.fullmatch(model) is not None or LIBRARY.fullmatch(model) is not None
