"""Inspection of nets before training, and isolation of users' files in separate processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from project import SERIAL, Project

HEAD = "import os, sys, time, threading\nimport torch\nfrom torch import nn\n"
NET = "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.{}(), nn.Linear(9, classes))\n"
SPEC = """
trial: {data: digits, model: "nets.py:net", epochs: 1, batch_size: 300, quantize: {weight: range4}}
grid: {lr: [0.5, 0.25, 0.125]}
"""


@pytest.fixture
def project(tmp_path: Path, data_folder: Path) -> Project:
    made = Project(tmp_path, data_folder)
    made.write("own.yaml", SPEC)
    return made


def write(project: Project, before: str = "", activation: str = "ReLU", after: str = "", name: str = "nets.py") -> None:
    """A model's file whose function first executes a statement."""
    net = NET.format(activation)
    project.write(name, f"{HEAD}{after}\ndef net(shape, classes):\n    {before or 'pass'}\n{net}")


def test_dry_run_shows_which_own_nets_stack(project: Project) -> None:
    write(project)
    assert "2 stacks of 3" in project.out("run", "own.yaml", "-n", "-j", "1", "-S", "lr=[0.5, 0.25, 0.125, 1, 2, 4]")
    write(project, activation="Sigmoid")
    assert "6 stacks of 1" in project.out("run", "own.yaml", "-n", "-j", "1", "-S", "lr=[0.5, 0.25, 0.125, 1, 2, 4]")


FATAL = {
    "os._exit(7)": "its process ended with exit code 7",
    "import ctypes; ctypes.string_at(0)": "its process was killed by SIGSEGV",
    "sys.exit(3)": "SystemExit: 3",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
}


@pytest.mark.parametrize("way", [("--backend", "serial"), ("-j", "2")], ids=" ".join)
def test_net_that_ends_its_process_fails_alone(project: Project, way: Sequence[str]) -> None:
    bad = "".join(f"  bad{n}: {{model: 'n{n}.py:net'}}\n" for n in range(len(FATAL)))
    project.write("two.yaml", f"{SPEC}variants:\n{bad}  good: {{model: softmax}}\n")
    write(project)
    for number, before in enumerate(FATAL):
        write(project, before, name=f"n{number}.py")
    output = project.run("run", "two.yaml", "--no-plot", *way, code=1)
    rows = {n: [row for row in project.rows("two") if row["variant"] == f"bad{n}"] for n in range(len(FATAL))}
    for number, reason in enumerate(FATAL.values()):
        assert [row["status"] for row in rows[number]] == ["failed"] * 3
        assert {row["reason"] for row in rows[number]} == {f"building the net failed: {reason}"}
    assert {row["status"] for row in project.rows("two") if row["variant"] == "good"} == {"done"}
    assert output.count("  3 of them failed: building the net failed: ") == 3  # and what there is no room for


def test_dry_run_reports_which_trials_will_fail_and_why(project: Project) -> None:
    write(project, "os._exit(7)")
    process = project.start("run", "own.yaml", "-n")
    out, _ = process.communicate()
    assert "3 will fail: building the net failed: its process ended with exit code 7" in out
    assert process.returncode == 1
    assert not (project.folder / "results").exists()


MISTAKES = {
    "def other(shape, classes): ...": "the model's file has no function 'net'",
    "def net(shape, classes): return 3": "'net' returned an int, expected a torch.nn.Module",
    "def net(shape): ...": "TypeError: net() takes 1 positional argument but 2 were given",
    "def net(shape, classes): raise ValueError('no width')": "ValueError: no width (nets.py, line 2)",
    "def net(shape, classes):\n    from helper import width\n    return width()": "(helper.py, line 2)",
    "def net(:": "SyntaxError: invalid syntax (nets.py, line 1)",
    "import nowhere_at_all": "ModuleNotFoundError: No module named 'nowhere_at_all'",
    "from torch import nn\ndef net(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))": (
        "has the shape (2, 3), expected (2, 10)"
    ),
    "from torch import nn\ndef net(shape, classes): return nn.Linear(3, classes)": "RuntimeError: ",
}


