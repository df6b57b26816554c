"""The JSON Schema of specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from paths import CONFIGS

from qsweep.spec.reader import read_file, read_text
from qsweep.spec.schema import spec_schema

SPECS = sorted(CONFIGS.glob("*.yaml"))
VALIDATOR = Draft202012Validator(spec_schema())


def accepts(text: str) -> bool:
    return bool(VALIDATOR.is_valid(read_text(text, "x").value))


def test_schema_is_valid() -> None:
    Draft202012Validator.check_schema(spec_schema())


def test_schema_has_no_dangling_reference() -> None:
    schema = spec_schema()

    def references(value: Any) -> list[str]:
        if isinstance(value, list):
            return [found for v in value for found in references(v)]
        if isinstance(value, dict):
            return [v for k, v in value.items() if k == "$ref"] + [f for v in value.values() for f in references(v)]
        return []

    assert {r.removeprefix("#/$defs/") for r in references(schema)} == set(schema["$defs"])


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_schema_accepts_the_packaged_specs(path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(read_file(path, path.name).value)] == []


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "trial: {epochs: 3.0, lr: 1, betas: [0, 0.9], split: all}",
        "trial: {model: 'nets.py:net', model.width: 3, model.dropout: 0.5, init.std: 1}",
        "trial: {model: {name: 'nets.py:net', width: {a: 1}}}",
        "trial: {data: {name: npz, file: mine.npz, test: 0.1, maximum: 16}}",
        "grid: {data: [mnist, 'npz:mine.npz', {name: images, folder: pictures/, size: 32}]}",
        "trial: {init: normal(1e-3), quantize.weight.bitwidth: 4, quantize.bias: float32}",
        "trial: {quantize: {weight: {format: range4, scale: 2}, bias: {format: float32}}}",
        "grid: {lr: {logspace: [-4, -1, 4]}, model.hidden: [[8], [8, 8]], quantize.weight: [range4, {format: range}]}",
        "zip: {model.width: [1, x]}",
        "variants: {a: {lr: 1}}\nexclude: [{variant: a, lr: 1}]\nonly: [{quantize: {weight: range4}}]",
        "also: [{trial: {}, grid: {lr: [1]}, zip: {}, variants: {}, exclude: [], only: []}]",
        "seeds: [1, 2]\nmax_trials: 5\nstack: 1\nextends: base.yaml\nname: x\ntitle: y",
        "seeds: {count: 100}",
        "trial: {stages: [{compress: {weight: uniform8, bias: {format: uniform, bitwidth: 1}}}, {retrain: {lr: 1}}]}",
        "variants: {a: {stages: []}, b: {stages: [{retrain: {optimizer: adam, codebook: free, epochs: 2}}]}}",
        "plots: [{kind: lines, x: lr, y: test_loss, line: zero, title: x, name: a-b}]",
        "trial: {histogram: 1000}\nplots: [{kind: histogram, place: a.weight, range: 0.1, line: lr, facet: zero, name: x}]",
        "plots: [{kind: histogram, place: a.weight, range: [-0.1, 0.2]}]",
    ],
)
def test_schema_accepts_all_features(text: str) -> None:
    assert accepts(text)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "gird: {}",
        "trial: {lrr: 1}",
        "trial: {stages: {compress: {weight: uniform8}}}",
        "trial: {stages: [{compress: {weights: uniform8}}]}",
        "trial: {stages: [{compress: {weight: uniform8, bias: uniform1}, retrain: {}}]}",
        "trial: {stages: [{compress: {weight: {format: uniform8, rounding: zero}}}]}",
        "trial: {stages: [{retrain: {codebook: lost}}]}",
        "trial: {stages: [{compress: {}}]}",
        "trial: {lr: 0}",
        "trial: {lr: x}",
        "trial: {epochs: 1.5}",
        "trial: {data: minst}",
        "trial: {data: {name: npz}}",
        "trial: {data: {name: images, folder: x}}",
        "trial: {data: {name: npz, file: x, test: 1}}",
        "trial: {model: mpl}",
        "trial: {model: {name: mlp, depth: 3}}",
        "trial: {model: {name: softmax, hidden: [8]}}",
        "trial: {model: {hidden: [8]}}",
        "trial: {model: {name: 'nets.py:net', source: x}}",
        "trial: {model: nets.py}",
        "trial: {model.dropout: 1}",
        "title: 3",
        "trial: {init: normal(x)}",
        "trial: {role: range4}",
        "trial: {quantize: range4}",
        "trial: {quantize: {wieght: range4}}",
        "trial: {quantize: {weight: fp9}}",
        "trial: {quantize: {weight: {scale: 3}}}",
        "trial: {quantize: {weight: {format: float32, scale: 3}}}",
        "trial: {quantize.weight.bits: 3}",
        "trial: {seed: 3}",
        "grid: {lr: []}",
        "grid: {lr: 0.1}",
        "grid: {lr: [1, 1.0]}",
        "grid: {lr: [0]}",
        "grid: {lr: {rnage: [1, 2]}}",
        "grid: {lr: {range: [1]}}",
        "grid: {lr: {linspace: [1, 2]}}",
        "grid: {lr: {range: [1, 2], pow2: [1, 2]}}",
        "grid: {quantize: [{}]}",
        "grid: {seed: [1]}",
        "also: [{also: []}]",
        "also: [{seeds: 3}]",
        "exclude: [{}]",
        "exclude: {lr: 1}",
        "variants: {a: 3}",
        "seeds: 0",
        "seeds: 21",
        "seeds: [1, 1]",
        "seeds: []",
        "max_trials: 0",
        "stack: 0",
        "plots: [{kind: pie}]",
        "plots: [{kind: histogram}]",
        "plots: [{kind: histogram, place: a.weight, y: test_loss}]",
        "plots: [{kind: histogram, place: a.weight, range: 0}]",
        "plots: [{kind: histogram, place: a.weight, range: [1]}]",
        "plots: [{kind: lines, x: lr, y: test_loss, range: 0.1}]",
        "trial: {histogram: 10001}",
        "plots: [{kind: lines, x: lr}]",
        "plots: [{kind: lines, x: lr, y: lr}]",
        "plots: [{kind: lines, x: lr, y: test_loss, z: lr}]",
        "plots: [{kind: lines, x: lr, y: test_loss, name: ../x}]",
        "name: ../x",
    ],
)
def test_schema_refuses_the_mistakes_that_it_can_express(text: str) -> None:
    assert not accepts(text)
