"""The stacked step compared with only its matmuls: one core, float32, the net of configs/lr_bitwidth.yaml.

The step does everything in training: gather and scale a batch, masks, noise, gradients, update, rounding, metrics.
The floor is the eight matmuls of the forward and backward pass, on tensors of the same shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from measure import as_a_worker, ratios, spread

from qsweep.data.catalog import DATASETS
from qsweep.data.files import data_folder, ensure, load
from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize
from qsweep.spec.file import read
from qsweep.spec.plan import expand
from qsweep.training.course import Course, Totals
from qsweep.training.nets import stacked_net
from qsweep.training.why import Tally

STEPS, N = 1, 41  # one step at a time, so that a drifting machine affects both alike


def course(count: int, batch: int) -> Course:
    """A stack of the first trials of the grid."""
    spec = read(Path(__file__).parent.parent / "configs" / "lr_bitwidth.yaml", [f"batch_size={batch}"])
    trials = [trial.view for trial in expand(spec).trials[:count]]
    data = DATASETS["mnist"]
    ensure(data, data_folder(), print)
    model = build(trials[0].model, {}, data.shape, data.classes)
    initialize(model, trials[0].init, Stream(0))
    return Course(stacked_net(model, count), model, trials, data, load(data, data_folder()))


def matmuls(count: int, batch: int) -> Callable[[], None]:
    """A function that does only the matmuls of one step."""
    widths = [784, 512, 512, 10]
    weights = [torch.randn(count, o, i) for i, o in pairwise(widths)]
    inputs = [torch.rand(batch, 784), torch.rand(count, batch, 512), torch.rand(count, batch, 512)]
    errors = [torch.rand(count, batch, o) for o in widths[1:]]

    def work() -> None:
        for x, w, d in zip(inputs, weights, errors, strict=True):
            torch.matmul(x, w.transpose(1, 2))
            torch.matmul(d.transpose(1, 2), x)
            if x.dim() == 3:
                torch.bmm(d, w)

    return work


def measure(count: int, batch: int) -> None:
    """Print the ratio for one stack size and batch size."""
    running, floor = course(count, batch), matmuls(count, batch)
    batches, totals = list(running.batches(1)), Totals(count)

    def steps() -> None:
        for chosen in batches[:STEPS]:
            running.train_step(chosen, totals)

    def floors() -> None:
        for _ in range(STEPS):
            floor()

    step, bare = ratios(steps, floors, N)
    per = 1000 / STEPS / count
    ratio = spread([a / b for a, b in zip(step, bare, strict=True)])
    times = f"{spread([s * per for s in step])} ms per trial and step, matmuls {spread([b * per for b in bare])} ms"
    print(f"stack of {count:2}, batch {batch:3}: step ÷ matmuls {ratio}; {times}")


def measure_watching() -> None:
    """Print the cost of the diagnostics, which are computed on steps 2, 4, 8 … and on the last step of an epoch."""
    running = course(16, 512)
    batches = list(running.batches(1))
    totals = Totals(16, Tally(16, running.stepper.quantizers.roles))

    def step(is_last: bool) -> None:
        running.step = 2  # the next step is not a power of two
        running.train_step(batches[0], totals, is_last)

    watched, plain = ratios(lambda: step(True), lambda: step(False), N)
    added = [a / b - 1 for a, b in zip(watched, plain, strict=True)]
    looks = 1 + sum(1 for i in range(2, len(batches)) if i & (i - 1) == 0)
    share = [looks * one / len(batches) for one in added]
    print(f"watched step ÷ plain step - 1: {spread(added)}; per epoch of {len(batches)} steps: {spread(share, 4)}")


def main() -> None:
    """Measure the main case, a single trial and a small batch, then the diagnostics."""
    as_a_worker()
    for count, batch in ((16, 512), (1, 512), (16, 64)):
        measure(count, batch)
    measure_watching()


if __name__ == "__main__":
    main()