@pytest.mark.parametrize(("text", "reason"), MISTAKES.items())
def test_mistake_in_an_own_model_is_found_by_one_build_before_training(
    project: Project, text: str, reason: str
) -> None:
    project.write(
        "nets.py", f"open({str(project.folder / 'log')!r}, 'a').write('.')\n{text}\n" if "(:" not in text else text
    )
    project.write("helper.py", "def width():\n    return 1 / 0\n")
    output = project.run("run", "own.yaml", *SERIAL, code=1)
    assert "to train 0" in output
    assert {row["status"] for row in project.rows("own")} == {"failed"}
    assert all(reason in row["reason"] for row in project.rows("own"))
    assert output.count("ailed: ") <= 2
    if "(:" not in text:
        assert (project.folder / "log").read_text() == "."


def test_each_reason_of_failure_is_reported_once(project: Project) -> None:
    write(project, "raise ValueError(f'width {width}')")
    text = (project.folder / "nets.py").read_text().replace("(shape, classes)", "(shape, classes, width)")
    project.write("nets.py", text)
    project.write("own.yaml", SPEC.replace("lr: [", "model.width: [1, 2], lr: ["))
    output = project.run("run", "own.yaml", *SERIAL, code=1)
    assert "  3 of them failed: ValueError: width 1 (nets.py, line 6) (`qsweep why " in output
    assert "  3 of them failed: ValueError: width 2 (nets.py, line 6) (`qsweep why " in output


@pytest.mark.parametrize("way", [("run", "--backend", "serial"), ("run", "-j", "1"), ("run", "-n")])
def test_own_model_runs_in_a_separate_process(project: Project, way: list[str]) -> None:
    note = "open('PIDS', 'a').write(json.dumps([os.getpid(), os.getppid()]) + '\\n')"
    write(project, after=f"import json\n{note.replace('PIDS', str(project.folder / 'pids'))}\n")
    process = project.start(*way, "own.yaml", *(["--no-plot"] if "-n" not in way else []))
    process.communicate()
    assert process.returncode == 0
    pids = [json.loads(line) for line in (project.folder / "pids").read_text().splitlines()]
    assert process.pid not in {own for own, _ in pids}
    assert len({own for own, _ in pids}) == len(pids) == (1 if "-n" in way else 1 + 2)


@pytest.mark.parametrize("way", [("--backend", "serial"), ("-j", "1")])
def test_own_model_prints_to_stderr_and_its_threads_delay_nothing(project: Project, way: list[str]) -> None:
    write(project, "print('a word')", after="threading.Thread(target=time.sleep, args=(600,)).start()\n")
    process = project.start("run", "own.yaml", "--no-plot", *way)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "results/own/trials.csv\n")
    assert "a word" in err


NEIGHBOURS = """
name: both
trial: {data: digits, epochs: 2, batch_size: 57, init: glorot_uniform}
grid: {lr: [0.3]}
variants:
  theirs: {model: "nets.py:net"}
  ours: {model: {name: mlp, hidden: [9]}}
  clean: {model: "clean.py:net"}
"""


@pytest.mark.parametrize("way", [("--backend", "serial"), ("-j", "1")])
def test_own_model_does_not_affect_other_trials(project: Project, way: list[str]) -> None:
    project.write("both.yaml", NEIGHBOURS)
    write(project)
    project.write("clean.py", (project.folder / "nets.py").read_text())
    project.run("run", "both.yaml", "--no-plot", *way, "--results", "quiet")
    loud = (
        "torch.set_float32_matmul_precision('medium'); torch.autograd.set_detect_anomaly(True);"
        " torch.set_flush_denormal(True); torch.nn.functional.linear = None; torch.relu = None;"
        " torch.Tensor.t = None; os.environ.clear(); torch.nn.Module.zero_grad = None"
    )
    write(project, after=loud)
    project.run("run", "both.yaml", "--no-plot", *way, "--results", "loud", code=1)

    def others(results: str) -> list[str]:
        return (project.folder / results / "both" / "trials.csv").read_text().splitlines()[2:]

    assert others("loud") == others("quiet")


