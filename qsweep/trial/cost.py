"""What a trial costs, from its settings alone: the work of training it and the memory that it takes. No torch."""

from __future__ import annotations

from qsweep.models.shapes import ConvolutionShape, LayerShape, ReLUShape
from qsweep.trial.roles import FLOWS
from qsweep.trial.settings import Settings

EVALUATION_BATCH = 1000
"""Examples a batch in evaluation. Fixed, in file order: how a test set is cut shows in the 7th digit of a mean loss."""

BYTES = 4
TENSORS_A_WEIGHT = 3
"""The weights, their gradients, and the largest state that an optimizer in the catalog keeps beside the first."""
TENSORS_AN_ACTIVATION = 5
"""Of each activation in training: before and after the ReLU, after dropout, and two gradients on the way back."""

ASSUMED_MEMORY = 256 * 1024 * 1024
"""Bytes allowed for a trial of an open model."""


def layers(settings: Settings) -> list[LayerShape] | None:
    """The layers of a trial's net; None for an open model: only running it would tell."""
    known, data = settings.architecture, settings.data_set
    if known is None:
        return None
    return known.layers(data.shape, data.classes, {k: v for k, v in settings.model.items() if k != "name"})


def count_of(role: str, settings: Settings) -> int | None:
    """How many values of a role a trial's net keeps; None of an open model, and of what flows through a net."""
    shapes = layers(settings)
    if shapes is None or role in FLOWS:
        return None
    counts = {
        "weight": sum(layer.weights for layer in shapes),
        "bias": sum(layer.biases for layer in shapes),
        "norm": sum(layer.norms for layer in shapes),
    }
    return counts.get(role, sum(counts.values()))


def ends_in_convolution(settings: Settings) -> bool:
    """Whether the output of a net of the catalog is that of a convolution, which no role rounds."""
    shapes = [layer for layer in layers(settings) or () if layer.activations or isinstance(layer, ReLUShape)]
    return bool(shapes) and isinstance(shapes[-1], ConvolutionShape)


def work(settings: Settings) -> float:
    """Multiply-adds of training, roughly; for an open model, examples seen."""
    shapes = layers(settings)
    products = sum(layer.products for layer in shapes) if shapes else 1
    examples = settings.iterations or settings.data_set.train * settings.epochs
    return float(3 * products * examples)


def memory(settings: Settings) -> int | None:
    """Bytes that one more trial of a stack takes at most; None for an open model."""
    shapes = layers(settings)
    if not shapes:
        return None
    weights = sum(layer.parameters for layer in shapes) * TENSORS_A_WEIGHT
    if settings.iterations:
        return 2 * BYTES * weights
    activations = sum(layer.activations for layer in shapes)
    training = min(settings.batch_size, settings.data_set.train) * TENSORS_AN_ACTIVATION
    return int(BYTES * (weights + activations * max(training, 2 * EVALUATION_BATCH)))


def stack_fits(settings: Settings, available: int) -> int:
    """How many trials like this one train in so many bytes; at least 1."""
    return max(1, available // (memory(settings) or ASSUMED_MEMORY))
