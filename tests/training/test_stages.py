"""Stages after the training: compression against the formats by themselves, codebooks against a loop by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from qsweep.data.catalog import DATASETS
from qsweep.data.files import load as load_data
from qsweep.data.files import preprocess
from qsweep.formats import parse
from qsweep.kernels.streams import Stream
from qsweep.models.build import build
from qsweep.rounding import quantize
from qsweep.rounding.clipping import compressed
from qsweep.training.codebooks import Codebook
from qsweep.training.job import Job
from qsweep.training.nets import cross_entropy
from qsweep.training.roles import parts_of
from qsweep.trial.key import Trial

Make = Callable[..., Trial]
Run = Callable[..., list[dict[str, Any]]]

NORMED = """
from torch import nn

def net(shape, classes):
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, classes)
    )
"""
SMALL = {"quantize": {}, "epochs": 1}


@pytest.fixture
def run(data_folder: Path) -> Run:
    def run(trials: Sequence[Trial], given: Sequence[bytes] = (), **sources: str) -> list[dict[str, Any]]:
        kept = [trial.key for trial in trials]
        settings = [trial.settings for trial in trials]
        return Job(sources, data_folder, "cpu", kept=kept)(settings, given)

    return run


def through(run: Run, trial: Trial, **sources: str) -> list[dict[str, Any]]:
    """The records of all stages of a trial."""
    records: list[dict[str, Any]] = []
    for one in (*trial.bases, trial):
        records += run([one], [records[-1]["weights"]] if records else [], **sources)
        assert records[-1]["status"] == "done", records[-1]
    return records


def normed(trial: Make, stages: list[Any], **changed: Any) -> Trial:
    return trial(sources={"net.py": "d"}, **{**SMALL, "model": "net.py:net", "stages": stages, **changed})


def test_compression_rounds_each_part_to_its_format_and_nothing_else(trial: Make, run: Run) -> None:
    formats = {"weight": "uniform3 per=channel", "bias": "uniform1", "norm_scale": "kmeans3", "norm_shift": "fixed4f2"}
    base, compressed = through(run, normed(trial, [{"compress": formats}]), d=NORMED)
    before, after = load(base["weights"]), load(compressed["weights"])
    assert before.keys() == after.keys() >= {"1.running_mean", "1.running_var"}
    wanted = {
        "0.weight": "weight",
        "0.bias": "bias",
        "1.weight": "norm_scale",
        "1.bias": "norm_shift",
        "5.weight": "weight",
        "5.bias": "bias",
    }
    for name, value in before.items():
        fmt = formats.get(wanted.get(name, ""))
        assert torch.equal(after[name], value if fmt is None else quantize(value, parse(fmt))), name


def test_compression_cuts_off_what_it_is_told_to(trial: Make, run: Run) -> None:
    clipped = {"weight": {"format": "uniform3", "clip": 90}, "bias": "uniform3 clip=least_squares"}
    base, found = through(run, trial(**SMALL, stages=[{"compress": clipped}]))
    before, after = load(base["weights"]), load(found["weights"])
    for name, value in before.items():
        clip = 90.0 if name.endswith("weight") else "least_squares"
        assert torch.equal(after[name], compressed(value, parse("uniform3"), clip, value.dim() - 1)), name


def test_a_stage_that_changes_nothing_measures_what_the_training_ended_with(trial: Make, run: Run) -> None:
    """Running statistics come along."""
    base, same = through(run, normed(trial, [{"compress": {"weight": "float32"}}]), d=NORMED)
    assert same["result"]["test_accuracy"] == base["result"]["test_accuracy"]
    assert same["result"]["test_loss"] == base["result"]["test_loss"]
    assert same["result"]["train_accuracy"] is None
    assert [(row["stage"], row["epoch"]) for row in same["history"]] == [(1, 0)]


def test_retraining_with_its_codebook_keeps_every_value_with_its_level(trial: Make, run: Run) -> None:
    stages = [{"compress": {"weight": "uniform2 per=channel"}}, {"retrain": {"epochs": 2, "optimizer": "adam"}}]
    _, compressed, retrained = through(run, normed(trial, stages), d=NORMED)
    before, after = load(compressed["weights"]), load(retrained["weights"])
    for name in ("0.weight", "5.weight"):
        assert not torch.equal(before[name], after[name])
        for old, new in zip(before[name], after[name], strict=True):
            for level in old.unique():
                assert len(new[old == level].unique()) == 1
    assert [(row["stage"], row["epoch"]) for row in retrained["history"]] == [(2, 1), (2, 2)]


def test_retraining_freely_leaves_the_levels(trial: Make, run: Run) -> None:
    stages = [
        {"compress": {"weight": "uniform2"}},
        {"retrain": {"codebook": "free"}},
        {"compress": {"weight": "uniform2"}},
    ]
    _, first, free, again = through(run, normed(trial, stages), d=NORMED)
    counts = [len(load(record["weights"])["5.weight"].unique()) for record in (first, free, again)]
    assert counts[0] <= 4 < counts[1]
    assert counts[2] <= 4


def test_a_codebook_has_the_gradient_of_its_levels() -> None:
    """Against autograd of the same loss as a function of the levels, penalties included."""
    levels = torch.tensor([-1.0, 0.25, 2.0], dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor([[0, 1, 1], [2, 0, 1]])
    slope = torch.tensor([[0.5, -1.0, 0.25], [3.0, 0.125, 2.0]], dtype=torch.float64)
    w = levels[chosen]
    loss = (slope * w).sum() + 0.5 * 0.25 * (w * w).sum() + 0.125 * w.abs().sum()
    (expected,) = torch.autograd.grad(loss, levels)
    codebook = Codebook([chosen.reshape(-1).numpy()], [(0.25, 0.125)])
    found = codebook.share(slope.float()[None], w.detach().float()[None], slice(0, 1))
    assert torch.equal(found[0], expected[chosen].float())


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_penalties_of_a_kept_codebook_are_those_of_all_parameters_under_any_loss_scale(
    trial: Make, run: Run, scale: float
) -> None:
    """Of a net whose biases alone are compressed, each to a level of its own: then kept is free."""
    found = []
    for codebook in ("kept", "free"):
        stages = [
            {"compress": {"bias": "kmeans64"}},
            {"retrain": {"codebook": codebook, "weight_decay": 0.5, "l1": 0.01}},
        ]
        own = trial(quantize={"error": "e8m22"}, epochs=1, model="softmax", loss_scale=scale, stages=stages)
        found.append(load(through(run, own)[-1]["weights"]))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-5, atol=1e-6)


def test_a_net_whose_buffers_are_views_can_be_a_base(trial: Make, run: Run) -> None:
    text = """
