"""What is told of compressed models, against counts made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from qsweep.formats import parse
from qsweep.formats.packing import Groups, from_file, to_file
from qsweep.training.sizes import kept_sizes, sizes, sqnr

UNIFORM = parse("uniform2")


def told(is_compression: bool = True) -> dict[str, Any]:
    before = {"a.weight": torch.tensor([[0.0, 0.9, 2.2], [3.0, 1.1, 3.0]]), "b.bias": torch.ones(5)}
    after = {"a.weight": torch.tensor([[0.0, 1.0, 2.0], [3.0, 1.0, 3.0]]), "b.bias": torch.ones(5)}
    buffers = {"n.running_mean": torch.zeros(7)}
    return sizes(before | buffers, after | buffers, {"a.weight": ("weight", UNIFORM)}, before, is_compression)


def test_sizes_are_of_all_parameters_and_of_the_exported_file() -> None:
    found = told()
    tensors = {"a.weight": np.array([[0, 1, 2], [3, 1, 3]], np.float32), "b.bias": np.ones(5, np.float32)}
    content = to_file({**tensors, "n.running_mean": np.zeros(7, np.float32)}, {"a.weight": Groups()})
    assert found["compressed_bytes"] == len(content)
    assert found["model_bits"] == 6 * 2 + 2 * 32 + 5 * 32
    assert from_file(content)["a.weight"].tolist() == tensors["a.weight"].tolist()


def test_a_row_says_what_became_of_a_tensor() -> None:
    (row,) = told()["tensors"]
    entropy = 6 * -sum(p * math.log2(p) for p in (1 / 6, 2 / 6, 1 / 6, 2 / 6))
    assert row == {
        "tensor": "a.weight",
        "part": "weight",
        "format": "uniform",
        "shape": [2, 3],
        "values": 6,
        "distinct_before": 5,
        "distinct": 4,
        "bits_a_value": 2,
        "bits": 6 * 2 + 2 * 32,
        "entropy_bits": math.ceil(entropy + 2 * 32),
        "sqnr": row["sqnr"],
    }
    signal, noise = 0.9**2 + 2.2**2 + 3**2 + 1.1**2 + 3**2, 0.1**2 + 0.2**2 + 0.1**2
    assert row["sqnr"] == pytest.approx(10 * math.log10(signal / noise), rel=1e-5)


@pytest.mark.parametrize(
    ("stored", "bits"),
    [
        ({}, None),
        ({"a.weight": "fixed8f6"}, 6 * 8 + 5 * 32),
        ({"a.weight": "block4 per=2", "a.bias": "binary"}, 6 * 4 + 4 * 8 + 5 + 32),
        ({"a.bias": "uniform4 per=channel"}, 6 * 32 + 5 * 32),
        ({"a.weight": "fixed8f6", "a.bias": "quantized_bits(4,0,1)"}, None),
        ({"a.weight": "fraction8"}, None),
    ],
)
def test_bits_of_a_model_follow_from_formats_and_shapes(stored: dict[str, str], bits: int | None) -> None:
    shapes = {"a.weight": (2, 3), "a.bias": (5,)}
    found = kept_sizes({name: parse(text) for name, text in stored.items()}, shapes)
    assert found.get("model_bits") == bits
    assert {name: parse(text) for name, text in found.get("stored", {}).items()} == {
        name: parse(text) for name, text in stored.items()
    }


def test_training_makes_no_quantization_noise() -> None:
    assert told(is_compression=False)["tensors"][0]["sqnr"] is None


@pytest.mark.parametrize(
    ("signal", "found"), [([1.0, 2.0], [1.0, 2.0]), ([0.0, 0.0], [1.0, 0.0]), ([1.0, 2.0], [1.0, math.inf])]
)
def test_sqnr_without_noise_or_signal_is_none(signal: list[float], found: list[float]) -> None:
    assert sqnr(np.array(signal), np.array(found)) is None
