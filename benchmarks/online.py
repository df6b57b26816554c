"""Single-sample training of a linear layer on MNIST, one core.

Trials from all parts of the bottleneck grids in a stack of 16, against the same trials one at a time in plain PyTorch
loops: with weights and activations in fixed point and everything else in float32, and with everything in int64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from measure import as_a_worker, ratios, spread

from qsweep.data.catalog import DATASETS
from qsweep.data.files import data_folder, ensure, load
from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize
from qsweep.spec.file import read
from qsweep.spec.plan import Plan, expand
from qsweep.training import one_example
from qsweep.trial.key import Trial, stack_signature
from qsweep.trial.settings import Settings

N, STACK, PLAIN_TRIALS, STEPS = 9, 16, 4, 600
MNIST = DATASETS["mnist"]


def plan_of(name: str) -> Plan:
    return expand(read(Path(__file__).parent.parent / "configs" / f"{name}.yaml"))


def sample(plan: Plan, variant: str) -> list[Trial]:
    """A stack of trials from all parts of the grid of a variant."""
    trials = [row.trial for row in plan.rows if row.axes[0] == variant and row.trial.seed == 0]
    same = [trial for trial in trials if stack_signature(trial.settings) == stack_signature(trials[0].settings)]
    return same[:: len(same) // STACK][:STACK]


def ours(trials: Sequence[Trial], iterations: int) -> Callable[[], None]:
    """A function that trains a stack of trials, including building the net."""
    settings = [Settings({**trial.settings, "iterations": iterations, "window": iterations // 10}) for trial in trials]
    examples = load(MNIST, data_folder(), "all")

    def steps() -> None:
        model = build(settings[0].model, {}, MNIST.shape, MNIST.classes)
        initialize(model, settings[0].init, Stream(0))
        one_example.run(model, settings, MNIST, examples)

    return steps


class Plain:
    """A trial in plain PyTorch, on the same examples."""

    def __init__(self, trial: Trial, iterations: int) -> None:
        examples = load(MNIST, data_folder(), "all")
        order = Stream(0).permutation(len(examples.train_labels), "order", 1)[:iterations]
        self.images = examples.train_images[order].reshape(iterations, -1)
        self.labels = examples.train_labels[order].tolist()
        self.fraction = int(trial.columns["fraction"])
        self.lr = float(trial.columns["lr"])
        model = build(trial.settings["model"], {}, MNIST.shape, MNIST.classes)
        initialize(model, trial.settings["init"], Stream(0))
        self.weight = model.get_parameter("linear1.weight").detach()

    def float_backward(self) -> None:
        """The forward pass in fixed point, with float32 master weights."""
        scale, wanted = 2.0**self.fraction, torch.eye(10)
        weight, bias, hits = self.weight.clone(), torch.zeros(10), 0
        for image, label in zip(self.images, self.labels, strict=True):
            x = torch.round(image.float() / 255 * scale) / scale
            fixed, shift = torch.round(weight * scale) / scale, torch.round(bias * scale) / scale
            z = torch.round((fixed @ x + shift) * scale) / scale
            out = torch.relu(z)
            hits += int(out.argmax()) == label
            error = (out - wanted[label]) * (z > 0)
            weight -= self.lr * torch.outer(error, x)
            bias -= self.lr * error

    def integers(self) -> None:
        """Everything in int64, with shifts that round half up."""
        one, shift = 1 << self.fraction, round(-torch.tensor(self.lr).log2().item())
        half, half_lr = 1 << (self.fraction - 1), 1 << max(shift - 1, 0)
        wanted = torch.eye(10, dtype=torch.int64) * one
        weight = torch.round(self.weight * one).long()
        bias, hits = torch.zeros(10, dtype=torch.int64), 0
        for image, label in zip(self.images, self.labels, strict=True):
            x = torch.round(image.float() / 255 * one).long()
            z = (weight @ x + (bias << self.fraction) + half) >> self.fraction
            out = torch.relu(z)
            hits += int(out.argmax()) == label
            error = (out - wanted[label]) * (z > 0)
            gradient = (torch.outer(error, x) + half) >> self.fraction
            weight -= (gradient + half_lr) >> shift
            bias -= (error + half_lr) >> shift


def compare(name: str, trials: Sequence[Trial], train: Callable[[Plain], None]) -> None:
    """Print how many times as fast as the plain loop a trial in the stack is."""
    some = [Plain(trial, STEPS) for trial in trials[:: len(trials) // PLAIN_TRIALS]]
    stack = ours(trials, 10 * STEPS)

    def loops() -> None:
        for own in some:
            train(own)

    times, plain = ratios(stack, loops, N)
    each = [1e6 * t / (10 * STEPS * len(trials)) for t in times]
    alone = [1e6 * t / (STEPS * len(some)) for t in plain]
    ratio = spread([b / a for a, b in zip(each, alone, strict=True)], 1)
    print(f"{name}: {ratio} times as fast; {spread(each)} against {spread(alone, 0)} µs per trial and iteration")


def main() -> None:
    """Trials of both grids, and stochastic rounding, for which a stack shares its noise."""
    as_a_worker()
    ensure(MNIST, data_folder(), print)
    backward, fixed = plan_of("bottleneck_float_backward"), plan_of("bottleneck_fixed")
    compare("float32 backward, with master weights", sample(backward, "float32 master"), Plain.float_backward)
    compare("float32 backward, without master weights", sample(backward, "no second copy"), Plain.float_backward)
    compare("integers", sample(fixed, "nearest"), Plain.integers)
    compare("integers, stochastic against nearest", sample(fixed, "stochastic"), Plain.integers)


if __name__ == "__main__":
    main()
