"""The documents: their commands run, their links resolve, their code does what they say."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import commands
import pytest
from cogapp import Cog
from paths import ROOT

from qsweep.spec.file import read
from qsweep.spec.plan import expand

DOCUMENTS = sorted(
    [*(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")), *(ROOT / "docs").glob("*.md")]
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
ELSEWHERE = ("README.md", "cli.md")
"""Documents whose commands have their own test, or are generated and repeat those of other documents."""
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")


def anchors(document: Path) -> set[str]:
    """The headings of a document as GitHub names them in links."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_resolve_to_files_and_headings(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        path, _, heading = target.partition("#")
        if path.startswith("http"):
            continue
        file = document.parent / path if path else document
        assert file.exists(), target
        assert not heading or heading in anchors(file), target


def test_generated_parts_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--check", "--diff", "--verbosity=0", "-I", str(ROOT / "tools")]
    assert Cog().main(["cog", *options, *map(str, (ROOT / "docs").glob("*.md"))]) == 0, (
        f"run `make docs`\n{capsys.readouterr().out}"
    )


def test_examples_of_contributing_fit_into_the_named_files() -> None:
    """Each runs in the namespace of its file, with copies of its dicts; a new file begins empty."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n# (\S+)\.py.*\n((?:.*\n)*?)```", text)
    assert len(examples) == 7
    for file, code in examples:
        is_there = (ROOT / f"{file}.py").exists()
        scope = dict(vars(importlib.import_module(file.replace("/", ".")))) if is_there else {}
        exec(code, {name: dict(value) if isinstance(value, dict) else value for name, value in scope.items()})  # noqa: S102


def commands_of(text: str) -> list[list[str]]:
    """The indented `qsweep …` lines of a document, without their comments."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    qsweep ")]
    return [shlex.split(re.split(r"\s{2,}", line)[0], comments=True)[1:] for line in lines]


def qsweep(folder: Path, data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return commands.qsweep(folder, {**os.environ, "QSWEEP_DATA": str(data), "QSWEEP_OFFLINE": "1"}, *words)


@pytest.mark.slow
def test_readme_spec_and_commands_run_unchanged(tmp_path: Path, data_folder: Path) -> None:
    name = "first.yaml"
    (tmp_path / name).write_text(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0], encoding="utf-8")
    found = commands_of(README)
    assert len(found) >= 6
    for words in found:
        done = qsweep(tmp_path, data_folder, *words)
        assert done.returncode == 0, (words, done.stderr)
    assert (tmp_path / "results" / "first" / "figures" / "heatmap-test_accuracy.png").is_file()


def test_readme_spec_is_valid_under_any_file_name(tmp_path: Path, data_folder: Path) -> None:
    (tmp_path / "other.yaml").write_text(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0], encoding="utf-8")
    done = qsweep(tmp_path, data_folder, "run", "other.yaml", "-n")
    assert done.returncode == 0, done.stderr


MINE = """
trial:
  {data: digits, model: {name: mlp, hidden: [8]}, epochs: 1, rounding: stochastic, scale: 2, quantize: {weight: range}}
grid: {lr: [1.0, 0.1], bitwidth: [6, 4]}
also:
  - trial: {quantize: {}}
    grid: {lr: [1.0, 0.1]}
  - trial: {quantize: {weight: fraction}}
    grid: {lr: [1.0, 0.1], fraction: [8, 4]}
plots: [{kind: lines, x: lr, y: test_accuracy, line: bitwidth}]
"""


