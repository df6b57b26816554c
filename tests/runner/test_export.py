"""Export: the weights of a trial are packed and read back bit for bit."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load

from qsweep.errors import UserError
from qsweep.formats.packing import from_file, load_weights
from qsweep.results.store import Store
from qsweep.results.weights import Weights
from qsweep.runner.export import export
from qsweep.training import job
from qsweep.trial.checks import check
from qsweep.trial.environment import describe
from qsweep.trial.key import Trial
from qsweep.trial.resolve import resolve

pytestmark = pytest.mark.slow

Make = Callable[..., Trial]
COMPRESS = {"compress": {"weight": "kmeans5 per=channel", "bias": "uniform3"}}
SMALL: dict[str, Any] = {"quantize": {}, "epochs": 1, "model": {"name": "mlp", "hidden": [33]}}


@pytest.fixture
def run(tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bytes]]:
    monkeypatch.setenv("QSWEEP_DATA", str(data_folder))
    monkeypatch.setenv("QSWEEP_OFFLINE", "1")

    def run(trial: Trial, sources: dict[str, str] | None = None, **changed: Any) -> list[bytes]:
        """Run the stages of a trial and store their weights and record in the results folder; returns the weights."""
        found: list[bytes] = []
        weights = Weights.beside(tmp_path, describe("cpu"))
        with closing(Store.open(tmp_path / "store.db")) as store:
            for one in (*trial.bases, trial):
                (record,) = job.Job(sources or {}, data_folder, "cpu", kept=[one.key])([one.settings], found[-1:])
                found.append(record.get("weights", b""))
                if "weights" in record:
                    weights.put(one.key, record["weights"])
                store.add([{**record, **changed}], store.begin_run({}))
        return found

    return run


def said_of(tmp_path: Path, key: str) -> tuple[int, list[str]]:
    output: list[str] = []
    return export(tmp_path, key, tmp_path / "model.safetensors", output.append), output


def test_compressed_weights_are_read_back_from_a_file_of_the_size_in_the_table(
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


FIXED, FLOAT = "fixed8f6", "float32"
DEEP = {"name": "mlp", "hidden": [9, 9]}
NORMED = """
from torch import nn, ones

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(ones(2, 3))

    def forward(self, x):
        return x * self.weight.mean()

def net(shape, classes):
    frozen = nn.Linear(54, 54)
    frozen.requires_grad_(False)
    nn.init.eye_(frozen.weight)
    first = nn.Conv2d(1, 6, 3)
    return nn.Sequential(
        first, nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), Scaled(), frozen, nn.Linear(54, classes)
    )
"""


def bits_in(content: bytes, parameters: set[str]) -> int:
    """The bits of the parameters in an exported file, from its header: codes, scales, and unpacked values."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = json.loads(header.pop("__metadata__")["packed"])
    sizes = {name: 8 * (own["data_offsets"][1] - own["data_offsets"][0]) for name, own in header.items()}
    packed = sum(own["bits"] * math.prod(own["shape"]) + sizes[f"{name}.levels"] for name, own in about.items())
    return packed + sum(sizes[name] for name in parameters - about.keys())


