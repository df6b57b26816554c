"""Roles and parts that nothing has: said of each model, and not of one that has them in some trial."""

from __future__ import annotations

from pathlib import Path

import pytest
from paths import CONFIGS

from qsweep.runner.inspection import Nets, idle_roles, inspect, not_rounded, to_inspect
from qsweep.spec.file import read
from qsweep.spec.plan import expand

ALL = "quantize: {weight: range8, norm: range8, activation: fixed8f4, gradient: range8, momentum: block8, master: bf16}"
SPECS = {
    "no norms": (f"trial: {{model: lenet, {ALL}, momentum: 0.9}}", {"lenet": ("norm",)}),
    "norms": (f"trial: {{model: cnn3, {ALL}, momentum: 0.9}}", {}),
    "an optimizer that keeps something": ("trial: {model: mlp, quantize: {momentum: block8}, optimizer: adam}", {}),
    "momentum in some trials": (
        "trial: {model: mlp, quantize: {momentum: block8}}\ngrid: {momentum: [0, 0.9]}",
        {},
    ),
    "one of two optimizers": (
        "trial: {model: mlp, quantize: {momentum: block8}}\ngrid: {optimizer: [adam, sgd]}",
        {"mlp with sgd": ("momentum",)},
    ),
    "momentum in a retraining": (
        "trial: {model: mlp, quantize: {momentum: block8}, stages: [{retrain: {momentum: 0.9}}]}",
        {},
    ),
    "one of two models": (
        "trial: {quantize: {norm: range8}, data: mnist}\ngrid: {model: [cnn3, mlp]}",
        {"mlp": ("norm",)},
    ),
    "parts of norms": (
        "trial: {model: softmax, stages: [{compress: {weight: uniform8, norm_shift: uniform8}}]}",
        {"softmax": ("compress norm_shift",)},
    ),
    "an exception": (
        "trial: {model: mlp, layers: {linear1: {momentum: block8}}}",
        {"mlp with sgd": ("momentum",)},
    ),
}


@pytest.mark.parametrize(("text", "expected"), SPECS.values(), ids=SPECS.keys())
def test_idle_roles_of_nets_of_the_catalog(tmp_path: Path, text: str, expected: dict[str, tuple[str, ...]]) -> None:
    path = tmp_path / "a.yaml"
    own = text if "data:" in text else text.replace("trial: {", "trial: {data: mnist, ", 1)
    path.write_text(own, encoding="utf-8")
    assert idle_roles(expand(read(path)).configurations, Nets()) == expected


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_specs_that_come_with_qsweep_have_no_idle_roles(path: Path) -> None:
    assert idle_roles(expand(read(path)).configurations, Nets()) == {}


def test_an_output_of_a_convolution_is_listed_before_training_for_nets_of_the_catalog(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    model = "{name: conv_block, filters: [2, 2, 2, 2, 2], all_conv: true}"
    path.write_text(f"trial: {{data: mnist, model: {model}, quantize: {{activation: fixed8f4}}}}", encoding="utf-8")
    plan = expand(read(path))
    nets = inspect(to_inspect(plan.trials), plan.spec, lambda line: None)
    assert not_rounded(plan.trials, nets, {}) == {"conv_block": ("output of the net from dense",)}