@pytest.mark.slow
@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name not in ELSEWHERE], ids=lambda p: p.name)
def test_every_command_of_a_document_runs(document: Path, tmp_path: Path, data_folder: Path) -> None:
    found = commands_of(document.read_text(encoding="utf-8"))
    if not found:
        return
    for name in ("mine", "first"):
        (tmp_path / f"{name}.yaml").write_text(MINE, encoding="utf-8")
        done = qsweep(tmp_path, data_folder, "run", f"{name}.yaml")
        assert done.returncode == 0, done.stderr
    key = (tmp_path / "results" / "mine" / "trials.csv").read_text().splitlines()[1].split(",")[0]
    stands_for = {"KEY": key, "SPEC…": "mine.yaml", "mnist": "digits"}
    for words in found:
        done = qsweep(tmp_path, data_folder, *[stands_for.get(word, word) for word in words])
        if words[:2] == ["data", "add"]:  # DIR stands for files that cannot be faked: their digests are checked
            assert done.returncode == 2, (words, done.stderr)
        else:
            assert done.returncode == 0, (words, done.stderr)


def test_guide_commands_exist_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    from qsweep.cli.main import cli

    for words in commands_of(GUIDE):
        command = cli.commands[words[0]]
        if len(words) > 1 and hasattr(command, "commands"):
            assert words[1] in command.commands, words
    text = GUIDE + README
    run = {option for parameter in cli.commands["run"].params for option in parameter.opts}
    for option in re.findall(
        r"(?<![\w`-])(-{1,2}[a-zA-Z][\w-]*)", "\n".join(re.findall(r"    qsweep run.*(?:\n {10,}.*)*", text))
    ):
        assert option in run, option


def test_guide_has_every_parameter_of_a_trial() -> None:
    from qsweep.trial.parameters import TRIAL_NAMES

    table = GUIDE.split("## Axes")[0]
    for name in TRIAL_NAMES:
        assert f"`{name}`" in table or f"(`{name}`" in table, name


@pytest.mark.slow
def test_guide_own_model_trains(tmp_path: Path, data_folder: Path) -> None:
    (tmp_path / "nets.py").write_text(re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[0], encoding="utf-8")
    spec = (
        "trial: {data: digits, model: {name: 'nets.py:net', width: 8}, quantize: {weight: range8}}\ngrid: {lr: [0.1]}\n"
    )
    (tmp_path / "own.yaml").write_text(spec)
    environment = {**os.environ, "QSWEEP_DATA": str(data_folder), "QSWEEP_OFFLINE": "1"}
    command = [sys.executable, "-m", "qsweep", "run", "own.yaml", "--backend", "serial"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ",done," in (tmp_path / "results" / "own" / "trials.csv").read_text()


BASE = """
trial: {{data: digits, model: {{name: mlp, hidden: [8]}}, histogram: 10, quantize: {{weight: {weight}}}}}
grid: {grid}
also: [{{trial: {{quantize: {{}}}}, grid: {{lr: [0.1, 0.01]}}}}]
"""
"""Completes an example of the guide that shows a part of a spec."""


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))
def test_guide_example_is_a_spec(example: str, tmp_path: Path) -> None:
    weight = "float32" if "stages" in example else "fraction" if "fraction" in example else "range"
    grid = "{lr: [0.1, 0.01], bitwidth: [4, 8], zero: [true, false]}" if "plots" in example else "{lr: [0.1, 0.01]}"
    (tmp_path / "base.yaml").write_text(BASE.format(weight=weight, grid=grid), encoding="utf-8")
    is_part = "extends" not in example and "data:" not in example
    (tmp_path / "spec.yaml").write_text(example + "extends: base.yaml\n" * is_part, encoding="utf-8")
    assert expand(read(tmp_path / "spec.yaml")).rows


def test_design_lists_the_wings_in_the_order_of_their_imports() -> None:
    from test_imports import WINGS

    assert f"`{' · '.join(WINGS)}`" in (ROOT / "docs" / "design.md").read_text(encoding="utf-8")


def test_design_names_files_that_exist() -> None:
    """References such as `training/places`: a wing, a slash, one of its modules."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    wings = "|".join(path.name for path in (ROOT / "qsweep").iterdir() if path.is_dir())
    named = re.findall(rf"`((?:{wings})/\w+)`", text)
    assert named
    assert [name for name in named if not (ROOT / "qsweep" / f"{name}.py").is_file()] == []
