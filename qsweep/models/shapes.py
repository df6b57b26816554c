"""The layers of the catalog's nets, described by shapes only, and the chain that combines them. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

Shape = tuple[int, ...]
"""The shape of one example: channels, height, width; or features."""
Sides = tuple[int, int, int, int]
"""Zeros to the left and right of an image, above and below it, in the order of `torch.nn.functional.pad`."""


class TooSmallError(ValueError):
    """An image is too small for a layer."""


class UnfitError(ValueError):
    """Parameters of a model do not fit together or do not fit the images; `parameter` is the wrong one."""

    def __init__(self, parameter: str, message: str) -> None:
        self.parameter = parameter
        super().__init__(message)


@dataclass(frozen=True)
class LayerShape:
    """One layer: its place in the net. Each kind overrides the counts that are not 0."""

    place: str

    @property
    def weights(self) -> int:
        """Weights of a linear layer or a convolution."""
        return 0

    @property
    def biases(self) -> int:
        """Biases of a linear layer or a convolution."""
        return 0

    @property
    def norms(self) -> int:
        """Scales and shifts of a norm."""
        return 0

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return self.weights + self.biases + self.norms

    @property
    def products(self) -> int:
        """Multiply-adds per example, biases included."""
        return 0

    @property
    def activations(self) -> int:
        """Outputs per example of a linear layer or a convolution."""
        return 0


@dataclass(frozen=True)
class LinearShape(LayerShape):
    """A linear layer."""

    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        return self.outputs * self.inputs

    @property
    def biases(self) -> int:
        return self.outputs

    @property
    def products(self) -> int:
        return self.parameters

    @property
    def activations(self) -> int:
        return self.outputs


@dataclass(frozen=True)
class ConvolutionShape(LayerShape):
    """A convolution.

    Attributes:
        inputs, outputs: channels.
        kernel: height and width.
        height, width: of its output.
        stride: in both directions.
        sides: zeros around its input.
        groups: number of channel groups that are convolved separately; one per channel for a depthwise convolution.
    """

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    height: int
    width: int
    stride: int = 1
    sides: Sides = (0, 0, 0, 0)
    groups: int = 1
    has_bias: bool = True

    @property
    def weights(self) -> int:
        return self.outputs * (self.inputs // self.groups) * prod(self.kernel)

    @property
    def biases(self) -> int:
        return self.outputs if self.has_bias else 0

    @property
    def products(self) -> int:
        return self.parameters * self.height * self.width

    @property
    def activations(self) -> int:
        return self.outputs * self.height * self.width


@dataclass(frozen=True)
class NormShape(LayerShape):
    """A BatchNorm. `momentum` is the weight of the newest batch in the running statistics."""

    channels: int
    eps: float = 1e-5
    momentum: float = 0.1

    @property
    def norms(self) -> int:
        return 2 * self.channels


@dataclass(frozen=True)
class ReLUShape(LayerShape):
    """A ReLU.

    Attributes:
        is_gated: whether it stops errors where its input is not positive.
        dropout: the place of a dropout whose mask this ReLU applies; "" for none.
    """

    is_gated: bool = True
    dropout: str = ""


@dataclass(frozen=True)
class DropoutShape(LayerShape):
    """Dropout.

    Attributes:
        shape: of the mask for one example.
        is_applied: whether this layer applies the mask, not a later ReLU.
    """

    rate: float
    shape: Shape
    is_applied: bool = True


@dataclass(frozen=True)
class PoolShape(LayerShape):
    """A 2×2 max-pool that halves the sides of the image, rounded down."""


@dataclass(frozen=True)
class FlattenShape(LayerShape):
    """Flattens images to features."""


class Chain:
    """Layers, each added after the last one.

    Attributes:
        shape: of one example after the last layer.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.layers: list[LayerShape] = []

    def convolution(
        self,
        place: str,
        outputs: int,
        kernel: tuple[int, int],
        stride: int = 1,
        *,
        same: bool = False,
        groups: int = 1,
        has_bias: bool = True,
    ) -> None:
        """Add a convolution; `same` pads the image so that only the stride reduces its size.

        Raises:
            TooSmallError: the kernel is larger than the image.
        """
        inputs, *image = self.shape
        (top, bottom), (left, right) = (
            same_padding(side, length, stride) if same else (0, 0) for side, length in zip(image, kernel, strict=True)
        )
        padded = image[0] + top + bottom, image[1] + left + right
        height, width = ((side - length) // stride + 1 for side, length in zip(padded, kernel, strict=True))
        if min(height, width) < 1:
            raise TooSmallError(place)
        sides = left, right, top, bottom
        self.layers.append(
            ConvolutionShape(place, inputs, outputs, kernel, height, width, stride, sides, groups, has_bias)
        )
        self.shape = outputs, height, width

    def norm(self, place: str, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.layers.append(NormShape(place, self.shape[0], eps, momentum))

    def relu(self, place: str, is_gated: bool = True, dropout: str = "") -> None:
        self.layers.append(ReLUShape(place, is_gated, dropout))

    def dropout(self, place: str, rate: float, is_applied: bool = True) -> None:
        self.layers.append(DropoutShape(place, rate, self.shape, is_applied))

    def pool(self, place: str) -> None:
        """Raises:
        TooSmallError: the image has a single row or column.
        """
        channels, height, width = self.shape
        if min(height, width) < POOLED:
            raise TooSmallError(place)
        self.layers.append(PoolShape(place))
        self.shape = channels, height // POOLED, width // POOLED

    def flatten(self, place: str = "flatten") -> None:
        self.layers.append(FlattenShape(place))
        self.shape = (prod(self.shape),)

    def linear(self, place: str, outputs: int) -> None:
        self.layers.append(LinearShape(place, self.shape[0], outputs))
        self.shape = (outputs,)


POOLED = 2
"""The sides of a pool's window."""


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after a side, as in TensorFlow's `padding="same"`: an odd one comes after."""
    total = max((ceil(side / stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2
