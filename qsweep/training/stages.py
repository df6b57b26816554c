"""The last stage of trials: training, compression of the trained model, or retraining.

A stage starts from the weights of the previous one; optimizers start anew, and random bits depend on the stage number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from qsweep.data.catalog import DataSet
from qsweep.data.files import Examples
from qsweep.rounding.clipping import compressed
from qsweep.training.codebooks import codebooks
from qsweep.training.course import TESTED, Course, Outcome
from qsweep.training.nets import Net
from qsweep.training.roles import contraction_axis, parts_of
from qsweep.training.sizes import sizes
from qsweep.trial.measures import CLASSES
from qsweep.trial.settings import Compression, Roles, Settings


def run_last(
    net: Net, model: nn.Module, trials: Sequence[Settings], data: DataSet, examples: Examples, device: str
) -> list[Outcome]:
    """Run the last stage of trials, whose net has the weights of the previous stage."""
    if not trials[0].stages:
        return _run(Course(net, model, trials, data, examples, device))
    given = [{name: value.clone() for name, value in weights_of(net, row).items()} for row in range(len(trials))]
    outcomes = _run_last(net, model, trials, data, examples, device)
    for trial, before, outcome in zip(trials, given, outcomes, strict=True):
        kept = trial.compressed
        formats = {name: (part, kept[part].format) for name, part in parts_of(model).items() if part in kept}
        if formats and outcome.status == "done":
            outcome.sizes = sizes(before, outcome.weights, formats, set(net.values), trial.ends_compressing)
    return outcomes


def _run_last(
    net: Net, model: nn.Module, trials: Sequence[Settings], data: DataSet, examples: Examples, device: str
) -> list[Outcome]:
    if formats := [stage.parts for trial in trials if isinstance(stage := trial.stages[-1], Compression)]:
        compress(net, model, formats)
        return _measured(Course(net, model, trials, data, examples, device))
    own = [trial.retrained for trial in trials]
    kept = codebooks(net, model, own) if own[0].compressed else {}
    return _run(Course(net, model, own, data, examples, device, len(own[0].stages), kept))


def compress(net: Net, model: nn.Module, formats: Sequence[Roles]) -> None:
    """Round each part that is named to its format, in place.

    Args:
        formats: of each trial, by part.
    """
    for name, part in parts_of(model).items():
        for values, own in zip(net.values[name], formats, strict=True):
            if part in own:
                axis = contraction_axis(tuple(values.shape))
                values.copy_(compressed(values, own[part].format, own[part].clip, axis))


def _run(course: Course) -> list[Outcome]:
    outcomes = course.run()
    for row, index in enumerate(course.alive):
        outcomes[index].weights = weights_of(course.net, row)
    return outcomes


def _measured(course: Course) -> list[Outcome]:
    """The outcomes of models that were not trained: results on the test set."""
    tested = course.evaluate()
    untrained = {"train_accuracy": None, "train_loss": None}
    course.count_weights()
    for row, (outcome, levels) in enumerate(zip(course.outcomes, course.levels(), strict=True)):
        if not all(bool(value[row].isfinite().all()) for value in course.net.values.values()):
            outcome.diverge("a weight after its compression")
        elif not tested.finite[row]:
            outcome.diverge(f"{TESTED} after its compression")
        else:
            measured = {**tested.row("test", row), **untrained, **levels, CLASSES: tested.predicted(row)}
            outcome.epochs, outcome.weights = [measured], weights_of(course.net, row)
    return course.outcomes


# --- weights between stages -------------------------------------------------------------------------------------------


def weights_of(net: Net, row: int) -> dict[str, Tensor]:
    """All that a trial's net has learned, by name: parameters, and buffers such as running statistics."""
    own = {name: value[row] for name, value in net.values.items()}
    return {**own, **dict(net.model.named_buffers())}


def packed(weights: Mapping[str, Tensor]) -> bytes:
    """Weights as safetensors; equal weights have equal bytes."""
    # Copies: a user's buffers may be views of each other, which safetensors refuses.
    return save({n: v.detach().cpu().clone(memory_format=torch.contiguous_format) for n, v in weights.items()})


def start_from(net: Net, given: Sequence[bytes]) -> None:
    """Load the weights of a previous stage into each trial of a net."""
    buffers = dict(net.model.named_buffers())
    with torch.no_grad():
        for row, content in enumerate(given):
            for name, value in load(content).items():
                (net.values[name][row] if name in net.values else buffers[name]).copy_(value)
