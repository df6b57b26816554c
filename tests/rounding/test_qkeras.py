"""QKeras's quantizers against what QKeras gave: results and gradients that tests/data/make_qkeras.py recorded."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from paths import RECORDED
from torch import Tensor

from qsweep.errors import UserError
from qsweep.formats import Format, QKeras, name_of, parse
from qsweep.rounding import Stack, quantize

QKERAS: dict[str, Any] = dict(np.load(RECORDED / "qkeras.npz"))
X, U = torch.from_numpy(QKERAS["x"]), torch.from_numpy(QKERAS["u"])
INFERENCE = [key[2:] for key in QKERAS if key.startswith("y|")]
TRAINING = [key[2:] for key in QKERAS if key.startswith("t|")]
ULPS = 4 * 2.0**-23
"""Of a computed alpha: QKeras sums in another order, and takes logarithms."""


def ours(call: str) -> Format:
    """A call of QKeras as our format, channels last as Keras has them."""
    name = re.sub(r",?use_stochastic_rounding=True", "", call)
    name = f"qkeras_{name}" if name.startswith(("binary", "ternary")) else name
    fmt = parse(name)
    return parse(f"{name} axis=-1") if hasattr(fmt, "axis") else fmt


def noise_of(call: str, fmt: Format) -> Tensor:
    assert isinstance(fmt, QKeras)
    draws = torch.stack([torch.from_numpy(QKERAS[f"n|{call}|{i}"]) for i in range(fmt.draws)])
    return draws if fmt.draws > 1 else draws[0]


def as_qkeras_forwards(level: Tensor, call: str) -> Tensor:
    """QKeras gives x + (level - x), x being what its ReLU lets through."""
    x = X.clamp(min=0.0) if call.startswith("quantized_relu_po2") else X
    if (bound := re.match(r"quantized_relu_po2\(4,(\d)\)", call)) is not None:
        x = x.clamp(max=float(bound[1]))
    return x + (-x + level)


def assert_equal(found: Tensor, expected: Tensor, call: str) -> None:
    if "auto" in call and "binary(alpha='auto_po2')" not in call:
        assert bool(((found - expected).abs() <= ULPS * (expected.abs() + X.abs())).all())
    elif "quadratic" in call:
        # Of an odd power of two the square root has a log2 of k + ½ but for float32's rounding, which QKeras goes by.
        odd = X[found != expected].abs().log2()
        assert bool((odd % 2 == 1).all())
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("call", INFERENCE)
def test_inference_gives_what_qkeras_gave(call: str) -> None:
    x = X.clone().requires_grad_()
    level = quantize(x, ours(call))
    assert_equal(as_qkeras_forwards(level.detach(), call), torch.from_numpy(QKERAS[f"y|{call}"]), call)
    (gradient,) = torch.autograd.grad((level * U).sum(), x)
    assert torch.allclose(gradient, torch.from_numpy(QKERAS[f"g|{call}"]), rtol=0, atol=5e-7)  # tanh differs there


@pytest.mark.parametrize("call", TRAINING)
def test_training_gives_what_qkeras_gave_with_the_same_draws(call: str) -> None:
    fmt = ours(call)
    level = quantize(X, fmt, "stochastic", noise_of(call, fmt))
    if call.startswith("binary"):  # its x + (level - x) has x rounded before: only the levels compare
        assert torch.equal(level, torch.from_numpy(QKERAS[f"t|{call}"]).sign())
    else:
        assert_equal(as_qkeras_forwards(level, call), torch.from_numpy(QKERAS[f"t|{call}"]), call)


def test_recorded_values_name_the_versions_that_made_them() -> None:
    assert list(QKERAS["versions"]) == ["qkeras 0.9.0", "tensorflow 2.15.1"]
    assert len(INFERENCE) + len(TRAINING) == 42


@pytest.mark.parametrize(
    "name", ["quantized_bits(4,0,1,alpha='auto')", "qkeras_ternary(auto)", "qkeras_binary(alpha=auto)"]
)
def test_channels_are_the_outputs_of_a_pytorch_weight(name: str) -> None:
    weight = torch.randn(6, 9)
    rows = torch.stack([quantize(row, parse(name)) for row in weight[:, None]])
    assert torch.equal(quantize(weight, parse(name)), rows[:, 0])


@pytest.mark.parametrize("name", ["quantized_bits(4)", "qkeras_binary(alpha=auto)", "stochastic_ternary(auto)"])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_stacked_equals_one_by_one(name: str, rounding: str) -> None:
    values = torch.randn(3, 5, 7)
    stack = Stack([parse(name)] * 3, rounding)
    noise = torch.rand(5, 7) if stack.draws == 1 else torch.rand(stack.draws, 5, 7)
    together = values.clone()
    stack.round_whole(together, noise if stack.draws else None)
    for row, value in zip(together, values, strict=True):
        assert torch.equal(row, quantize(value, parse(name), rounding, noise if stack.draws else None))


@pytest.mark.parametrize(
    "name", ["quantized_bits(4,0,1,alpha='auto')", "qkeras_ternary(auto)", "qkeras_binary(alpha=auto_po2)"]
)
def test_a_channel_of_zeros_stays_finite(name: str) -> None:
    assert bool(quantize(torch.zeros(3, 4), parse(name)).isfinite().all())


def test_names_are_read_as_qkeras_writes_them() -> None:
    assert parse("quantized_bits(4, 0, 1, alpha='auto_po2')") == parse(
        "quantized_bits bitwidth=4 symmetric=true alpha=auto_po2"
    )
    assert parse("quantized_bits(8,3,alpha=None)") == parse("quantized_bits(8,3)")
    assert name_of(parse("qkeras_ternary(0.5,0.25)")) == "qkeras_ternary alpha=0.5 threshold=0.25"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quantized_bits(1,0,1,alpha=auto)", "of one bit has no step to scale"),
        ("quantized_relu(4,0,0.3)", "needs a power of two up to 1"),
        ("qkeras_ternary(auto,0.5)", "computes its own threshold"),
        ("stochastic_ternary", "needs an alpha, as in 'stochastic_ternary(auto)'"),
        ("quantized_bits(4,0,1,1,1,1,1)", "has more than 6 parameters"),
    ],
)
def test_what_qkeras_can_not_do_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(name)
    assert message in str(caught.value)


def test_a_mode_that_qkeras_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no rounding 'up'"):
        quantize(X, parse("quantized_bits(4)"), "up")
