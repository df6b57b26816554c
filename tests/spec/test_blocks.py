"""Blocks of a spec: trials, axes, exclusions and overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qsweep.models.imports import Source
from qsweep.spec.blocks import Block, BlockReader, overlay
from qsweep.spec.reader import Mistakes, read_text


def read(text: str, folder: Path = Path(), **overrides: Any) -> tuple[tuple[Block, ...], list[str], dict[str, Source]]:
    """Blocks, mistakes and sources of a text."""
    mistakes = Mistakes(read_text(text, "x"))
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    reader = BlockReader(mistakes, named, folder)
    return reader.blocks(mistakes.document.value), list(map(str, mistakes.found)), reader.sources


def block(text: str, **overrides: Any) -> Block:
    blocks, mistakes, _ = read(text, **overrides)
    assert mistakes == []
    return blocks[0]


def wrong(text: str, **overrides: Any) -> list[str]:
    return read(text, **overrides)[1]


def points(found: Block) -> dict[tuple[str, ...], list[Any]]:
    return {group.names: [p[0] if len(p) == 1 else p for p in group.points] for group in found.groups}


# --- overlay ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "own", "result"),
    [
        ({"lr": 1}, {"lr": 2}, {"lr": 2}),
        ({"model": {"name": "mlp", "dropout": 0.5}}, {"model": {"name": "softmax"}}, {"model": {"name": "softmax"}}),
        ({"model": {"name": "mlp"}}, {"model.dropout": 0.5}, {"model": {"name": "mlp", "dropout": 0.5}}),
        ({}, {"model.dropout": 0.5, "model": {"name": "mlp"}}, {"model": {"name": "mlp", "dropout": 0.5}}),
        (
            {},
            {"quantize.weight.scale": 2, "quantize.weight": {"format": "range"}},
            {"quantize": {"weight": {"format": "range", "scale": 2}}},
        ),
        ({"quantize": {"weight": 1, "bias": 2}}, {"quantize.bias": 3}, {"quantize": {"weight": 1, "bias": 3}}),
        ({"quantize": {"weight": 1}}, {"quantize": {}}, {"quantize": {}}),
    ],
)
def test_overlay_replaces_names_then_sets_inside(base: dict[str, Any], own: dict[str, Any], result: Any) -> None:
    assert overlay(base, own) == result


def test_overlay_does_not_change_its_arguments() -> None:
    base: dict[str, Any] = {"quantize": {"weight": {"format": "range"}}}
    own = {"quantize.weight.scale": 2}
    overlay(base, own)
    assert (base, own) == ({"quantize": {"weight": {"format": "range"}}}, {"quantize.weight.scale": 2})


# --- trial, axes ------------------------------------------------------------------------------------------------------


def test_trial_has_dotted_names_set_inside() -> None:
    assert block("trial: {model.dropout: 0.5, model: mlp}").trial == {"model": {"name": "mlp", "dropout": 0.5}}


def test_also_starts_from_the_first_trial() -> None:
    text = "trial: {lr: 1, quantize: {weight: range4}}\nalso: [{trial: {quantize: {}, model.dropout: 0.5}}]\n"
    blocks, mistakes, _ = read(text)
    assert mistakes == []
    assert blocks[1].trial == {"lr": 1.0, "quantize": {}, "model": {"dropout": 0.5}}


def test_grid_and_zip_are_in_the_order_of_the_file() -> None:
    found = block("zip: {lr: [1, 2], bitwidth: [3, 4]}\ngrid: {zero: [true], scale: [1, 2]}\n")
    assert points(found) == {
        ("lr", "bitwidth"): [(1.0, 3), (2.0, 4)],
        ("zero",): [True],
        ("scale",): [1.0, 2.0],
    }
    assert found.axes == ("lr", "bitwidth", "zero", "scale")
    assert found.size == 4


def test_size_counts_variants() -> None:
    assert block("variants: {a: {}, b: {}}\ngrid: {lr: [1, 2, 3]}").size == 6
    assert block("trial: {}").size == 1


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("trial: [1]", ["x:1:1: trial: found [1], expected a mapping"]),
        (
            "trial: {lr: 0, epohcs: 1}",
            [
                "x:1:9: trial.lr: found 0, expected a number above 0",
                "x:1:16: trial.epohcs: unknown parameter 'epohcs'; did you mean 'epochs'?",
            ],
        ),
        ("trial: {seed: 3}", ["x:1:9: trial.seed: seeds apply to the whole spec"]),
        (
            "trial:\n  quantize:\n    weight: {format: range, scale: 0}",
            ["x:3:29: trial.quantize.weight.scale: found 0"],
        ),
        ("trial: {model: {name: mlp, hidden: [0]}}", ["x:1:28: trial.model.hidden: found [0]"]),
        ("grid: {lr: []}", ["x:1:8: grid.lr: the axis has no values, so the grid is empty"]),
        ("grid: {lr: 0.1}", ["x:1:8: grid.lr: found 0.1, expected a list of values or a generator"]),
        ("grid: {lr: [1, 0, x]}", ["x:1:16: grid.lr[1]: found 0", 'x:1:19: grid.lr[2]: found "x"']),
        ("grid: {lr: {linspace: [1, -1, 3]}}", ["x:1:8: grid.lr[1]: found 0", "x:1:8: grid.lr[2]: found -1"]),
        ("grid: {lr: [1, 2, 1.0]}", ["x:1:8: grid.lr: the value 1.0 is listed twice"]),
        ("grid: {quantize.weight: [range4, {format: range, bitwidth: 4}]}", ["is listed twice"]),
        ("grid: {model.hidden: [[8], [8.0]]}", ["is listed twice"]),
        ("grid: {seed: [1, 2]}", ["x:1:8: grid.seed: seeds apply to the whole spec"]),
        ("grid: {quantize: [{weight: range4}]}", ["an axis sets one role at a time"]),
        ("grid: {lrr: [1, 2]}", ["x:1:8: grid.lrr: unknown parameter 'lrr'; did you mean 'lr'?"]),
        ("grid: {lr: [1]}\nzip: {lr: [1], scale: [2]}", ["x:2:1: zip: 'lr' is an axis in grid and in zip: keep one"]),
        (
            "zip: {lr: [1, 2], scale: [2]}",
            ["x:1:1: zip: axes that move together need equally many values: lr has 2, scale has 1"],
        ),
        ("zip: {lr: [1, 2], scale: [0]}", ["x:1:27: zip.scale[0]: found 0"]),
        ("also: {}", ["x:1:1: also: found {}, expected a list of blocks"]),
        (
            "also: [1, {grdi: {}}]",
            [
                "x:1:8: also[0]: found 1, expected a mapping with trial, grid, …",
                "x:1:12: also[1].grdi: unknown key 'grdi'; did you mean 'grid'?",
            ],
        ),
        ("also: [{seeds: 3}]", ["x:1:9: also[0].seeds: unknown key 'seeds'"]),
        ("variants: [a]", ['x:1:1: variants: found ["a"], expected a mapping']),
        (
            "variants: {a: null, '': {}}",
            ["a variant without a name", "x:1:12: variants.a: found null, expected a mapping of trial parameters"],
        ),
        ("exclude: {lr: 1}", ['x:1:1: exclude: found {"lr": 1}, expected a list of mappings']),
        (
            "exclude: [{}, 3, {lrr: 1}]",
            [
                "x:1:11: exclude[0]: found {}, expected a mapping of parameters to match",
                "x:1:15: exclude[1]: found 3",
                "x:1:19: exclude[2].lrr: unknown parameter",
            ],
        ),
    ],
)
def test_mistakes_are_reported_at_their_places(text: str, mistakes: list[str]) -> None:
    found = wrong(text)
    assert len(found) == len(mistakes)
    assert all(expected in line for expected, line in zip(mistakes, found, strict=True)), found


# --- overrides --------------------------------------------------------------------------------------------------------

AXES = (
    "trial: {epochs: 1}\ngrid: {lr: [1, 2], betas: [[0, 0.5]], quantize.weight: [range4]}\nalso: [{trial: {lr: 3}}]\n"
)


@pytest.mark.parametrize(
    ("name", "value", "axis"),
    [
        ("lr", 0.5, [0.5]),
        ("lr", [0.5, 0.25], [0.5, 0.25]),
        ("lr", {"pow2": [0, -1]}, [1.0, 0.5]),
        ("betas", [0.1, 0.2], [[0.1, 0.2]]),
        ("betas", [[0.1, 0.2], [0.3, 0.4]], [[0.1, 0.2], [0.3, 0.4]]),
        ("quantize__weight", "float32", [{"format": "float32"}]),
        ("quantize__weight", {"format": "range", "scale": 2}, [{"format": "range", "scale": 2.0}]),
        ("quantize__weight", ["range2", "range3"], [{"format": "range", "bitwidth": b} for b in (2, 3)]),
    ],
)
def test_override_of_an_axis_replaces_its_values(name: str, value: Any, axis: list[Any]) -> None:
    assert points(block(AXES, **{name: value}))[name.replace("__", "."),] == axis


def test_override_of_a_parameter_replaces_it_in_every_block() -> None:
    blocks, mistakes, _ = read(AXES, epochs=5, lr=0.5)
    assert mistakes == []
    assert [b.trial["epochs"] for b in blocks] == [5, 5]
    assert [b.trial.get("lr") for b in blocks] == [None, 0.5]  # an axis in the first


def test_override_can_be_a_list_if_the_parameter_is_one() -> None:
    assert block("trial: {optimizer: adam}", betas=[0.1, 0.2]).trial["betas"] == [0.1, 0.2]
    assert block("trial: {model: mlp}", model__hidden=[8, 8]).trial["model"] == {"name": "mlp", "hidden": [8, 8]}


def test_override_applies_to_variants_too() -> None:
    found = block("variants: {a: {model: {name: mlp, hidden: [8]}, lr: 1}, b: {}}", model__dropout=0.5, lr=2)
    assert overlay(found.trial, found.variants["a"]) == {
        "model": {"name": "mlp", "hidden": [8], "dropout": 0.5},
        "lr": 2.0,
    }
    assert overlay(found.trial, found.variants["b"])["lr"] == 2.0


@pytest.mark.parametrize(
    ("overrides", "mistakes"),
    [
        ({"lrr": 1}, ["-S lrr: unknown parameter 'lrr'; did you mean 'lr'?"]),
        ({"epochs": 0}, ["-S epochs: found 0, expected an integer from 1 to 100000"]),
        (
            {"epochs": [1, 2]},
            ["-S epochs: found [1, 2]", "-S epochs: it is not an axis of this spec, so it takes one value"],
        ),
        ({"lr": 0}, ["-S lr: found 0, expected a number above 0"]),
        ({"lr": []}, ["-S lr: the axis has no values"]),
        ({"lr": [1, 0]}, ["-S lr: [1]: found 0"]),
        ({"lr": {"pow": [1, 2]}}, ["-S lr: unknown generator 'pow'; did you mean 'pow2'?"]),
        ({"model": {"name": "mlp", "hidden": 3}}, ["-S model: hidden: found 3", "-S model: it is not an axis"]),
        ({"seed": 3}, ["-S seed: seeds apply to the whole spec"]),
    ],
)
def test_wrong_override_is_reported(overrides: dict[str, Any], mistakes: list[str]) -> None:
    found = wrong(AXES, **overrides)
    assert len(found) == len(mistakes)
    assert all(line.startswith(expected) for expected, line in zip(mistakes, found, strict=True)), found


# --- users' own models ------------------------------------------------------------------------------------------------


def test_source_of_an_own_model_is_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("raise SystemExit  # é\n", encoding="utf-8")
    _, mistakes, sources = read("trial: {model: 'nets.py:net'}", tmp_path)
    assert (mistakes, sources) == ([], {"nets.py": Source("raise SystemExit  # é\n")})


def test_source_is_read_in_every_place_that_names_a_model(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.py").write_text(name)
    text = "trial: {model: 'a.py:f'}\ngrid: {model: ['b.py:f']}\nvariants: {v: {model: {name: 'c.py:f', x: 1}}}\nalso: [{}]\n"
    _, mistakes, sources = read(text, tmp_path, model="d.py:f")
    assert mistakes == []
    assert sources == {"a.py": Source("a"), "c.py": Source("c"), "d.py": Source("d")}


def test_parameter_of_an_own_model_can_be_any_value(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("")
    blocks, mistakes, _ = read(
        "trial: {model: 'nets.py:net'}\ngrid: {model.hidden: [8, 16], model.kind: [a, b]}", tmp_path
    )
    assert mistakes == []
    assert blocks[0].axes == ("model.hidden", "model.kind")


def test_source_that_can_not_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "big.py").write_bytes(b"#" * (1024 * 1024 + 1))
    (tmp_path / "latin.py").write_bytes("# é".encode("latin-1"))
    (tmp_path / "folder.py").mkdir()
    text = "grid: {model: ['none.py:f', 'big.py:f', 'latin.py:f', 'folder.py:f']}"
    assert [line.split(": ", 2)[2] for line in read(text, tmp_path)[1]] == [
        "can't read 'none.py' beside this spec: No such file or directory",
        "'big.py' is larger than 1 MB: this is not the source of a model",
        "'latin.py' is not Python text: invalid or missing encoding declaration",
        "'folder.py' is not a regular file",
    ]
