"""Specs that extend other specs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from qsweep.errors import SpecError, UserError
from qsweep.spec.extends import read_extended
from qsweep.spec.reader import Document


def document(folder: Path, **files: str) -> Document:
    """The document `top` in a folder with these files."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return read_extended(folder / "top.yaml", "specs/top.yaml")


def merged(folder: Path, base: str, own: str) -> Any:
    return document(folder, base=base, top=f"extends: base.yaml\n{own}").value


def wrong(folder: Path, **files: str) -> str:
    with pytest.raises(UserError) as caught:
        document(folder, **files)
    return str(caught.value)


def test_spec_without_extends_is_unchanged(tmp_path: Path) -> None:
    assert document(tmp_path, top="trial: {lr: 1}\n").value == {"trial": {"lr": 1}}


@pytest.mark.parametrize(
    ("base", "own", "value"),
    [
        ("trial: {lr: 1, epochs: 2}", "trial: {lr: 3}", {"trial": {"lr": 3, "epochs": 2}}),
        (
            "trial: {model: {name: mlp, hidden: [8]}}",
            "trial: {model: {hidden: [9]}}",
            {"trial": {"model": {"name": "mlp", "hidden": [9]}}},
        ),
        ("trial: {model: {name: mlp}}", "trial: {model: softmax}", {"trial": {"model": "softmax"}}),
        ("trial: {quantize: {weight: range4}}", "trial: {quantize: {}}", {"trial": {"quantize": {}}}),
        ("grid: {lr: [1, 2]}", "grid: {lr: [3]}", {"grid": {"lr": [3]}}),
        ("grid: {lr: {pow2: [0, 1]}}", "grid: {lr: {range: [1, 2]}}", {"grid": {"lr": {"range": [1, 2]}}}),
        ("zip: {lr: {pow2: [0, 1]}}", "zip: {lr: {range: [1, 2]}}", {"zip": {"lr": {"range": [1, 2]}}}),
        ("grid: {lr: [1]}", "grid: {bitwidth: [2]}", {"grid": {"lr": [1], "bitwidth": [2]}}),
        ("grid: {lr: [1]}", "grid: {}", {"grid": {}}),
        ("also: [{trial: {}}]", "also: []", {"also": []}),
        ("seeds: 3", "seeds: {count: 9}", {"seeds": {"count": 9}}),
        ("plots: [{kind: lines}]", "plots: [{kind: heatmap}]", {"plots": [{"kind": "heatmap"}]}),
        ("variants: {a: {lr: 1}}", "variants: {b: {lr: 2}}", {"variants": {"a": {"lr": 1}, "b": {"lr": 2}}}),
        ("name: base\ntitle: one", "", {"title": "one"}),
        ("name: base", "name: top", {"name": "top"}),
    ],
)
def test_mappings_are_merged_and_everything_else_is_replaced(tmp_path: Path, base: str, own: str, value: Any) -> None:
    assert merged(tmp_path, base, own) == value


def test_axes_keep_the_order_of_the_base(tmp_path: Path) -> None:
    value = merged(tmp_path, "grid: {lr: [1], bitwidth: [2]}", "grid: {zero: [true], lr: [3]}")
    assert list(value["grid"]) == ["lr", "bitwidth", "zero"]


def test_base_may_extend_another_spec(tmp_path: Path) -> None:
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower" / "ground.yaml").write_text("trial: {lr: 1, epochs: 1, data: digits}\n")
    (tmp_path / "lower" / "base.yaml").write_text("extends: ground.yaml\ntrial: {lr: 2, epochs: 2}\n")
    assert document(tmp_path, top="extends: lower/base.yaml\ntrial: {lr: 3}\n").value == {
        "trial": {"lr": 3, "epochs": 2, "data": "digits"}
    }


def test_marks_point_to_the_file_that_sets_the_value(tmp_path: Path) -> None:
    found = document(
        tmp_path,
        base="trial:\n  lr: 1\n  model:\n    name: mlp\ngrid:\n  zero: [true, false]\n",
        top="extends: base.yaml\n\ntrial:\n  epochs: 2\ngrid:\n  zero: [true]\n",
    )
    places = {place: mark[:2] for place, mark in found.marks.items()}
    assert places["trial", "lr"] == ("specs/base.yaml", 2)
    assert places["trial", "model", "name"] == ("specs/base.yaml", 4)
    assert places["trial", "epochs"] == ("specs/top.yaml", 4)
    assert places["grid", "zero", 0] == ("specs/top.yaml", 6)
    assert ("grid", "zero", 1) not in places


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"top": "extends: top.yaml"}, "specs/top.yaml:1:1: extends: 'top.yaml' extends this file in turn: a cycle"),
        (
            {"top": "extends: base.yaml", "base": "lr: 1\nextends: top.yaml"},
            "specs/base.yaml:2:1: extends: 'top.yaml' extends this file in turn: a cycle",
        ),
        (
            {"top": "extends: none.yaml"},
            "specs/top.yaml:1:1: extends: can't read the extended file: specs/none.yaml: No such file",
        ),
        ({"top": "extends: ."}, "Is a directory"),
        ({"top": f"extends: {'x' * 5000}"}, "File name too long"),
        (
            {"top": "extends: [base.yaml]", "base": ""},
            'specs/top.yaml:1:1: extends: found ["base.yaml"], expected the path of a file',
        ),
        ({"top": "extends: base.yaml", "base": "- 1"}, "specs/base.yaml:1:1: found [1], expected a mapping"),
        ({"top": "extends: base.yaml", "base": ""}, "specs/base.yaml: found null, expected a mapping"),
        ({"top": "extends: base.yaml", "base": "a: 1\na: 2"}, "specs/base.yaml:2:1: a: this key is listed twice"),
    ],
)
def test_invalid_base_is_reported_at_its_place(tmp_path: Path, files: dict[str, str], message: str) -> None:
    assert message in wrong(tmp_path, **files)


def test_cycle_of_symbolic_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").symlink_to(tmp_path / "base.yaml")
    assert "extends:" in wrong(tmp_path, top="extends: base.yaml")


def test_unreadable_base_keeps_the_place_of_the_problem(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        document(tmp_path, top="trial: {}\nextends: none.yaml")
    assert caught.value.problems[0].line == 2


def test_fifo_and_long_chain_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "top.yaml").write_text("extends: fifo.yaml")
    with pytest.raises(SpecError, match=r"fifo\.yaml: not a regular file"):
        read_extended(tmp_path / "top.yaml", "top.yaml")
    for level in range(1100):
        (tmp_path / f"e{level}.yaml").write_text(f"extends: e{level + 1}.yaml")
    with pytest.raises(SpecError, match="more than 20 files that extend each other"):
        read_extended(tmp_path / "e0.yaml", "e0.yaml")
