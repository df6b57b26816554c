"""A trial's net as the energy model takes it: its layers, with the words of what the trial rounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

from qsweep.errors import UserError
from qsweep.formats.names import name_of
from qsweep.formats.words import Word, fixed, floating
from qsweep.models.shapes import (
    POOLED,
    ConvolutionShape,
    DropoutShape,
    FlattenShape,
    LayerShape,
    LinearShape,
    NormShape,
    PoolShape,
    ReLUShape,
    Shape,
)
from qsweep.trial.energy.model import Layer
from qsweep.trial.roles import OPERANDS
from qsweep.trial.settings import Quantization, Settings

FLOAT32 = floating(32)
PIXEL = fixed(0, 255)
COMPARISONS = POOLED**2 - 1
"""Of one window of a max-pool."""
COMPRESSED = {"weight": "weight", "bias": "bias", "norm": "norm_scale"}
"""The part of a compression that holds the parameters of a role."""


def layers_of(trial: Settings) -> tuple[Layer, ...]:
    """The layers that cost energy, in their order. What a trial does not round is a float32.

    Raises:
        UserError: an open model, whose layers are not known without running it; or a format whose width depends on the
            values.
    """
    if trial.architecture is None:
        raise UserError(f"{trial.model['name']}: its energy is not known: only that of models in qsweep's catalog is")
    own = {name: value for name, value in trial.model.items() if name != "name"}
    shapes = trial.architecture.layers(trial.data_set.shape, trial.data_set.classes, own)
    return tuple(_Net(trial, shapes).layers())


def source_of(trial: Settings) -> Word:
    """The word of the net's inputs: a pixel's byte, unless the trial rounds what enters its products."""
    own = trial.quantize.get("activation")
    return PIXEL if own is None or own.at != OPERANDS or not own.rounds else _word(own)


def with_words(layers: Sequence[Layer], word: Word) -> tuple[Layer, ...]:
    """The same net with one word for all parameters and activations: a reference."""
    return tuple(
        replace(
            layer,
            weight=word if layer.weight else None,
            bias=word if layer.bias else None,
            rounded=word if layer.kind == "activation" else None,
        )
        for layer in layers
    )


class _Net:
    """A net whose shapes are gone through in order.

    Attributes:
        shape: of one example behind the last layer.
        ends: the first and the last layer with products.
    """

    def __init__(self, trial: Settings, shapes: list[LayerShape]) -> None:
        self.trial = trial
        self.shapes = shapes
        self.shape: Shape = trial.data_set.shape
        products = [shape.place for shape in shapes if isinstance(shape, LinearShape | ConvolutionShape)]
        self.ends = (products[0], products[-1])

    def layers(self) -> Iterator[Layer]:
        for index, shape in enumerate(self.shapes):
            inputs = prod(self.shape)
            if isinstance(shape, LinearShape):
                self.shape = (shape.outputs,)
                yield self._products(shape, inputs, shape.inputs, self._is_rounded_later(index))
            elif isinstance(shape, ConvolutionShape):
                self.shape = (shape.outputs, shape.height, shape.width)
                terms = shape.inputs // shape.groups * prod(shape.kernel)
                yield self._products(shape, inputs, terms, is_rounded_later=True)
            elif isinstance(shape, NormShape):
                word = self._at(shape.place, "norm")
                yield Layer(shape.place, "norm", inputs, inputs, shape.norms, weight=word)
            elif isinstance(shape, ReLUShape):
                yield Layer(shape.place, "activation", inputs, inputs, rounded=self._at(shape.place, "activation"))
            elif isinstance(shape, PoolShape):
                channels, height, width = self.shape
                self.shape = (channels, height // POOLED, width // POOLED)
                outputs = prod(self.shape)
                yield Layer(shape.place, "pool", inputs, outputs, operations=COMPARISONS * outputs)

    def _products(
        self, shape: LinearShape | ConvolutionShape, inputs: int, terms: int, is_rounded_later: bool
    ) -> Layer:
        outputs = prod(self.shape)
        return Layer(
            shape.place,
            "products",
            inputs,
            outputs,
            weights=shape.weights,
            biases=shape.biases,
            operations=outputs * terms,
            terms=terms,
            weight=self._at(shape.place, "weight"),
            bias=self._at(shape.place, "bias") if shape.biases else None,
            rounded=None if is_rounded_later or self._rounds_operands else self._at(shape.place, "activation"),
        )

    @property
    def _rounds_operands(self) -> bool:
        """Whether activations are rounded where they enter a product, so that the net's own outputs are not."""
        own = self.trial.quantize.get("activation")
        return own is not None and own.at == OPERANDS

    def _is_rounded_later(self, index: int) -> bool:
        """Whether the output of a linear layer goes straight into an activation, which is then rounded instead."""
        following = [s for s in self.shapes[index + 1 :] if not isinstance(s, DropoutShape | FlattenShape)]
        return bool(following) and isinstance(following[0], ReLUShape)

    def _at(self, place: str, role: str) -> Word:
        """The word of a role's values at a place."""
        if place in self.ends and self.trial.has_float32_ends:
            return FLOAT32
        exceptions = self.trial.layers.get(place, {})
        if exceptions is None:
            return FLOAT32
        compressed = self.trial.compressed.get(COMPRESSED.get(role, ""))
        own = compressed or exceptions.get(role) or self.trial.quantize.get(role)
        return _word(own) if own is not None and own.rounds else FLOAT32


def _word(own: Quantization) -> Word:
    word = own.format.word
    if word is None:
        raise UserError(f"{name_of(own.format)}: its elements have no fixed width, so their energy is not known")
    return word
