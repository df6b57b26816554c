"""The catalog of models."""

from __future__ import annotations

import pytest

from qsweep.models.catalog import ARCHITECTURES, DROPOUT, HIDDEN
from qsweep.models.shapes import LayerShape, LinearShape, Shape
from qsweep.parameter import REQUIRED, BadValueError


def cores(model: str, shape: Shape, **own: object) -> list[LayerShape]:
    """Linear layers and convolutions of a model for 10 classes."""
    return [layer for layer in ARCHITECTURES[model].layers(shape, 10, own) if layer.weights]


def test_mlp_layers_form_a_chain_from_features_to_classes() -> None:
    assert cores("mlp", (1, 28, 28), hidden=[512, 64], dropout=0.0) == [
        LinearShape("linear1", 784, 512),
        LinearShape("linear2", 512, 64),
        LinearShape("linear3", 64, 10),
    ]


def test_softmax_is_one_layer() -> None:
    assert cores("softmax", (1, 8, 8)) == [LinearShape("linear1", 64, 10)]


def test_lenet_has_the_number_of_parameters_in_its_document() -> None:
    layers = cores("lenet", (1, 28, 28))
    assert [layer.place for layer in layers] == ["conv1", "conv2", "linear1", "linear2"]
    assert sum(layer.parameters for layer in layers) == 431_080
    assert [layer.activations for layer in layers] == [20 * 24 * 24, 50 * 8 * 8, 500, 10]
    assert layers[1].products == 50 * (20 * 25 + 1) * 64


def test_cnn3_has_the_number_of_parameters_in_its_document() -> None:
    layers = cores("cnn3", (1, 28, 28))
    assert [layer.parameters for layer in layers] == [416, 2320, 4640, 470_700, 3010]
    assert sum(layer.parameters for layer in ARCHITECTURES["cnn3"].layers((1, 28, 28), 10, {})) == 481_214
    assert [layer.activations for layer in layers] == [16 * 28 * 28, 16 * 28 * 28, 32 * 14 * 14, 300, 10]


def test_layer_counts_weights_and_biases() -> None:
    assert LinearShape("linear1", 784, 10).parameters == 7850


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_architecture_needs_no_parameters(architecture: object) -> None:
    parameters = architecture.parameters  # type: ignore[attr-defined]
    assert all(p.default is not REQUIRED and p.check(p.default) == p.default for p in parameters)


@pytest.mark.parametrize("hidden", [[0], [8.5], 8, "8", [[8]], [65537], [1] * 33])
def test_hidden_accepts_only_widths(hidden: object) -> None:
    with pytest.raises(BadValueError, match="a list of layer widths"):
        HIDDEN.check(hidden)


@pytest.mark.parametrize("rate", [1, -0.1, "0.5", True])
def test_dropout_accepts_fractions_below_one(rate: object) -> None:
    with pytest.raises(BadValueError, match="a number from 0 up to, not including, 1"):
        DROPOUT.check(rate)
