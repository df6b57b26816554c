"""Files are replaced atomically."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from paths import SUPPORT

from qsweep import files
from qsweep.errors import UserError


def test_write_creates_the_folder_and_writes_text_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.csv"
    files.write(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    files.write(path, b"\x00\r\n")
    assert path.read_bytes() == b"\x00\r\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_write_leaves_the_permissions_of_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        files.write(tmp_path / "table.csv", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "table.csv").stat().st_mode) == 0o666 & ~mask


def test_write_never_changes_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(mask: int) -> int:
        raise AssertionError("other threads would create files that everyone can write")

    monkeypatch.setattr(os, "umask", forbidden)
    files.write(tmp_path / "table.csv", "x")


def test_write_syncs_the_file_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(file: int) -> None:
        order.append(f"fsync {os.fstat(file).st_size}")
        fsync(file)

    def replaced(*paths: Any) -> None:
        order.append("replace")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    files.write(tmp_path / "table.csv", "12345")
    assert order == ["fsync 5", "replace"]


def failing(*given: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failed_write_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "table.csv"
    files.write(path, "old")
    monkeypatch.setattr(os, call, failing)
    with pytest.raises(UserError, match=r"can't write .*table.csv: No space left on device"):
        files.write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_beyond_the_size_limit_leaves_the_old_content_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    files.write(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match="can't write"):
            files.write(path, "x" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "table.csv", "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["folder", "file/table.csv"])
def test_write_to_an_impossible_path_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't write"):
        files.write(tmp_path / place, "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_remove_deletes_a_file_and_ignores_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    files.remove(tmp_path / "a")
    files.remove(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"can't remove .*b: "):
        files.remove(tmp_path / "b")


WRITER = """
import sys
from pathlib import Path
from qsweep import files
print("begins", flush=True)
while True:
    for letter in "ab":
        files.write(Path(sys.argv[1]), letter * 300_000)
"""


@pytest.mark.parametrize("seconds", [0.01, 0.03])
def test_write_killed_at_any_time_leaves_complete_content(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "table.csv"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=SUPPORT)
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or not path.exists():
        if path.exists():
            assert path.read_text() in ("a" * 300_000, "b" * 300_000)
    process.kill()
    process.communicate()
    assert path.read_text() in ("a" * 300_000, "b" * 300_000)
