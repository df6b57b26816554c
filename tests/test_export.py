"""Export: what a trial has learnt, packed, comes back with every bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load

from qsweep import jobs
from qsweep.environment import describe
from qsweep.errors import UserError
from qsweep.export import export
from qsweep.packing import from_file
from qsweep.store import Store
from qsweep.trial import Trial
from qsweep.weights import Weights

Make = Callable[..., Trial]
COMPRESS = {"compress": {"weight": "kmeans5 per=channel", "bias": "uniform3"}}
SMALL: dict[str, Any] = {"quantize": {}, "epochs": 1, "model": {"name": "mlp", "hidden": [33]}}


@pytest.fixture
def run(tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bytes]]:
    monkeypatch.setenv("QSWEEP_DATA", str(data_folder))
    monkeypatch.setenv("QSWEEP_OFFLINE", "1")

    def run(trial: Trial, **changed: Any) -> list[bytes]:
        """The weights after each stage of a trial, which are in the results folder then, with its record."""
        found: list[bytes] = []
        weights = Weights.beside(tmp_path, describe("cpu"))
        with closing(Store.open(tmp_path / "store.db")) as store:
            for one in (*trial.bases, trial):
                (record,) = jobs.train_stack(
                    [one.settings], found[-1:], sources={}, data_folder=str(data_folder), device="cpu", timeout=None,
                    kept=[one.key],
                )  # fmt: skip
                found.append(record["weights"])
                weights.put(one.key, record["weights"])
                store.add([{**record, **changed}], store.begin_run({}))
        return found

    return run


def said_of(tmp_path: Path, key: str) -> tuple[int, list[str]]:
    said: list[str] = []
    return export(tmp_path, key, tmp_path / "model.safetensors", said.append), said


def test_compressed_weights_come_back_from_a_file_of_the_size_that_the_table_claims(
    tmp_path: Path, trial: Make, run: Callable[..., list[bytes]]
) -> None:
    for stages in ([COMPRESS], [COMPRESS, {"retrain": {}}]):
        own = trial(**SMALL, stages=stages)
        weights = run(own)[-1]
        size, _ = said_of(tmp_path, own.key[:12])
        content = (tmp_path / "model.safetensors").read_bytes()
        with closing(Store.view(tmp_path / "store.db")) as store:
            assert store.like(own.key)[0].result["compressed_bytes"] == size == len(content)
        found, expected = from_file(content), load(weights)
        assert found.keys() == expected.keys()
        assert all(found[name].tobytes() == value.tobytes() for name, value in expected.items())
        assert size < len(weights) / 2


@pytest.mark.parametrize(
    ("formats", "bits"),
    [
        ({"weight": "block4 per=16"}, {"weight": 4.5, "bias": 5}),
        ({"weight": "mxfp4", "bias": "fixed8f6"}, {"weight": 4.25, "bias": 8}),
        ({"weight": "uniform4 symmetric=true", "bias": "float32", "master": "float32"}, {"weight": 4.1, "bias": 32}),
        ({"weight": {"format": "block4", "at": "operands"}}, {"weight": 32, "bias": 32}),
    ],
)
def test_weights_that_training_keeps_rounded_are_exported_in_their_codes_and_scales(
    tmp_path: Path, trial: Make, run: Callable[..., list[bytes]], formats: dict[str, Any], bits: dict[str, float]
) -> None:
    own = trial(**{**SMALL, "quantize": formats, "model": {"name": "mlp", "hidden": [64]}})
    (weights,) = run(own)
    size, _ = said_of(tmp_path, own.key)
    content = (tmp_path / "model.safetensors").read_bytes()
    found, expected = from_file(content), load(weights)
    assert found.keys() == expected.keys()
    assert all(found[name].tobytes() == value.tobytes() for name, value in expected.items())
    most = sum(value.size * bits[name.rpartition(".")[2]] for name, value in expected.items()) / 8
    assert 0.9 * most < size < most + 1500


def test_weights_that_were_not_kept_are_trained_again(
    tmp_path: Path, trial: Make, run: Callable[..., list[bytes]]
) -> None:
    own = trial(**SMALL)
    (weights,) = run(own)
    Weights.beside(tmp_path, "").drop(own.key)
    size, said = said_of(tmp_path, own.key)
    assert "were not kept: training" in said[0]
    assert from_file((tmp_path / "model.safetensors").read_bytes()).keys() == load(weights).keys()
    assert Weights.beside(tmp_path, describe("cpu")).get(own.key) == weights
    assert said_of(tmp_path, own.key) == (size, [])


def test_weights_that_a_stage_left_and_that_are_lost_are_said(
    tmp_path: Path, trial: Make, run: Callable[..., list[bytes]]
) -> None:
    own = trial(**SMALL, stages=[COMPRESS])
    run(own)
    Weights.beside(tmp_path, "").drop(own.key)
    with pytest.raises(UserError, match="are lost: `qsweep run SPEC --force` makes them again"):
        said_of(tmp_path, own.key)


def test_a_trial_that_is_not_done_has_no_weights(tmp_path: Path, trial: Make, run: Callable[..., list[bytes]]) -> None:
    own = trial(**SMALL)
    run(own, status="diverged", reason="NaN", result={})
    with pytest.raises(UserError, match="is diverged: it has no weights"):
        said_of(tmp_path, own.key)


def test_a_record_that_does_not_come_out_again_is_said(
    tmp_path: Path, trial: Make, run: Callable[..., list[bytes]]
) -> None:
    own = trial(**SMALL)
    run(own, result={"test_accuracy": 0.5})
    Weights.beside(tmp_path, "").drop(own.key)
    with pytest.raises(UserError, match="gave another result"):
        said_of(tmp_path, own.key)
