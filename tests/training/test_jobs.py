"""The job: records out of settings, whatever happens inside; never an exception."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT

from qsweep.training import job
from qsweep.training.failures import without_paths
from qsweep.training.job import Job
from qsweep.trial.environment import describe
from qsweep.trial.key import Trial

pytestmark = pytest.mark.slow

Make = Callable[..., Trial]


def run(trials: list[Trial], folder: Path, timeout: float | None = None, **sources: str) -> list[dict[str, Any]]:
    settings = [trial.settings for trial in trials]
    return Job(sources, folder, "cpu", timeout)(settings)


def test_job_gives_a_record_for_each_trial_in_order(data_folder: Path, trial: Make) -> None:
    trials = [trial(lr=0.1), trial(lr=0.2)]
    records = run(trials, data_folder)
    assert [r["key"] for r in records] == [t.key for t in trials]
    for record, own in zip(records, trials, strict=True):
        assert record["status"] == "done"
        assert record["reason"] == ""
        assert record["trial"] == own.settings
        assert record["environment"] == describe("cpu")
        assert [row["epoch"] for row in record["history"]] == [1, 2]
        assert record["result"].items() <= record["history"][-1].items()
        assert record["run"]["stack"] == 2
        assert record["run"]["seconds"] > 0


def test_job_is_the_same_under_any_number_of_ambient_threads_and_restores_it(data_folder: Path, trial: Make) -> None:
    before = torch.get_num_threads()
    histories = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        histories.append(run([trial()], data_folder)[0]["history"])
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert histories[0] == histories[1]


def test_job_a_diverged_trial_has_no_result_but_a_reason(data_folder: Path, trial: Make) -> None:
    bad, good = run([trial(lr=1e30, quantize={}), trial(lr=0.1, quantize={})], data_folder)
    assert (bad["status"], bad["result"]) == ("diverged", {})
    assert "epoch 1" in bad["reason"]
    assert good["status"] == "done"


def test_job_an_error_in_a_users_model_is_a_failed_record(data_folder: Path, trial: Make) -> None:
    text = "def net(shape, classes):\n    raise RuntimeError('no such\\nlayer')"
    (record,) = run([trial(sources={"m.py": "d"}, model="m.py:net")], data_folder, d=text)
    assert record["status"] == "failed"
    assert record["reason"] == "RuntimeError: no such layer (<model>, line 2)"
    assert "in net" in record["run"]["log"]
    assert (record["result"], record["history"]) == ({}, [])


def test_job_what_went_wrong_is_told_without_the_users_folders(data_folder: Path, trial: Make) -> None:
    text = "def net(shape, classes):\n    open('/home/alice/my work/weights.pt')"
    (record,) = run([trial(sources={"m.py": "d"}, model="m.py:net")], data_folder, d=text)
    assert (
        record["reason"] == "FileNotFoundError: [Errno 2] No such file or directory: '…/weights.pt' (<model>, line 2)"
    )
    assert "alice" not in record["run"]["log"].replace("open('/home/alice/my work/weights.pt')", "")
    assert str(ROOT) not in record["run"]["log"]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('File "/usr/lib/a.py", line 3', 'File "…/a.py", line 3'),
        ("no /home/alice/x/w.pt here", "no …/w.pt here"),
        ("(/etc/passwd), ~/me.txt and C:/Users/me/x", "(…/passwd), …/me.txt and …/x"),
        ("https://alice@host.example/a/b?x", "…"),
        ("file an issue at https://github.com/pytorch/pytorch/issues if", "file an issue at … if"),
        ("('file:///home/alice/x.pt')", "('…')"),
        ("$QSWEEP_DATA/mnist.u8: 1/2 of a/b, 3 / 4", "$QSWEEP_DATA/mnist.u8: 1/2 of a/b, 3 / 4"),
    ],
)
def test_without_paths_keeps_last_names_and_all_that_is_no_path(text: str, masked: str) -> None:
    assert without_paths(text) == masked


def test_job_a_syntax_error_in_a_users_file_is_a_failed_record(data_folder: Path, trial: Make) -> None:
    (record,) = run([trial(sources={"m.py": "d"}, model="m.py:net")], data_folder, d="def net(:")
    assert record["status"] == "failed"
    assert record["reason"].startswith("SyntaxError")


ON_VALUES = {
    "an if": "if len(x) > 2 and h.mean() > 0:\n            h = h * 2",
    "a number": "if len(x) > 2:\n            h = h * float(h.mean())",
    "a shape": "if len(x) > 2:\n            h = h + h[h > 0].mean()",
}


@pytest.mark.parametrize("lines", ON_VALUES.values(), ids=ON_VALUES.keys())
def test_job_a_net_that_is_found_to_stack_and_needs_single_values_says_what_to_do(
    data_folder: Path, trial: Make, lines: str
) -> None:
    text = f"""
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(64, 10)
    def forward(self, x):
        h = self.l(x.flatten(1))
        {lines}
        return h