@pytest.mark.parametrize(
    "changed",
    [
        {"quantize": {"weight": FIXED, "bias": "fixed4f2", "master": FLOAT}},
        {"quantize": {"weight": "uniform4 symmetric=true per=channel", "bias": "binary"}},
        {"quantize": {"weight": "uniform3 per=channel"}},
        {"quantize": {"weight": "nvfp4", "master": FLOAT}},
        {"quantize": {"weight": "ternary per=channel", "bias": "po2_4"}},
        {"quantize": {"weight": "mxfp4", "bias": "e4m3"}},
        {"quantize": {"weight": "po2_3 per=8", "bias": "range4"}},
        {"quantize": {"weight": {"format": "block4", "at": "operands"}, "bias": "mxint8"}},
        {"quantize": {"weight": "block4 per=16"}, "layers": {"linear1": {"weight": "mxfp8", "bias": FIXED}}},
        {"quantize": {"weight": "block4 per=16", "bias": FIXED}, "layers": {"linear2": FLOAT}},
        {"quantize": {"weight": "uniform2 symmetric=true", "bias": "e4m3"}, "layers": "float32_ends", "model": DEEP},
        {"quantize": {"weight": "ternary"}, "stages": [{"retrain": {}}]},
        {"quantize": {"weight": "ternary"}, "stages": [COMPRESS, {"retrain": {"codebook": "free"}}]},
        {
            "quantize": {"weight": "block4", "bias": FIXED, "norm": "bf16"},
            "layers": {"0": {"weight": "fixed6f4", "bias": "binary"}},
            "model": "own.py:net",
        },
    ],
    ids=str,
)
def test_model_bits_equal_those_in_the_exported_file(
    tmp_path: Path, trial: Make, run: Callable[..., list[bytes]], changed: dict[str, Any]
) -> None:
    digest = hashlib.sha256(NORMED.encode()).hexdigest()
    own = trial(**{**SMALL, **changed}, sources={"own.py": digest})
    weights = run(own, {digest: NORMED})[-1]
    said_of(tmp_path, own.key)
    content = (tmp_path / "model.safetensors").read_bytes()
    tensors = load(weights)
    assert {name: value.tobytes() for name, value in from_file(content).items()} == {
        name: value.tobytes() for name, value in tensors.items()
    }
    with closing(Store.view(tmp_path / "store.db")) as store:
        (record,) = store.like(own.key)
    parameters = {name for name in tensors if "running" not in name and "num_batches" not in name}
    assert record.run["model_bits"] == bits_in(content, parameters)
    assert "model_bits" not in record.result


def test_layers_of_older_records_are_exported_in_the_codes_of_their_formats(
    tmp_path: Path, trial: Make, run: Callable[..., list[bytes]]
) -> None:
    """These records do not have the formats of parameters that training keeps rounded."""
    layers = {"linear1": {"weight": "mxfp8", "bias": FIXED}, "linear2": FLOAT}
    own = trial(**{**SMALL, "quantize": {"weight": "block4"}, "layers": layers})
    (weights,) = run(own, run={"seconds": 1.0, "stack": 1})
    said_of(tmp_path, own.key)
    found = bits_in((tmp_path / "model.safetensors").read_bytes(), set(load(weights)))
    assert found == 33 * 64 * 8 + 33 * 2 * 8 + 33 * 8 + (10 * 33 + 10) * 32


def test_weights_that_were_not_stored_are_retrained(
    tmp_path: Path, trial: Make, run: Callable[..., list[bytes]]
) -> None:
    own = trial(**SMALL)
    (weights,) = run(own)
    Weights.beside(tmp_path, "").delete(own.key)
    size, output = said_of(tmp_path, own.key)
    assert "were not stored: retraining" in output[0]
    assert load_weights(tmp_path / "model.safetensors").keys() == load(weights).keys()
    assert Weights.beside(tmp_path, describe("cpu")).get(own.key) == weights
    assert said_of(tmp_path, own.key) == (size, [])


def test_lost_weights_of_a_stage_are_reported(tmp_path: Path, trial: Make, run: Callable[..., list[bytes]]) -> None:
    own = trial(**SMALL, stages=[COMPRESS])
    run(own)
    Weights.beside(tmp_path, "").delete(own.key)
    with pytest.raises(UserError, match="are lost: retrain them with `qsweep run SPEC --force`"):
        said_of(tmp_path, own.key)


def test_trial_that_is_not_done_has_no_weights(tmp_path: Path, trial: Make, run: Callable[..., list[bytes]]) -> None:
    own = trial(**SMALL)
    run(own, status="diverged", reason="NaN", result={})
    with pytest.raises(UserError, match="is diverged: it has no weights"):
        said_of(tmp_path, own.key)


def test_single_example_trial_has_no_weights(tmp_path: Path, run: Callable[..., list[bytes]]) -> None:
    given = {"data": "digits", "model": "softmax", "lr": 0.1, "loss": "squared_error", "iterations": 20, "window": 10}
    own = resolve({name: check(name, value) for name, value in given.items()}, 0)
    run(own)
    with pytest.raises(UserError, match=r"trained on one example at a time \(iterations\), which stores no weights"):
        said_of(tmp_path, own.key)


def test_record_that_can_not_be_reproduced_is_reported(
    tmp_path: Path, trial: Make, run: Callable[..., list[bytes]]
) -> None:
    own = trial(**SMALL)
    run(own, result={"test_accuracy": 0.5})
    Weights.beside(tmp_path, "").delete(own.key)
    with pytest.raises(UserError, match="had another result"):
        said_of(tmp_path, own.key)