from torch import nn, arange

class Net(nn.Linear):
    def __init__(self, classes):
        super().__init__(64, classes)
        self.register_buffer("whole", arange(20.0))
        self.register_buffer("few", self.whole[:10])

    def forward(self, x):
        return super().forward(x.flatten(1)) + 0 * self.few

def net(shape, classes):
    return nn.Sequential(Net(classes))
"""
    records = through(run, normed(trial, [{"compress": {"bias": "uniform2"}}]), d=text)
    assert records[-1]["result"]["model_bits"] == 64 * 10 * 32 + 10 * 2 + 2 * 32


def test_a_stage_draws_random_bits_of_its_own(trial: Make, run: Run, data_folder: Path) -> None:
    """Else its batches would come in the order of the training's first epoch."""
    model = {"name": "mlp", "hidden": [33]}
    again = trial(**SMALL, model=model, lr=0.5, batch_size=700, stages=[{"retrain": {}}])
    base, retrained = through(run, again)
    found = retrained["history"][0]["train_loss"]
    by_hand = [_train_loss(again, load(base["weights"]), Stream(0, stage), data_folder) for stage in (0, 1)]
    assert found == pytest.approx(by_hand[1], rel=1e-5)
    assert found != pytest.approx(by_hand[0], rel=1e-5)


def _train_loss(trial: Trial, weights: Mapping[str, Tensor], stream: Stream, folder: Path) -> float:
    """An epoch of gradient descent by hand: the mean loss of its batches."""
    own, data = trial.settings, DATASETS["digits"]
    examples = load_data(data, folder, own["data"]["split"])
    net = build(own["model"], {}, data.shape, data.classes)
    net.load_state_dict(dict(weights))
    optimizer, total = torch.optim.SGD(net.parameters(), lr=own["optimizer"]["lr"]), 0.0
    order = stream.permutation(len(examples.train_labels), "order", 1)
    for chosen in order.split(own["batch_size"]):
        x = preprocess(examples.train_images[chosen], data, own["data"]["preprocess"], examples)
        loss = cross_entropy(net(x), examples.train_labels[chosen]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * len(chosen)
    return total / len(order)


@pytest.mark.parametrize("retrain", [{}, {"codebook": "free"}])
def test_stages_of_a_stack_give_each_trial_what_it_has_alone(trial: Make, run: Run, retrain: dict[str, Any]) -> None:
    stages = [{"compress": {"weight": "uniform", "bias": "uniform"}}, {"retrain": {"epochs": 1, **retrain}}]
    trials = [trial(**SMALL, lr=lr, bitwidth=3, l1=1e-3, stages=stages) for lr in (0.25, 0.5)]
    alone = [through(run, one) for one in trials]
    for stage in range(3):
        given = [records[stage - 1]["weights"] for records in alone] if stage else []
        together = run([(*one.bases, one)[stage] for one in trials], given)
        for one, other in zip(together, alone, strict=True):
            assert one["weights"] == other[stage]["weights"]
            assert one["result"] == other[stage]["result"]


def test_every_catalog_model_says_what_of_it_can_be_compressed() -> None:
    net = build({"name": "cnn3"}, {}, (1, 28, 28), 10)
    found = parts_of(net)
    assert found.keys() == dict(net.named_parameters()).keys()
    assert {found[n] for n in ("conv1.weight", "linear2.weight")} == {"weight"}
    assert [found[f"norm1.{own}"] for own in ("weight", "bias")] == ["norm_scale", "norm_shift"]
