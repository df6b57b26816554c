"""What a trial costs: numbers that one can check by hand, and what must grow with what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qsweep.models.shapes import LinearShape
from qsweep.trial import cost
from qsweep.trial.key import Trial
from qsweep.trial.settings import Settings

MB = 1024 * 1024


def test_layers_of_a_net_have_its_widths(trial: Callable[..., Trial]) -> None:
    settings = trial(model={"name": "mlp", "hidden": [33, 7]}).view
    found = cost.layers(settings)
    assert found is not None
    assert [(layer.inputs, layer.outputs) for layer in found if isinstance(layer, LinearShape)] == [
        (64, 33),
        (33, 7),
        (7, 10),
    ]


def test_work_is_three_products_for_each_weight_and_example(trial: Callable[..., Trial]) -> None:
    settings = trial(model="softmax", epochs=4).view
    assert cost.work(settings) == 3 * (64 * 10 + 10) * 1500 * 4


@pytest.mark.parametrize("more", [{"epochs": 9}, {"model": {"name": "mlp", "hidden": [34]}}])
def test_work_grows_with_what_takes_longer(trial: Callable[..., Trial], more: dict[str, Any]) -> None:
    assert cost.work(trial(**more).view) > cost.work(trial().view)


def test_stack_fits_as_many_as_memory_holds(trial: Callable[..., Trial]) -> None:
    settings = trial(model="softmax", batch_size=1000).view
    one = 4 * (3 * 650 + 10 * 5 * 1000)
    assert cost.stack_fits(settings, 10 * one) == 10
    assert cost.stack_fits(settings, 10 * one - 1) == 9


def test_stack_fits_counts_the_evaluation_where_batches_are_small(trial: Callable[..., Trial]) -> None:
    settings = trial(model="softmax", batch_size=1).view
    assert cost.stack_fits(settings, 10 * 4 * (3 * 650 + 10 * 2 * cost.EVALUATION_BATCH)) == 10


def test_stack_fits_takes_no_batch_for_larger_than_the_data(trial: Callable[..., Trial]) -> None:
    settings = trial(batch_size=1_000_000).view
    assert cost.stack_fits(settings, 100 * MB) == cost.stack_fits(
        Settings({**settings.given, "batch_size": 1500}), 100 * MB
    )


@pytest.mark.parametrize("memory", [0, 1])
def test_stack_fits_at_least_one(trial: Callable[..., Trial], memory: int) -> None:
    assert cost.stack_fits(trial().view, memory) == 1


def test_a_users_model_has_work_and_a_place_though_nothing_is_known_of_it(trial: Callable[..., Trial]) -> None:
    settings = trial(model={"name": "mine.py:net"}, sources={"mine.py": "a" * 64}).view
    assert cost.layers(settings) is None
    assert (
        cost.work(Settings({**settings.given, "epochs": 2}))
        == 2 * cost.work(Settings({**settings.given, "epochs": 1}))
        > 0
    )
    assert cost.stack_fits(settings, 1024 * MB) == 4
    assert cost.stack_fits(settings, 0) == 1