# --- what a net lacks, at its place in the spec -----------------------------------------------------------------------

TWO = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes, kind):
        super().__init__()
        self.a, self.b, self.kind = nn.Linear(64, 9), nn.Linear(9, classes), kind

    def forward(self, x):
        x = self.a(x.flatten(1))
        x = torch.relu(x) if self.kind == "relu" else torch.tanh(x)
        return (self.b(x), 1) if self.kind == "pair" else self.b(x)


def net(shape, classes, kind="relu"):
    return Net(classes, kind)
"""
OWN = "trial: {data: digits, epochs: 1, model: {name: 'two.py:net', kind: relu}, quantize: {activation: fixed8f4}"


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("\n  , layers: {aa: float32}}", "two.yaml:2:14: layers.aa: unknown place 'aa'; did you mean 'a'?"),
        ("\n  ,\n  layers: {a: {norm: fixed4f2}}}", "two.yaml:3:12: layers.a: it has no norm"),
        ("}\ngrid:\n  layers: [{a: float32}, {c: float32}]", "two.yaml:3:3: layers.c: unknown place 'c'"),
        (
            "}\nvariants:\n  one: {model: 'torchvision:resnet8'}",
            "two.yaml:3:9: model: unknown classifier of torchvision",
        ),
        (
            "}\nvariants:\n  one:\n    quantize: {activation: block8 per=4 axis=7}",
            "two.yaml:4:16: quantize.activation: ",
        ),
        (
            ", histogram: 9}\nplots: [{kind: histogram, place: a.wieght}]",
            "two.yaml:2:27: plots[0].place: unknown place 'a.wieght'; did you mean 'a.weight'? (one of: a.bias, a.weight,",
        ),
    ],
)
def test_what_a_net_lacks_is_reported_with_its_line_before_training(project: Project, rest: str, message: str) -> None:
    project.write("two.py", TWO)
    project.write("two.yaml", OWN + rest)
    for words in (("-n",), ()):
        assert message in project.run("run", "two.yaml", *words, code=2)
    assert not (project.folder / "results" / "two" / "trials.csv").exists()


def test_what_a_net_lacks_is_reported_at_the_override_that_says_it(project: Project) -> None:
    project.write("two.py", TWO)
    project.write("two.yaml", OWN + "}")
    said = project.run("run", "two.yaml", "-n", "-S", "layers={aa: float32}", code=2)
    assert "-S layers: layers.aa: unknown place 'aa'" in said


def test_dry_run_lists_weights_with_fewer_values_than_a_group(project: Project) -> None:
    net = "nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, classes))"
    project.write("conv.py", f"from torch import nn\ndef net(shape, classes):\n    return {net}\n")
    head = 'trial: {data: digits, model: "conv.py:net", epochs: 1}\nvariants:\n'
    formats = "  a: {quantize: {weight: mxfp4}}\n  b: {stages: [{compress: {weight: nvfp4}}]}\n"
    project.write("conv.yaml", head + formats)
    found = [line for line in project.out("run", "conv.yaml", "-n").splitlines() if "short groups" in line]
    assert found == [
        "  short groups in conv.py:net: mxfp4 on 0.weight: groups of 1 value, 12 bits per value",
        "  short groups in conv.py:net: nvfp4 on 0.weight: groups of 1 value, 12.44 bits per value",
    ]


def test_dry_run_lists_the_places_of_each_of_several_nets_and_says_which_fail(project: Project) -> None:
    project.write("two.py", TWO)
    project.write("two.yaml", OWN + "}\ngrid: {model.kind: [relu, tanh, pair], lr: [0.1, 0.2]}")
    process = project.start("run", "two.yaml", "-n")
    said, _ = process.communicate()
    assert process.returncode == 1
    assert "places of two.py:net (model.kind=relu): a, relu(), b; outputs are rounded at relu(), b" in said
    assert "places of two.py:net (model.kind=tanh): a, tanh(), b; outputs are rounded at tanh(), b" in said
    assert "2 will fail (model.kind=pair): the model returned a tuple, expected a tensor of shape (2, 10)" in said
