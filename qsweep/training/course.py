"""The course of a stack of trials: epochs of steps, an evaluation after each, and who diverged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from qsweep.data.catalog import DataSet
from qsweep.data.files import Examples, preprocess
from qsweep.kernels.streams import Stream
from qsweep.models.layers import Dropout
from qsweep.training.codebooks import Codebook
from qsweep.training.flow import Flow
from qsweep.training.histograms import Histogram, histograms
from qsweep.training.nets import Net
from qsweep.training.places import places_of
from qsweep.training.roles import Noise, roles_of
from qsweep.training.sizes import kept_sizes
from qsweep.training.step import Stepper
from qsweep.training.why import Row, Tally, is_watched, levels
from qsweep.trial.cost import EVALUATION_BATCH, memory
from qsweep.trial.measures import CLASSES
from qsweep.trial.roles import STORED
from qsweep.trial.settings import Settings

TESTED = "the outputs or the loss of the test set"
PASS_MEMORY = 160 * 1024 * 1024
"""Bytes for one pass through the net. A stack that needs more is passed in parts: no slower, and below 1 GB."""


@dataclass
class Outcome:
    """A trial's results. It is `done`, or `diverged` in an epoch with a NaN or Inf in a batch loss or a weight, or in
    the outputs or the loss of the test set after it.

    Attributes:
        sizes: of a compressed model.
        kept_sizes: of parameters that training keeps rounded, also of a trial that diverged.
    """

    status: str = "done"
    reason: str = ""
    epochs: list[Row] = field(default_factory=list)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)
    kept_sizes: dict[str, Any] = field(default_factory=dict)
    not_rounded: tuple[str, ...] = ()

    def diverge(self, where: str) -> None:
        self.status, self.reason = "diverged", f"NaN or Inf in {where}"


@dataclass
class Course:
    """A stack in training. All trials share data, order, masks and noise; `alive` are the indices still training.

    Attributes:
        stage: how many stages came before this one.
        codebooks: of compressed parameters whose levels are trained, by name.
    """

    net: Net
    model: nn.Module
    trials: Sequence[Settings]
    data: DataSet
    examples: Examples
    device: str = "cpu"
    stage: int = 0
    codebooks: Mapping[str, Codebook] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shared = self.trials[0]
        self.shared = shared
        self.stream = Stream(shared.seed, self.stage)
        self.alive = list(range(len(self.trials)))
        self.places = places = places_of(self.model, self.data.shape)
        self.outcomes = [Outcome(not_rounded=places.not_rounded(trial)) for trial in self.trials]
        self.roles = places.parameters
        self.stepper = Stepper(self.trials, places, self.net.trained, self.codebooks)
        self.flow = Flow(self.model, places, self.stepper.quantizers)
        self.dropouts = {n: m for n, m in self.model.named_modules() if isinstance(m, Dropout) and m.rate}
        self.step = 0

    def run(self) -> list[Outcome]:
        """Train to the end."""
        shapes = {name: value.shape[1:] for name, value in self.net.values.items()}
        for trial, outcome in zip(self.trials, self.outcomes, strict=True):
            outcome.kept_sizes = kept_sizes(self.places.stored(trial), shapes)
        if self.shared.quantize_init and not self.stage:
            self.stepper.quantize(self.net.trained, self._noise())
        for epoch in range(1, self.shared.epochs + 1):
            trained = self._epoch(epoch)
            self._drop_diverged(self._finite(trained), f"a batch loss or a weight in epoch {epoch}", trained)
            if not self.alive:
                break
            tested = self.evaluate()
            self._drop_diverged(tested.finite.tolist(), f"{TESTED} after epoch {epoch}", trained, tested)
            if not self.alive:
                break
            self._record(trained, tested)
        self.count_weights()
        return self.outcomes

    def _noise(self) -> Noise:
        return Noise(self.stream, self.step, self.device)

    # one epoch of training

    def _epoch(self, epoch: int) -> Totals:
        roles, count = self.stepper.quantizers, len(self.alive)
        totals = Totals(count, Tally(count, roles.roles, roles.kept, self._bins(epoch)))
        batches = list(self.batches(epoch))
        for number, chosen in enumerate(batches, start=1):
            self.train_step(chosen, totals, is_last=number == len(batches))
        return totals

    def _bins(self, epoch: int) -> int:
        """Bins of histograms, which are only taken in the last epoch."""
        return self.shared.histogram if epoch == self.shared.epochs else 0

    def train_step(self, chosen: Tensor, totals: Totals, is_last: bool = False) -> None:
        """One step of all trials on the chosen examples; their results before the step are added to the totals."""
        self.step += 1
        tally = totals.tally if is_watched(self.step, is_last) else None
        if tally is not None:
            tally.is_last = is_last
        x, y = self._inputs(self.examples.train_images, chosen), self.examples.train_labels[chosen].to(self.device)
        for place, dropout in self.dropouts.items():
            dropout.mask = dropout.draw(self.stream, place, len(chosen), self.step).to(self.device)
        noise = self._noise()
        self.stepper.start(self.step)
        for part in self._parts():
            self.flow.start(part, noise, tally)
            gradients, means, logits = self.net.gradients(x, y, part, self.stepper.scales(part))
            totals.add(part, means.double() * len(chosen), logits, y)
            for name in self.codebooks.keys() & gradients.keys():
                codebook, scales = self.codebooks[name], self.stepper.scales(part)
                gradients[name] = codebook.share(gradients[name], self.net.values[name][part], part, scales)
            self.stepper.update(self.net.trained, gradients, noise, part, tally)
        totals.examples += len(chosen)

    def _parts(self) -> Iterator[slice]:
        """Equal parts of the stack, each of which passes through the net at once."""
        count = len(self.alive)
        limit = max(1, PASS_MEMORY // (memory(self.shared) or 1))
        size = math.ceil(count / math.ceil(count / limit))
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Indices of each batch of an epoch, in random order."""
        count, size = len(self.examples.train_labels), self.shared.batch_size
        order = self.stream.permutation(count, "order", epoch)
        end = count - count % size if self.shared.data.drop_last else count
        for start in range(0, end, size):
            yield order[start : min(start + size, end)]

    def _inputs(self, images: Tensor, chosen: Tensor | slice) -> Tensor:
        pixels = images[chosen].to(self.device)
        return preprocess(pixels, self.data, self.shared.data.preprocess, self.examples)

    # after an epoch

    def _finite(self, trained: Totals) -> list[bool]:
        """For each trial, whether an epoch's losses and the values after it are finite."""
        finite = torch.isfinite(trained.loss)
        for value in (*self.net.values.values(), *self.stepper.masters.values()):
            finite &= torch.isfinite(value).reshape(len(value), -1).all(1).cpu()
        found: list[bool] = finite.tolist()
        return found

    def _drop_diverged(self, finite: Sequence[bool], where: str, *totals: Totals) -> None:
        kept = [i for i, good in enumerate(finite) if good]
        if len(kept) == len(self.alive):
            return
        for i in set(range(len(self.alive))) - set(kept):
            self.outcomes[self.alive[i]].diverge(where)
        self.alive = [self.alive[i] for i in kept]
        if kept:
            self.net.keep(kept)
            self.stepper.keep(kept)
            for codebook in self.codebooks.values():
                codebook.keep(kept)
            self.flow.use(self.stepper.quantizers)
            for own in totals:
                own.keep(kept)

    def _record(self, trained: Totals, tested: Totals) -> None:
        quantized = self.levels()
        for row, index in enumerate(self.alive):
            metrics = {**tested.row("test", row), **trained.row("train", row)}
            why = {**quantized[row], **trained.why(row), CLASSES: tested.predicted(row)}
            self.outcomes[index].histograms = trained.tally.histograms[row] if trained.tally is not None else {}
            self.outcomes[index].epochs.append({**metrics, **why})

    def levels(self) -> list[Row]:
        """For each trial, zeros and distinct values among stored values."""
        kept, count = self.stepper.quantizers.kept, len(self.alive)
        stored = levels(self.net.values, self.roles, [role for role in kept if role in STORED], count)
        masters = self.stepper.masters if "master" in kept else {}
        second = levels(masters, dict.fromkeys(masters, "master"), ["master"], count)
        return [{**one, **other} for one, other in zip(stored, second, strict=True)]

    def count_weights(self) -> None:
        """Histograms of the current weights and biases, if the trials ask for them."""
        bins = self.shared.histogram
        roles = {name: role for name, role in roles_of(self.model).items() if role != "norm"}
        for row, index in enumerate(self.alive):
            own = {name: value[row] for name, value in self.net.values.items()}
            self.outcomes[index].histograms = {**histograms(own, roles, bins), **self.outcomes[index].histograms}

    def evaluate(self) -> Totals:
        """Each trial's results on the test set, in evaluation mode."""
        totals = Totals(len(self.alive))
        totals.seen = torch.zeros(len(self.alive), self.data.classes + 1, dtype=torch.bool)
        for start in range(0, len(self.examples.test_labels), EVALUATION_BATCH):
            chosen = slice(start, start + EVALUATION_BATCH)
            x = self._inputs(self.examples.test_images, chosen)
            y = self.examples.test_labels[chosen].to(self.device)
            for part in self._parts():
                self.flow.start(part)
                logits = self.net.logits(x, part)
                totals.add(part, self.net.losses(logits, y).double().sum(1), logits, y)
                totals.seen[part].scatter_(1, predictions(logits).cpu(), True)
                totals.finite[part] &= torch.isfinite(logits).flatten(1).all(1).cpu()
            totals.examples += len(y)
        totals.finite &= torch.isfinite(totals.loss)
        return totals


