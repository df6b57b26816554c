"""The view of settings: what is absent means what was so before, and nothing that is read changes a key."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from qsweep.formats import parse
from qsweep.parameter import ALWAYS, listing
from qsweep.trial.key import Trial, key_of
from qsweep.trial.optimizers import OPTIMIZERS
from qsweep.trial.parameters import PLAIN
from qsweep.trial.settings import Compression, Quantization, Retraining, Settings

Make = Callable[..., Trial]
STAGES = [
    {"compress": {"weight": "uniform4 clip=99", "bias": "uniform8"}},
    {"retrain": {"epochs": 7, "lr": 0.25}},
    {"compress": {"weight": "ternary"}},
    {"retrain": {"codebook": "free"}},
]


def test_what_is_absent_means_what_was_so_before(trial: Make) -> None:
    view = trial(quantize={}, optimizer="sgd").view
    assert not {"histogram", "loss_scale", "quantize", "layers", "stages"} & view.given.keys()
    assert (view.histogram, view.loss_scale, view.quantize_init, view.iterations) == (0, 1.0, False, 0)
    assert (view.quantize, view.layers, view.stages, view.compressed) == ({}, {}, (), {})
    assert (view.optimizer.l1, view.output, view.source) == (0.0, "linear", None)


@pytest.mark.parametrize("name", ["histogram", "loss_scale"])
def test_parameters_that_came_later_are_read_with_what_they_mean_by_default(trial: Make, name: str) -> None:
    assert PLAIN[name].as_before is not ALWAYS
    assert getattr(trial(quantize={}).view, name) == PLAIN[name].as_before


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_has_all_its_parameters(trial: Make, optimizer: str) -> None:
    own = trial(optimizer=optimizer, lr=0.5).view.optimizer
    assert own.own.keys() == {"name", *listing(OPTIMIZERS[optimizer].parameters)}
    assert (own.name, own.lr) == (optimizer, 0.5)


def test_roles_are_formats_with_a_rounding_and_a_place(trial: Make) -> None:
    roles: dict[str, Any] = {"weight": "e4m3 at=operands", "error": "e5m2", "norm": "fixed8f4"}
    view = trial(quantize=roles, rounding="up", layers={"linear1": {"error": "block8"}, "linear2": "float32"}).view
    assert view.quantize["weight"] == Quantization(parse("e4m3"), "up", "operands")
    assert view.layers == {"linear1": {"error": Quantization(parse("block8"), "up")}, "linear2": None}
    assert view.quantized_roles == ("weight", "norm", "error")
    assert view.kept_roles == ("norm",)
    assert not view.names_axis


def test_stages_say_what_is_compressed_in_the_end(trial: Make) -> None:
    whole = trial(quantize={}, stages=STAGES)
    weight, bias = Quantization(parse("uniform4"), clip=99), Quantization(parse("uniform8"))
    first, second, third, last = (base.view for base in (*whole.bases[1:], whole))
    assert last.stages == (
        *(Compression({"weight": weight, "bias": bias}), Retraining(second.retrained.optimizer, keeps_levels=True)),
        *(Compression({"weight": Quantization(parse("ternary"))}), Retraining(last.optimizer, keeps_levels=False)),
    )
    assert first.compressed == second.compressed == {"weight": weight, "bias": bias}
    assert third.compressed == {"weight": Quantization(parse("ternary")), "bias": bias}
    assert last.compressed == {}
    assert [view.ends_compressing for view in (first, second, third, last)] == [True, False, True, False]
    assert (second.epochs, second.retrained.epochs, second.retrained.optimizer.lr) == (2, 7, 0.25)


def test_reading_and_sending_a_view_leaves_the_key_as_it_is(trial: Make) -> None:
    own = trial(quantize={"weight": "range4"}, stages=STAGES[:1])
    view = own.view
    for name in [name for name in dir(Settings) if not name.startswith("_") and name not in ("window", "retrained")]:
        getattr(view, name)
    assert pickle.loads(pickle.dumps(view)) == view  # noqa: S301
    assert key_of(view.given) == own.key
