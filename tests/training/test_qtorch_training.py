"""`compat: qtorch` against ten steps of QPyTorch's own OptimLP and Quantizer (tests/data/make_qtorch_training.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paths import RECORDED
from torch import Tensor

from qsweep.data.catalog import DATASETS
from qsweep.data.files import load
from qsweep.formats import parse
from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize
from qsweep.rounding import quantize
from qsweep.training.course import Course
from qsweep.training.nets import stacked_net
from qsweep.training.places import places_of
from qsweep.training.roles import Noise
from qsweep.training.step import Stepper
from qsweep.trial.key import Trial
from qsweep.trial.settings import Settings

with np.load(RECORDED / "qtorch_training.npz") as found:
    DATA = {name: found[name] for name in found.files}

Make = Callable[..., Trial]
STEPS = 10
FORMATS = {"fixed": "fixed8f5", "float": "e5m2", "block": "block8"}
CASES = ("fixed|sgd", "float|sgd", "block|sgd", "fixed|adam")
PARAMETERS = ("conv.weight", "conv.bias", "linear.weight", "linear.bias")
NET = """
from collections import OrderedDict
from torch import nn

def net(shape, classes):
    layers = {"conv": nn.Conv2d(1, 2, 3), "relu": nn.ReLU(), "pool": nn.MaxPool2d(2), "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(layers, linear=nn.Linear(18, classes)))
"""


def of(case: str, place: str, end: str) -> Tensor:
    """What a quantizer saw in all steps."""
    return torch.from_numpy(DATA[f"{case}|{place}|{end}"])


def places(case: str) -> list[str]:
    return [name.split("|")[2] for name in DATA if name.startswith(f"{case}|") and name.endswith("|in")]


def test_the_file_has_ten_steps_of_each_role_in_each_format() -> None:
    for case in CASES:
        roles = {place.split()[1] for place in places(case)}
        kept = {"momentum"} if case.endswith("sgd") else set()
        assert roles == {"activation", "error", "gradient", "master", "weight"} | kept
        assert {len(of(case, place, end)) for place in places(case) for end in ("in", "out")} == {STEPS}


@pytest.mark.parametrize("case", CASES)
def test_each_role_is_rounded_as_recorded(case: str) -> None:
    for place in places(case):
        name = "bf16" if place.endswith(("master", "momentum")) else FORMATS[case.split("|")[0]]
        for given, expected in zip(of(case, place, "in"), of(case, place, "out"), strict=True):
            assert torch.equal(quantize(given, parse(f"{name} compat=qtorch")), expected), place


def settings_of(trial: Make, case: str) -> dict[str, Any]:
    kind, optimizer = case.split("|")
    own = {"lr": 2.0**-4, "momentum": 0.5, "weight_decay": 2.0**-6}
    if optimizer == "adam":
        own = {"lr": 2.0**-6, "betas": [0.0, 0.0], "eps": 2.0**-8}
    roles = {"weight": FORMATS[kind], "gradient": FORMATS[kind], "master": "bf16"}
    kept = {"momentum": "bf16"} if optimizer == "sgd" else {}
    shared = {"compat": "qtorch", "rounding": "nearest", "sources": {"m.py": "d"}, "model": "m.py:net"}
    return trial(optimizer=optimizer, quantize={**roles, **kept}, **shared, **own).settings


@pytest.mark.parametrize("case", CASES)
def test_the_step_goes_from_recorded_gradients_to_recorded_weights(trial: Make, case: str) -> None:
    """Second copy, weight and momentum after each of ten steps, exactly: hyperparameters are powers of two."""
    settings = settings_of(trial, case)
    assert settings["quantize_init"] is False
    net = build(settings["model"], {"d": NET}, (1, 8, 8), 10)
    values = {name: torch.from_numpy(DATA[f"{case}|init|{name}"].copy()) for name in PARAMETERS}
    stepper = Stepper([Settings(settings)], places_of(net, (1, 8, 8)), values)
    for step in range(STEPS):
        stepper.start(step + 1)
        gradients = {name: of(case, f"{name} gradient", "in")[step : step + 1].clone() for name in PARAMETERS}
        stepper.update(values, gradients, Noise(Stream(0), step + 1, "cpu"), slice(0, 1))
        assert_as_recorded(case, step, {"weight": values, "master": stepper.masters})
        if case.endswith("sgd"):
            remembered = {name: memory["momentum"] for name, memory in stepper._memory.items()}
            assert_as_recorded(case, step, {"momentum": remembered})


def assert_as_recorded(case: str, step: int, found: Mapping[str, Mapping[str, Tensor]]) -> None:
    for role, values in found.items():
        for name in PARAMETERS:
            assert torch.equal(values[name][0], of(case, f"{name} {role}", "out")[step]), (role, name, step)


@pytest.mark.parametrize("kind", ["block", "float32"])
def test_whole_runs_are_as_accurate_as_recorded(trial: Make, data_folder: Path, kind: str) -> None:
    """On digits, five seeds each, whose init and batches differ: the means are no further apart than chance allows."""
    ours = np.array([whole_run(trial, seed, kind, data_folder) for seed in range(5)])
    theirs = DATA[f"accuracy|{kind}"]
    error = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 5)
    assert abs(ours.mean() - theirs.mean()) < 4 * error
    assert ours.min() > 0.88


def whole_run(trial: Make, seed: int, kind: str, folder: Path) -> float:
    every = dict.fromkeys(("weight", "activation", "error", "gradient"), "block8")
    roles = {**every, "momentum": "bf16", "master": "bf16"} if kind == "block" else {}
    given = {"model": {"name": "mlp", "hidden": [32]}, "init": "torch", "lr": 0.1, "momentum": 0.9, "epochs": 10}
    compat = {"compat": "qtorch", "rounding": "nearest"} if kind == "block" else {}
    own = trial(seed, quantize=roles, batch_size=50, **given, **compat)
    digits = DATASETS["digits"]
    model = build(own.settings["model"], {}, digits.shape, digits.classes)
    initialize(model, own.settings["init"], Stream(seed))
    (outcome,) = Course(stacked_net(model, 1), model, [own.view], digits, load(digits, folder)).run()
    return float(outcome.epochs[-1]["test_accuracy"])  # type: ignore[arg-type]
