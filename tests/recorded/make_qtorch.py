"""Make qtorch.npz: what QPyTorch's CPU quantizers return, as an oracle for our own number formats.

Made with qtorch 0.3.0 (the array `versions` in the file says with which torch). Run in an environment with
qtorch 0.3.0, torch and a C++ compiler (qtorch compiles its CPU kernels at import):

    python tests/data/make_qtorch.py

Arrays, all float32 but `versions`:
    x, noise                                    the input and torch.rand_like(x) after torch.manual_seed(7)
    fixed|W|F|clamp|symmetric                   fixed_point_quantize(x, W, F, ..., rounding="nearest")
    fixed stochastic|W|F|clamp|symmetric        the same with rounding="stochastic", which adds `noise`
    float|E|M                                   float_quantize(x, E, M, rounding="nearest")
    b0, b1, ...                                 the inputs of the block formats
    block|W|dim|b0                              block_quantize(b0, W, dim, rounding="nearest")
Stochastic float and block rounding draws from a std::random_device: no seed reaches it, so it is not here.
"""

import importlib.metadata
from pathlib import Path

import numpy as np
import torch
from qtorch.quant import block_quantize, fixed_point_quantize, float_quantize

SEED = 7
FIXED = [(1, 0), (2, 1), (3, 1), (4, 2), (8, 4), (8, 7), (12, 0), (16, 8), (8, -2)]
FIXED_STOCHASTIC = [(1, 0), (4, 2), (8, 4), (16, 8), (8, -2)]
FLOAT = [(2, 1), (2, 3), (3, 2), (4, 3), (5, 2), (5, 10), (6, 9), (8, 7), (8, 10), (3, 1), (2, 2)]
SWITCHES = [(clamp, symmetric) for clamp in (True, False) for symmetric in (True, False)]


def with_neighbours(values: np.ndarray) -> np.ndarray:
    """Each value, the float32 just below it and the one just above."""
    down, up = (np.nextafter(values, np.float32(end), dtype=np.float32) for end in (-np.inf, np.inf))
    return np.concatenate([values, down, up])


def inputs() -> np.ndarray:
    """Random numbers at several scales, ties and their neighbours, powers of two, and the odd ones."""
    random = np.random.default_rng(SEED)
    normal = [random.normal(0.0, scale, 60) for scale in (1e-3, 0.1, 1.0, 10.0, 300.0)]
    sixteenths = np.arange(-64, 65, dtype=np.float32) / 16
    between = np.arange(-127, 128, 2, dtype=np.float32) / 32
    powers = np.float32(2.0) ** np.arange(-30, 21, dtype=np.float32)
    odd = [0.0, 1e-40, 1e-45, 2.0**-126, 1e4, 1e30, 3.4e38, np.inf]
    signed = np.array([*odd, *(-value for value in odd)], dtype=np.float32)
    last = np.array([np.nan, 0.5 + 2.0**-24], dtype=np.float32)
    parts = [np.concatenate(normal).astype(np.float32), with_neighbours(sixteenths), with_neighbours(between)]
    return np.concatenate([*parts, with_neighbours(powers), with_neighbours(-powers), signed, last])


def block_inputs(x: np.ndarray) -> dict[str, np.ndarray]:
    """Tensors of one to three dimensions out of x, and five with something special in them."""
    tame = np.random.default_rng(SEED + 1).permutation(x[np.isfinite(x) & (np.abs(x) < 1e3)])
    rows = np.float32(2.0) ** np.arange(-8, 8, dtype=np.float32)[:, None]
    found = {"b0": tame[:512], "b1": tame[:528].reshape(16, 33) * rows, "b2": tame[-120:].reshape(4, 5, 6)}
    for name, special in [("b3", np.inf), ("b4", np.nan), ("b5", 1e38), ("b6", 6e37)]:
        found[name] = tame[528:548].reshape(4, 5).copy()
        found[name][1, 2] = special
    found["b7"] = np.zeros((3, 4), dtype=np.float32)
    found["b7"][1] = -0.0
    found["b8"] = np.array([[1e-40, -3e-40, 1e-45, 1.1e-38], [-(2.0**-126), 2.0**-127, 0.0, 1e-39]], dtype=np.float32)
    return {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in found.items()}


def fixed_outputs(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Fixed point, by nearest and by stochastic rounding with the known draw."""
    out: dict[str, torch.Tensor] = {}
    for clamp, symmetric in SWITCHES:
        for bits, fraction in FIXED:
            key = f"{bits}|{fraction}|{int(clamp)}|{int(symmetric)}"
            out[f"fixed|{key}"] = fixed_point_quantize(x, bits, fraction, clamp, symmetric, rounding="nearest")
            if (bits, fraction) in FIXED_STOCHASTIC and symmetric != clamp:
                torch.manual_seed(SEED)
                drawn = fixed_point_quantize(x, bits, fraction, clamp, symmetric, rounding="stochastic")
                out[f"fixed stochastic|{key}"] = drawn
    return out


def block_outputs(blocks: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Block floating point by nearest rounding: one block (dim -1), or one per index of a dimension."""
    out: dict[str, torch.Tensor] = {}
    for name, array in blocks.items():
        for dim in range(-1, min(array.ndim, 2)):
            for bits in range(1, 9) if name in ("b0", "b1", "b2") else (1, 2, 4, 8):
                out[f"block|{bits}|{dim}|{name}"] = block_quantize(torch.tensor(array), bits, dim, rounding="nearest")
    return out


def main() -> None:
    """Write the file next to this one."""
    array = inputs()
    x = torch.tensor(array)
    blocks = block_inputs(array)
    torch.manual_seed(SEED)
    out = {"noise": torch.rand_like(x), **fixed_outputs(x), **block_outputs(blocks)}
    for exponent, mantissa in FLOAT:
        out[f"float|{exponent}|{mantissa}"] = float_quantize(x, exponent, mantissa, rounding="nearest")
    versions = np.array([f"qtorch {importlib.metadata.version('qtorch')}", f"torch {torch.__version__}"])
    results = {key: value.numpy() for key, value in out.items()}
    np.savez_compressed(Path(__file__).with_name("qtorch.npz"), versions=versions, x=array, **blocks, **results)


if __name__ == "__main__":
    main()
