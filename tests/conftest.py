"""Shared by all tests: the digits data set, decoded once, and a fixture that makes trials."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from qsweep.data.catalog import DATASETS
from qsweep.data.files import ensure
from qsweep.trial.checks import check
from qsweep.trial.environment import fix_products
from qsweep.trial.key import Trial
from qsweep.trial.resolve import resolve

fix_products()  # before a test module imports torch

# Background jobs of a shell ignore SIGINT, those of nohup SIGHUP, and so would all processes that these tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# No deadlines, since a busy machine may pause. By default the examples are the same everywhere;
# `--hypothesis-profile explore` tries others each time.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("same")


PROCESSES = {"project", "shell", "trained", "own_folder", "lab"}
"""Fixtures that run whole commands."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that run whole commands as slow, so that `-m 'not slow'` leaves them out."""
    for item in items:
        if PROCESSES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _forget_user_files() -> Iterator[None]:
    """Keep the search path of a user's model that a test built from affecting the next test."""
    yield
    if loading := sys.modules.get("qsweep.models.loading"):
        loading.forget()


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with digits."""
    folder = tmp_path_factory.mktemp("data")
    ensure(DATASETS["digits"], folder, lambda text: None)
    return folder


@pytest.fixture
def trial() -> Callable[..., Trial]:
    """Make a small trial on digits, with some parameters changed."""

    def make(seed: int = 0, sources: dict[str, str] | None = None, **changed: Any) -> Trial:
        given: dict[str, Any] = {
            "data": "digits",
            "model": {"name": "mlp", "hidden": [33], "dropout": 0.2},
            "init": "normal(0.1)",
            "lr": 0.25,
            "epochs": 2,
            "batch_size": 57,
            "rounding": "stochastic",
            "scale": 2,
            "bitwidth": 4,
            "quantize": {"weight": "range"},
        }
        parameters = {name: check(name, value) for name, value in {**given, **changed}.items()}
        return resolve(parameters, seed, sources)

    return make
