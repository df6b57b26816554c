"""Forgetting trials: what is printed and deleted, and that the next run retrains them."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project

SPEC = "trial: {data: digits, model: softmax, epochs: 1, batch_size: 500}\ngrid: {lr: [0.5, 0.25]}\n"


@pytest.fixture
def project(tmp_path: Path, data_folder: Path) -> Project:
    made = Project(tmp_path, data_folder)
    made.write("one.yaml", SPEC)
    made.write("two.yaml", SPEC.replace("0.25", "0.125"))
    made.run("run", "one.yaml", "two.yaml", "--backend", "serial", "--no-plot")
    return made


def test_forget_deletes_only_with_yes_and_the_next_run_retrains(project: Project) -> None:
    key = project.rows("one")[0]["key"]
    before = project.records()
    out = project.out("store", "forget", key[:12])
    assert out.splitlines() == [
        "would delete 1 records of 1 trials, and 0 bytes of weights; add --yes to delete",
        "1 of the trials are also in one",
        "1 of the trials are also in two",
    ]
    assert project.records() == before
    assert project.out("store", "forget", key[:12], "--yes").startswith("deleted 1 records of 1 trials")
    assert project.records() == [record for record in before if record[0] != key]
    assert "trained 1, known 1" in project.run("run", "one.yaml", "--backend", "serial", "--no-plot")


def test_forget_a_sweep_deletes_its_trials_with_their_weights(project: Project) -> None:
    keys = {row["key"] for row in project.rows("two")}
    project.out("export", sorted(keys)[0], "w.safetensors")
    assert "2 records of 2 trials, and 0 bytes" not in project.out("store", "forget", "--sweep", "two")
    out = project.out("store", "forget", "--sweep", "two", "--yes")
    assert out.splitlines()[1:] == ["1 of the trials were also in one"]
    assert not keys & {key for key, _ in project.records()}
    assert not list((project.folder / "results" / "weights").glob("*"))


def test_forget_refuses_what_does_not_exist(project: Project) -> None:
    assert "no record's key begins with 00000000" in project.run("store", "forget", "00000000", code=2)
    assert "unknown sweep 'oen'; did you mean 'one'?" in project.run("store", "forget", "--sweep", "oen", code=2)
    assert "name the trials" in project.run("store", "forget", code=2)