class Totals:
    """Sums over batches for each trial: losses in float64, hits and examples as integers.

    Attributes:
        finite: of a test set, whether all outputs and the loss are finite.
        seen: of a test set, the classes that were predicted; the last entry is whether some example had no prediction.
    """

    def __init__(self, count: int, tally: Tally | None = None) -> None:
        self.tally = tally
        self.loss = torch.zeros(count, dtype=torch.float64)
        self.hits = torch.zeros(count, dtype=torch.int64)
        self.examples = 0
        self.finite = torch.ones(count, dtype=torch.bool)
        self.seen = torch.zeros(count, 1, dtype=torch.bool)

    def add(self, part: slice, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.loss[part] += loss.cpu()
        self.hits[part] += (predictions(logits) == labels).sum(1).cpu()

    def keep(self, indices: list[int]) -> None:
        """Keep only these trials."""
        self.loss, self.hits = self.loss[indices], self.hits[indices]
        self.finite, self.seen = self.finite[indices], self.seen[indices]
        if self.tally is not None:
            self.tally.keep(indices)

    def row(self, part: str, trial: int) -> dict[str, float | None]:
        """A trial's accuracy and loss per example; None without examples, or if the loss overflowed."""
        loss, known = float(self.loss[trial]), bool(self.examples)
        return {
            f"{part}_accuracy": int(self.hits[trial]) / self.examples if known else None,
            f"{part}_loss": loss / self.examples if known and math.isfinite(loss) else None,
        }

    def predicted(self, trial: int) -> int | None:
        """How many classes a trial predicts on the test set; None without examples."""
        return int(self.seen[trial, :-1].sum()) if self.examples else None

    def why(self, trial: int) -> Row:
        """A trial's rounding statistics over the watched steps."""
        rows = self.tally.rows() if self.tally is not None else []
        return rows[trial] if rows else {}


def predictions(logits: Tensor) -> Tensor:
    """The class with the largest logit, ties to the lowest class; no class (the number of classes) if all are NaN."""
    classes = logits.shape[-1]
    candidates = torch.where(
        logits == logits.amax(-1, keepdim=True), torch.arange(classes, device=logits.device), classes
    )
    return candidates.amin(-1)
