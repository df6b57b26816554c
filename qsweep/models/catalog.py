"""The catalog of models: names, parameters and layer shapes. Data only, no torch; qsweep.models.build builds them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Annotated, Any, Literal

from pydantic import Field

from qsweep.parameter import Parameter


@dataclass(frozen=True)
class LinearShape:
    """One dense layer: its place in the net, its weight's shape (outputs, inputs), and whether a ReLU follows it.

    None follows the last layer of a net.
    """

    place: str
    inputs: int
    outputs: int
    has_relu: bool = True

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.outputs * (self.inputs + 1)

    @property
    def products(self) -> int:
        """Multiply-adds an example, biases included."""
        return self.parameters

    @property
    def activations(self) -> int:
        """Numbers that it gives for an example."""
        return self.outputs


@dataclass(frozen=True)
class ConvolutionShape:
    """One convolution with square kernels: its place, channels, kernel side, output's sides, and zeros on each side.

    A BatchNorm follows it or not, then a ReLU, then a pool that halves the sides or not.
    """

    place: str
    inputs: int
    outputs: int
    kernel: int
    height: int
    width: int
    padding: int = 0
    has_norm: bool = False
    has_pool: bool = True

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.outputs * (self.inputs * self.kernel**2 + 1)

    @property
    def products(self) -> int:
        """Multiply-adds an example, biases included."""
        return self.parameters * self.height * self.width

    @property
    def activations(self) -> int:
        """Numbers that it gives for an example."""
        return self.outputs * self.height * self.width


LayerShape = LinearShape | ConvolutionShape
Shape = tuple[int, ...]
"""Of one example: channels, height, width."""


@dataclass(frozen=True)
class Architecture:
    """A model by name.

    Attributes:
        layers: (shape of an example, classes, the model's parameters) → its layers in order: convolutions, then linear
            layers. qsweep.models.build makes the net of them.
        stacks: whether all its operations give the same bits in a stack as alone on a CPU.
        least: the least height and width of an image.
        numerics: version of its arithmetic; raise it on purpose when a change alters results (see qsweep.trial.key).
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    layers: Callable[[Shape, int, dict[str, Any]], list[LayerShape]]
    stacks: bool
    least: int = 1
    numerics: int = 1


def _chain(widths: list[int]) -> list[LayerShape]:
    return [LinearShape(f"linear{i}", a, b) for i, (a, b) in enumerate(pairwise(widths), start=1)]


LENET_CHANNELS, LENET_HIDDEN, LENET_KERNEL = (20, 50), 500, 5


def _lenet(shape: Shape, classes: int) -> list[LayerShape]:
    """Two convolutions, each followed by a pool that halves the sides, and two dense layers."""
    inputs, height, width = shape
    layers: list[LayerShape] = []
    for number, outputs in enumerate(LENET_CHANNELS, start=1):
        height, width = height - LENET_KERNEL + 1, width - LENET_KERNEL + 1
        layers.append(ConvolutionShape(f"conv{number}", inputs, outputs, LENET_KERNEL, height, width))
        inputs, height, width = outputs, height // 2, width // 2
    return [*layers, *_chain([inputs * height * width, LENET_HIDDEN, classes])]


CNN3_CHANNELS, CNN3_KERNELS, CNN3_HIDDEN = (16, 16, 32), (5, 3, 3), 300


def _cnn3(shape: Shape, classes: int) -> list[LayerShape]:
    """Three convolutions that keep the sides, with norms and two pools, and two dense layers with nothing between."""
    inputs, height, width = shape
    layers: list[LayerShape] = []
    for number, (outputs, kernel) in enumerate(zip(CNN3_CHANNELS, CNN3_KERNELS, strict=True), start=1):
        place, padding, has_pool = f"conv{number}", kernel // 2, number > 1
        layers.append(ConvolutionShape(place, inputs, outputs, kernel, height, width, padding, True, has_pool))
        inputs = outputs
        height, width = (height // 2, width // 2) if has_pool else (height, width)
    features = inputs * height * width
    dense = (
        LinearShape("linear1", features, CNN3_HIDDEN, has_relu=False),
        LinearShape("linear2", CNN3_HIDDEN, classes),
    )
    return [*layers, *dense]


HIDDEN = Parameter(
    "hidden",
    Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(max_length=32)],
    "a list of layer widths, such as [512, 512]; [] for an output layer alone",
    default=[512, 512],
)
DROPOUT = Parameter(
    "dropout",
    Annotated[float, Field(ge=0, lt=1)],
    "a number from 0 up to, not including, 1 (the share of activations set to 0)",
    default=0.0,
)

OUTPUT = Parameter(
    "output",
    Literal["linear", "relu", "relu_ungated"],
    "linear, relu or relu_ungated (a ReLU behind the last layer; ungated lets all errors through it)",
    default="linear",
    as_before="linear",
)
"""What follows the last layer."""

ARCHITECTURES = {
    a.name: a
    for a in (
        Architecture(
            "mlp",
            "dense layers with ReLU, each followed by dropout, and a dense output",
            (HIDDEN, DROPOUT, OUTPUT),
            lambda shape, classes, p: _chain([prod(shape), *p["hidden"], classes]),
            stacks=True,
        ),
        Architecture(
            "softmax",
            "one dense layer: multinomial logistic regression",
            (),
            lambda shape, classes, p: _chain([prod(shape), classes]),
            stacks=True,
        ),
        Architecture(
            "lenet",
            "two 5×5 convolutions of 20 and 50 channels with ReLU and 2×2 max-pools, and dense layers of 500 and a"
            " class each",
            (),
            lambda shape, classes, p: _lenet(shape, classes),
            stacks=False,
            least=16,
        ),
        Architecture(
            "cnn3",
            "5×5, 3×3 and 3×3 convolutions of 16, 16 and 32 channels with BatchNorm and ReLU, 2×2 max-pools after the"
            " last two, and dense layers of 300 and a class each without a ReLU between",
            (),
            lambda shape, classes, p: _cnn3(shape, classes),
            stacks=False,
            least=4,
        ),
    )
}


def architecture_of(model: Mapping[str, Any]) -> Architecture | None:
    """The architecture that a trial's `model` settings name; None of an open one, a user's own or a library's."""
    return None if "source" in model else ARCHITECTURES.get(model["name"])


SOURCE = re.compile(r"([^:]+\.py):([A-Za-z_]\w*)")
"""A user's model: a Python file, and the function in it that builds the net."""
LIBRARY = re.compile(r"torchvision:([a-z]\w*)")
"""A classifier of torchvision.models; which there are, only the installed version knows."""
OPEN_MODELS = ("torchvision:NAME", "FILE.py:FUNCTION")


def is_open(model: str) -> bool:
    """Whether a model's parameters and layers are its function's own affair: a user's, or a library's."""
    return SOURCE.fullmatch(model) is not None or LIBRARY.fullmatch(model) is not None