def net(shape, classes):
    return Net()
"""
    own: dict[str, Any] = {"sources": {"m.py": "d"}, "model": "m.py:net", "quantize": {}}
    (record,) = run([trial(**own)], data_folder, d=text)
    assert record["status"] == "failed"
    assert "let it do so at every batch size" in record["reason"]
    assert re.search(r" or use torch\.where \(<model>, line (9|10)\)$", record["reason"])
    assert "vmap" in record["run"]["log"]
    (record,) = run([trial(**own)], data_folder, d=text.replace("len(x) > 2", "len(x) > 0"))  # as it says
    assert record["status"] == "done"


def test_job_a_users_net_that_does_not_stack_is_trained_one_by_one(data_folder: Path, trial: Make) -> None:
    text = """
from torch import nn
def net(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Sigmoid(), nn.Linear(20, classes))
"""
    given: dict[str, Any] = {"sources": {"m.py": "d"}, "model": "m.py:net", "init": "glorot_uniform"}
    trials = [trial(lr=0.5, **given), trial(lr=0.1, **given)]
    together = run(trials, data_folder, d=text)
    alone = run(trials[1:], data_folder, d=text)
    assert [r["status"] for r in together] == ["done", "done"]
    assert alone[0]["history"] == together[1]["history"]


@pytest.mark.parametrize(
    "drawn",
    [
        "torch.randn(classes)",
        "torch.tensor(np.random.standard_normal(classes)).float()",
        "torch.tensor([random.random() for _ in range(classes)])",
    ],
)
def test_job_a_users_own_initial_values_depend_on_the_seed_alone(data_folder: Path, trial: Make, drawn: str) -> None:
    text = """
import random
import numpy as np
import torch
from torch import nn
class Shifted(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.line, self.shift = nn.Linear(64, classes), nn.Parameter(DRAWN)
    def forward(self, x):
        return self.line(x.flatten(1)) + self.shift
def net(shape, classes):
    return Shifted(classes)
""".replace("DRAWN", drawn)
    given: dict[str, Any] = {"sources": {"m.py": "d"}, "model": "m.py:net"}
    torch.manual_seed(1)
    one = run([trial(**given)], data_folder, d=text)[0]["history"]
    torch.manual_seed(2)
    assert run([trial(**given)], data_folder, d=text)[0]["history"] == one
    assert run([trial(seed=1, **given)], data_folder, d=text)[0]["history"] != one


def test_job_out_of_time_is_a_timeout_even_inside_a_users_endless_loop(data_folder: Path, trial: Make) -> None:
    text = "def net(shape, classes):\n    while True: pass"
    (record,) = run([trial(sources={"m.py": "d"}, model="m.py:net")], data_folder, timeout=0.3, d=text)
    assert (record["status"], record["reason"]) == ("timeout", "took longer than 0.3 s")


def test_job_a_users_net_that_blocks_its_timeout_is_ended(
    data_folder: Path, trial: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "GRACE_SECONDS", 1)
    blocked = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})"
    text = f"def net(shape, classes):\n    {blocked}\n    while True: pass"
    own = trial(sources={"m.py": "d"}, model="m.py:net")
    (record,) = run([own], data_folder, timeout=0.3, d=text)
    assert (record["status"], record["reason"]) == ("timeout", "took longer than 0.3 s, and was ended")


def test_job_a_users_file_does_not_say_where_it_ran(data_folder: Path, trial: Make) -> None:
    text = """
import os
os.environ["MKL_CBWR"] = "COMPATIBLE"
os.environ["ATEN_CPU_CAPABILITY"] = "default"
from torch import nn
def net(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""
    (record,) = run([trial(sources={"m.py": "d"}, model="m.py:net")], data_folder, d=text)
    assert (record["status"], record["environment"]) == ("done", describe("cpu"))


def test_job_missing_data_is_a_failed_record_that_says_what_to_do(tmp_path: Path, trial: Make) -> None:
    (record,) = run([trial()], tmp_path)
    assert record["status"] == "failed"
    assert "qsweep data get digits" in record["reason"]
