"""Provenance: the right repository, and no names of people or machines."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from nobody import assert_names_nobody

import qsweep
from qsweep.results import provenance as module
from qsweep.results.provenance import provenance


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.com", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, and the current folder."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    git(tmp_path, "init", "--quiet")
    (tmp_path / "tracked.py").write_text("1\n")
    (tmp_path / ".gitignore").write_text(".venv\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_provenance_has_versions_and_the_folders_commit(repository: Path) -> None:
    found = provenance()
    assert found["qsweep"] == qsweep.__version__
    assert found["torch"]
    assert found["numpy"]
    assert found["folder"] == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}


def test_provenance_is_dirty_if_a_tracked_file_has_changed_but_not_for_others(repository: Path) -> None:
    (repository / "untracked.yaml").touch()
    assert provenance()["folder"]["dirty"] is False
    (repository / "tracked.py").write_text("2\n")
    assert provenance()["folder"]["dirty"] is True


def test_provenance_detects_a_change_in_the_same_second_in_which_a_file_was_added(repository: Path) -> None:
    """Size and whole seconds are then the same: only the time of the index shows that the file must be reread."""
    file = repository / "tracked.py"
    for round_ in range(2, 8):
        file.write_text(f"{round_}\n")
        git(repository, "add", ".")
        git(repository, "commit", "--quiet", "-m", str(round_))
        added = int(file.stat().st_ctime)
        file.write_text("x\n")
        if int(file.stat().st_ctime) == added:
            break
    time.sleep(1.1)
    assert provenance()["folder"]["dirty"] is True


def test_provenance_of_a_folder_without_repository_or_commit_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert provenance()["folder"] is None
    git(tmp_path, "init", "--quiet")
    assert provenance()["folder"] is None


def test_source_is_not_a_repository_that_contains_an_installed_copy_untracked(repository: Path) -> None:
    installed = repository / ".venv" / "qsweep" / "__init__.py"
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert module._source(installed) is None
    found = module._source(repository / "tracked.py")
    assert found == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}


def test_provenance_is_that_of_the_folder_even_in_a_hook_of_another_repository(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    assert provenance()["folder"]["commit"] == commit


def test_provenance_writes_nothing_into_the_repository(repository: Path) -> None:
    os.utime(repository / "tracked.py", (1, 1))  # git would note in its index that the content is the same
    before = (repository / ".git" / "index").read_bytes()
    provenance()
    assert (repository / ".git" / "index").read_bytes() == before


def test_provenance_without_git_has_the_commit_and_unknown_changes(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = provenance()["folder"]["commit"]
    monkeypatch.setenv("PATH", "/nonexistent")
    assert provenance()["folder"] == {"commit": commit, "dirty": None}
    assert provenance()["source"] is None


PROGRAMS = {
    "a monitor": ("fsmonitor", "core", ""),
    "a filter": ("clean", 'filter "x"', "* filter=x"),
    "a process": ("process", 'filter "x"', "* filter=x"),
    "a difference": ("textconv", 'diff "x"', "* diff=x"),
    "hooks": ("hooksPath", "core", ""),
    "an alias": ("status", "alias", ""),
}


@pytest.mark.parametrize(("name", "section", "attributes"), PROGRAMS.values(), ids=PROGRAMS.keys())
def test_configuration_of_a_repository_runs_no_program(
    repository: Path, name: str, section: str, attributes: str, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    with open(repository / ".git" / "config", "a", encoding="utf-8") as stream:
        stream.write(f'[{section}]\n\t{name} = "!touch {ran}; touch {ran}; cat"\n')
    (repository / ".git" / "info").mkdir(exist_ok=True)
    (repository / ".git" / "info" / "attributes").write_text(attributes)
    tracked = next(path for path in repository.iterdir() if path.is_file())
    tracked.write_text("changed")
    assert provenance()["folder"]["dirty"] is True
    assert not ran.exists()


def test_provenance_of_a_packed_reference_and_of_a_second_work_tree(repository: Path, tmp_path: Path) -> None:
    commit = provenance()["folder"]["commit"]
    subprocess.run(["git", "pack-refs", "--all"], cwd=repository, check=True)
    assert provenance()["folder"] == {"commit": commit, "dirty": False}
    subprocess.run(["git", "worktree", "add", "-q", tmp_path / "other"], cwd=repository, check=True)
    assert module._state(tmp_path / "other") == {"commit": commit, "dirty": False}


@pytest.mark.parametrize("head", ["", "ref: refs/../../secret", "ref: refs/heads/none", "\xff", "x" * 5000])
def test_provenance_of_a_malformed_repository_is_none(repository: Path, head: str) -> None:
    (repository / ".git" / "HEAD").write_text(head, encoding="latin-1")
    assert provenance()["folder"] is None


def test_version_of_a_package_that_is_not_installed_is_none() -> None:
    assert module._version("no-such-package") is None


def test_provenance_contains_no_host_user_or_path(repository: Path) -> None:
    found = json.dumps(provenance())
    assert_names_nobody(found)
    assert "/" not in found
