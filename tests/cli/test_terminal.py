"""Text for people: without control characters, and harmless where it can't be written."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import Project

from qsweep.cli.terminal import printable

SPEC = """
trial: {data: digits, model: {name: mlp, hidden: [8]}, epochs: 1, batch_size: 256, quantize: {weight: range4}}
variants: {"\\u4e2d\\u6587": {lr: 0.5}, "b": {lr: 0.25}}
"""


@given(st.text())
def test_printable_has_no_control_characters(text: str) -> None:
    shown = printable(text)
    hidden = [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert set(hidden) <= set("\n\t\u200c\u200d")
    assert not any(c in shown for c in "\x1b\x9b\x7f\u202e\u2066\u200b\ufeff")


@pytest.mark.parametrize("text", ["lr 0.5\tdone\n", "中文 · α ± ½", "لا\u200cه", "👩\u200d🔬"])
def test_printable_keeps_ordinary_text(text: str) -> None:
    assert printable(text) == text


def test_printable_escapes_hidden_characters() -> None:
    assert printable("a\x1b[31mb\x9bc\u202ed") == "a\\x1b[31mb\\x9bc\\u202ed"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Project:
    project = Project(tmp_path_factory.mktemp("trained"), data_folder)
    project.write("tiny.yaml", SPEC)
    project.run("run", "tiny.yaml", "--backend", "serial", "--no-plot")
    return project


def shell(project: Project, command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A shell command, in which `q` runs qsweep."""
    program = f'q() {{ "{sys.executable}" -m qsweep "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", program], cwd=project.folder, env={**project.environment, **environment},
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip


RUN = "q run tiny.yaml --backend serial --no-plot --results"


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "2>&- >&-", ">&-"])
def test_run_whose_messages_can_not_be_written_trains_anyway(trained: Project, where: str) -> None:
    name = f"lost {where.translate(dict.fromkeys(map(ord, '>&/-'), '_'))}"
    done = shell(trained, f"{RUN} '{name}' {where}")
    assert done.returncode == 0, done
    rows = (trained.folder / name / "tiny" / "trials.csv").read_text(encoding="utf-8")
    assert rows.count(",done,") == 2


def test_run_whose_reader_has_left_trains_anyway(trained: Project) -> None:
    shell(trained, f"({RUN} left) 2>&1 | true")
    assert (trained.folder / "left" / "tiny" / "trials.csv").read_text(encoding="utf-8").count(",done,") == 2


READING = ["status", "table", "table --csv", "formats", "formats e4m3", "schema", "data list", "run tiny.yaml -n"]


@pytest.mark.parametrize("command", READING)
def test_command_reports_that_its_output_can_not_be_written(trained: Project, command: str) -> None:
    done = shell(trained, f"q {command} > /dev/full")
    assert (done.returncode, b"No space left" in done.stderr) == (2, True), done


@pytest.mark.parametrize("command", [*READING, "--help", "run --help", "plot --help"])
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_terminal_with_few_characters_gets_all_text(trained: Project, command: str, encoding: str) -> None:
    done = shell(trained, f"q {command}", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done


def test_reader_that_leaves_early_ends_a_command_without_a_message(trained: Project) -> None:
    done = shell(trained, "q formats | head -1")
    assert done.stderr == b""


@pytest.mark.parametrize("limit", ["nan", "inf", "0", "-1", "x"])
def test_timeout_that_is_not_a_number_of_seconds_is_refused(trained: Project, limit: str) -> None:
    assert shell(trained, f"q run tiny.yaml --timeout {limit}").returncode == 2


def test_columns_and_names_from_elsewhere_are_shown_without_control_characters(trained: Project) -> None:
    shell(trained, "cp -r results/tiny odd; sed -i '1s/reason/reason,\\x1b]0;owned\\x07/; 2,$s/$/,x/' odd/trials.csv")
    done = shell(trained, "q table odd; q table results/tiny -S 2>&1; q run $'no\\x9bsuch.yaml'")
    assert b"\x1b" not in done.stdout + done.stderr
    assert "\x9b".encode() not in done.stderr


def test_run_without_compiled_kernels_is_refused(trained: Project) -> None:
    done = shell(trained, f"{RUN} jit", NUMBA_DISABLE_JIT="1")
    assert (done.returncode, b"NUMBA_DISABLE_JIT" in done.stderr) == (2, True)


def test_run_in_a_deleted_folder_is_refused(trained: Project) -> None:
    done = shell(trained, f"mkdir gone; cd gone; rm -r ../gone; {RUN} x")
    assert done.returncode == 2, done
