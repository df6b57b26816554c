"""Make qkeras.npz: what QKeras's quantizers return, as an oracle for our own.

Made with QKeras 0.9.0 and TensorFlow 2.15 (the array `versions` in the file has the exact numbers). Run in an
environment with qkeras 0.9.0 and tensorflow-cpu 2.15, on an x86 CPU:

    python tests/data/make_qkeras.py

Arrays, all float32 but `versions`:
    x, u                  the input, channels last, and the upstream gradient
    y|CALL, g|CALL        q(x) in inference (learning phase 0), and the gradient of sum(u * q(x)) by x
    t|CALL, h|CALL        the same two in training (learning phase 1), for the quantizers that draw
    n|CALL|0, n|CALL|1    what tf.random.uniform drew for them, call by call, in [0, 1); a call with its own range
                          [low, high) gets draw * (high - low) + low, as TensorFlow itself does
"""

import importlib.metadata
import itertools
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf
from qkeras import quantizers

SEED = 7
SHAPE = (96, 8)
CALLS = [
    "quantized_bits(8)", "quantized_bits(4,0,1)", "quantized_bits(4,1)", "quantized_bits(4,0,0,keep_negative=False)",
    "quantized_bits(2,0,1)", "quantized_bits(1,0,1)", "quantized_bits(4,0,1,alpha=0.5)",
    "quantized_bits(4,0,1,alpha='auto')", "quantized_bits(4,0,1,alpha='auto_po2')",
    "quantized_bits(8,2,1,alpha='auto_po2')",
    "quantized_relu(4)", "quantized_relu(8,2)", "quantized_relu(3,1)", "quantized_relu(6,2,negative_slope=0.25)",
    "quantized_po2(4)", "quantized_po2(4,1)", "quantized_po2(3,max_value=2)",
    "quantized_po2(4,1,quadratic_approximation=True)", "quantized_relu_po2(4)", "quantized_relu_po2(4,2)",
    "binary()", "binary(alpha=1)", "binary(use_01=True)", "binary(alpha='auto')", "binary(alpha='auto_po2')",
    "ternary()", "ternary(alpha=1)", "ternary(alpha=1,threshold=0.5)", "ternary(alpha='auto')",
    "ternary(alpha='auto_po2')",
    "stochastic_binary()", "stochastic_binary(alpha='auto')", "stochastic_ternary(alpha='auto')",
]  # fmt: skip
TRAINING_CALLS = [
    "quantized_bits(4,0,1,use_stochastic_rounding=True)", "quantized_relu(4,use_stochastic_rounding=True)",
    "quantized_po2(4,1,use_stochastic_rounding=True)", "binary(alpha=1,use_stochastic_rounding=True)",
    "ternary(alpha='auto',use_stochastic_rounding=True)", "stochastic_binary(alpha=1)",
    "stochastic_binary(alpha='auto')", "stochastic_ternary(alpha='auto')", "bernoulli(alpha=1)",
]  # fmt: skip


class Draws:
    """Stands in for tf.random.uniform and remembers what it gave."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.given: list[np.ndarray] = []

    def __call__(self, shape: tf.Tensor, minval: float | tf.Tensor = 0.0, maxval: float | tf.Tensor = 1.0) -> tf.Tensor:
        draw = self.random.random(tuple(shape.numpy()), dtype=np.float32)
        self.given.append(draw)
        return tf.constant(draw) * (maxval - minval) + minval


def inputs() -> np.ndarray:
    """Normal numbers with ties, zeros and tiny ones anywhere, and large ones in the first half of the channels."""
    random = np.random.default_rng(SEED)
    x = random.normal(0.0, 0.7, SHAPE).astype(np.float32)
    sprinkled = np.concatenate([np.arange(-32, 33) / 16, np.arange(-63, 64, 2) / 32, [0.0] * 12, [1e-8, -1e-8] * 4])
    x.flat[random.permutation(x.size)[: sprinkled.size]] = sprinkled
    for row, sign in zip(random.permutation(len(x)), (1, -1) * 4, strict=False):
        x[row, random.integers(SHAPE[1] // 2)] = sign * 5.0
    return x


def outputs(call: str, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The quantizer's result and its gradient."""
    quantizer = quantizers.get_quantizer(call)
    given = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(given)
        result = quantizer(given)
        loss = tf.reduce_sum(u * result)
    return result.numpy(), tape.gradient(loss, given).numpy()


def main() -> None:
    """Write the file next to this one."""
    x = inputs()
    u = np.random.default_rng(SEED + 1).integers(-128, 129, SHAPE).astype(np.float32) / 64  # coarse: packs well
    out = {"x": x, "u": u}
    tf.keras.backend.set_learning_phase(0)
    for call in CALLS:
        out[f"y|{call}"], out[f"g|{call}"] = outputs(call, x, u)
    tf.keras.backend.set_learning_phase(1)
    for call, seed in zip(TRAINING_CALLS, itertools.count(SEED + 2), strict=False):
        draws = Draws(seed)
        with mock.patch.object(quantizers.tf.random, "uniform", draws):
            out[f"t|{call}"], out[f"h|{call}"] = outputs(call, x, u)
        out |= {f"n|{call}|{index}": draw for index, draw in enumerate(draws.given)}
    versions = [f"qkeras {importlib.metadata.version('qkeras')}", f"tensorflow {tf.__version__}"]
    np.savez_compressed(Path(__file__).with_name("qkeras.npz"), versions=np.array(versions), **out)


if __name__ == "__main__":
    main()
