"""The checks of `make` before it installs anything."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import namedtuple

import preflight
import pytest
from paths import ROOT


def test_preflight_prints_in_one_line_what_will_be_installed_and_its_size() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "preflight.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "GB" in done.stdout


def test_preflight_refuses_an_old_python_with_the_command_that_fixes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    version = namedtuple("version", "major minor micro")
    monkeypatch.setattr(preflight.sys, "version_info", version(3, 9, 1))
    assert preflight.problems(".") == ["this is Python 3.9, qsweep needs 3.11 or newer: make run PYTHON=python3.12"]


def test_preflight_reports_a_missing_venv_with_the_command_that_fixes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "sudo apt-get install python3-venv" in preflight.problems(".")[0]


def test_preflight_reports_a_full_disk_with_the_space_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: usage(9, 8, 1_000_000_000))
    assert preflight.problems(".")[0].startswith("1.0 GB are free in ")


def test_preflight_parses_on_any_python_3() -> None:
    """It must run on the old Python that it refuses, so it has no newer syntax."""
    import ast

    ast.parse((ROOT / "tools" / "preflight.py").read_text(), feature_version=(3, 4))
