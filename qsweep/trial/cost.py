"""The cost of a trial, from its settings alone: training work and memory. No torch."""

from __future__ import annotations

from qsweep.models.shapes import ConvolutionShape, LayerShape, ReLUShape
from qsweep.trial.roles import FLOWS
from qsweep.trial.settings import Settings

EVALUATION_BATCH = 1000
"""Examples per batch in evaluation. Fixed, in file order: batching changes the 7th digit of a mean loss."""

BYTES = 4
TENSORS_PER_WEIGHT = 3
"""Weights, gradients, and the largest additional state of any optimizer in the catalog."""
TENSORS_PER_ACTIVATION = 5
"""Per activation in training: before and after the ReLU, after dropout, and two gradients in the backward pass."""

ASSUMED_MEMORY = 256 * 1024 * 1024
"""Bytes assumed for a trial of an open model."""


def layers(settings: Settings) -> list[LayerShape] | None:
    """The layers of a trial's net; None for an open model, which would have to be run."""
    known, data = settings.architecture, settings.data_set
    if known is None:
        return None
    return known.layers(data.shape, data.classes, {k: v for k, v in settings.model.items() if k != "name"})


def count_of(role: str, settings: Settings) -> int | None:
    """How many values of a role a trial's net stores; None for an open model, and for activations and errors."""
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
    """Whether a net of the catalog ends in a convolution, whose output no role rounds."""
    shapes = [layer for layer in layers(settings) or () if layer.activations or isinstance(layer, ReLUShape)]
    return bool(shapes) and isinstance(shapes[-1], ConvolutionShape)


def work(settings: Settings) -> float:
    """Multiply-adds of training, roughly; for an open model, examples seen."""
    shapes = layers(settings)
    products = sum(layer.products for layer in shapes) if shapes else 1
    examples = settings.iterations or settings.data_set.train * settings.epochs
    return float(3 * products * examples)


def memory(settings: Settings) -> int | None:
    """Upper bound of bytes per additional trial of a stack; None for an open model."""
    shapes = layers(settings)
    if not shapes:
        return None
    weights = sum(layer.parameters for layer in shapes) * TENSORS_PER_WEIGHT
    if settings.iterations:
        return 2 * BYTES * weights
    activations = sum(layer.activations for layer in shapes)
    training = min(settings.batch_size, settings.data_set.train) * TENSORS_PER_ACTIVATION
    return int(BYTES * (weights + activations * max(training, 2 * EVALUATION_BATCH)))


def stack_fits(settings: Settings, available: int) -> int:
    """How many trials like this one fit in the available bytes; at least 1."""
    return max(1, available // (memory(settings) or ASSUMED_MEMORY))
