"""Rounding elsewhere than on a CPU: the same bits where there is a GPU, and nothing left on the CPU where there is none."""

from __future__ import annotations

import pytest
import torch
from points import assert_same
from torch._subclasses.fake_tensor import FakeTensorMode

from qsweep.formats import check_rounding, parse
from qsweep.parameter import BadValueError
from qsweep.rounding import Stack, quantize
from qsweep.rounding.qkeras import gradient_factor

NAMES = (
    *("range4 scale=10", "range3 zero=false", "fixed8f7", "fixed4f1 overflow=wrap", "fixed8f2 overflow=unbounded"),
    *("e4m3", "e5m2", "e4m3 saturate=true", "bf16", "block4", "block4 per=16", "block4 per=channel", "mxfp4", "mxint8"),
    *("nvfp4", "uniform4", "uniform4 scaling=0.5", "uniform4 symmetric=true", "uniform4 symmetric=true scaling=po2"),
    *("po2_4", "po2_3 zero=false", "ternary", "ternary scaling=po2", "binary", "binary scaling=0.5"),
    *("fixed8f4 compat=qtorch", "e5m2 compat=qtorch", "block8 compat=qtorch", "quantized_bits(4)"),
    *(
        "quantized_bits(4,0,1,alpha=auto_po2)",
        "quantized_relu(4,1,0.25)",
        "quantized_po2(4,1)",
        "quantized_relu_po2(4)",
    ),
    *("qkeras_binary(alpha=auto)", "qkeras_ternary", "qkeras_ternary(auto)", "stochastic_ternary(auto)", "bernoulli"),
)
MODES = ("nearest", "stochastic", "stochastic4")


def modes_of(name: str) -> list[str]:
    def has(mode: str) -> bool:
        try:
            check_rounding(parse(name), mode)
        except BadValueError:
            return False
        return True

    return [mode for mode in MODES if has(mode)]


DIRECTED = [("e4m3", "up"), ("fixed8f7", "away"), ("uniform4", "zero"), ("ternary", "down"), ("mxfp4", "up")]


CASES = [(name, mode) for name in NAMES for mode in modes_of(name)] + DIRECTED


@pytest.mark.parametrize(("name", "mode"), CASES)
@pytest.mark.filterwarnings("ignore:Accessing the data pointer")
def test_all_of_a_law_stays_on_the_device_of_its_values(name: str, mode: str) -> None:
    """Fake tensors refuse what mixes devices, and need no GPU for that."""
    fmt = parse(name)
    with FakeTensorMode():
        x = torch.empty(6, 40, device="cuda")
        stack = Stack([fmt], mode, "cuda")
        noise = torch.empty((stack.draws, 6, 40) if stack.draws > 1 else (6, 40), device="cuda")
        assert quantize(x, fmt, mode, noise).device.type == "cuda"
        assert stack.inside(x[None]).device.type == "cuda"
        if name.startswith("q"):
            factor = gradient_factor(x, fmt)  # type: ignore[arg-type]
            assert factor is None or factor.device.type == "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_a_gpu_gives_the_bits_of_the_cpu(name: str, mode: str) -> None:
    fmt = parse(name)
    x = torch.randn(64, 65, generator=torch.Generator().manual_seed(0)) * 3
    draws = Stack([fmt], mode).draws
    noise = torch.randint(0, 2**24, (max(draws, 1), 64, 65)) / 2**24
    noise = noise if draws > 1 else noise[0]
    assert_same(quantize(x.cuda(), fmt, mode, noise.cuda()).cpu(), quantize(x, fmt, mode, noise))
