"""Weights stored beside the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from qsweep.errors import UserError
from qsweep.results.weights import Weights

KEY, OTHER = "a" * 64, "b" * 64


def kept(folder: Path) -> Path:
    (path,) = folder.glob("weights/*")
    return path


def test_weights_are_found_only_by_key_and_environment(tmp_path: Path) -> None:
    weights = Weights.beside(tmp_path, "here")
    weights.put(KEY, b"some")
    assert weights.get(KEY) == b"some"
    assert weights.get(OTHER) is None
    assert Weights.beside(tmp_path, "elsewhere").get(KEY) is None


def test_weights_replace_others_of_the_same_trial(tmp_path: Path) -> None:
    weights = Weights.beside(tmp_path, "here")
    for content in (b"some", b"others", b"others"):
        weights.put(KEY, content)
    assert weights.get(KEY) == b"others"
    assert kept(tmp_path).read_bytes() == b"others"


@pytest.mark.parametrize("damage", [b"", b"som", b"some more", b"sOme"])
def test_truncated_or_changed_file_is_ignored(tmp_path: Path, damage: bytes) -> None:
    weights = Weights.beside(tmp_path, "here")
    weights.put(KEY, b"some")
    kept(tmp_path).write_bytes(damage)
    assert weights.get(KEY) is None
    weights.put(KEY, b"some")
    assert weights.get(KEY) == b"some"


def test_file_name_contains_no_host_or_path(tmp_path: Path) -> None:
    Weights.beside(tmp_path, "a machine of mine").put(KEY, b"some")
    assert kept(tmp_path).name.startswith(f"{KEY}-")
    assert "mine" not in kept(tmp_path).name


def test_folder_that_can_not_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file", encoding="utf-8")
    with pytest.raises(UserError, match="can't write"):
        Weights.beside(tmp_path, "here").put(KEY, b"some")


def test_owners_returns_the_bytes_per_trial_over_all_environments(tmp_path: Path) -> None:
    weights = Weights.beside(tmp_path, "here")
    assert weights.owners() == {}
    weights.put(KEY, b"some")
    weights.put(OTHER, b"others")
    Weights.beside(tmp_path, "elsewhere").put(KEY, b"too")
    assert weights.owners() == {KEY: 7, OTHER: 6}
    weights.delete(KEY)
    assert weights.owners() == {OTHER: 6}
