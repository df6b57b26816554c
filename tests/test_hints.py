"""Hints: other libraries' names lead to the right names, and a typo of one letter to the intended name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
import torch
import torchvision

from qsweep.cli.main import cli
from qsweep.data.catalog import DATASETS
from qsweep.errors import UserError, did_you_mean, unknown
from qsweep.formats import FAMILIES, ROUNDING, parse
from qsweep.hints import EXPLAINED, SAME, explained, same, simplified
from qsweep.parameter import BadValueError
from qsweep.spec.file import TOP_KEYS
from qsweep.spec.plots import PLOT_KINDS
from qsweep.trial.checks import check
from qsweep.trial.measures import DRAWN
from qsweep.trial.optimizers import OPTIMIZERS
from qsweep.trial.parameters import CHOICES, LOSS, TRIAL_NAMES
from qsweep.trial.roles import ROLES

OPTIONS = {name for command in cli.commands.values() for option in command.params for name in option.opts}
SUBCOMMANDS = [sub for group in cli.commands.values() for sub in getattr(group, "commands", {}).values()]
OPTIONS |= {name for command in SUBCOMMANDS for option in command.params for name in option.opts}

NAMES: dict[str, tuple[str, ...]] = {
    "parameter": TRIAL_NAMES,
    "optimizer": tuple(OPTIMIZERS),
    "model": tuple(CHOICES["model"]),
    "init": tuple(CHOICES["init"]),
    "data": tuple(DATASETS),
    "role": ROLES,
    "rounding": ("nearest", "away", "zero", "up", "down", "stochastic"),
    "loss": ("cross_entropy", "squared_error"),
    "kind of plot": tuple(PLOT_KINDS),
    "metric": DRAWN,
    "key": TOP_KEYS,
    "command": tuple(cli.commands),
    "option": tuple(OPTIONS),
}
"""What exists, by kind; formats are not a closed list."""
CLOSED = [kind for kind in SAME if kind != "format"]


def is_format(name: str) -> bool:
    try:
        parse(name)
    except UserError:
        return name in FAMILIES
    return True


@pytest.mark.parametrize("kind", CLOSED)
def test_names_of_other_libraries_lead_to_existing_names(kind: str) -> None:
    assert set(SAME[kind].values()) <= set(NAMES[kind])


@pytest.mark.parametrize("kind", CLOSED)
def test_no_name_that_exists_is_a_hint(kind: str) -> None:
    there = {simplified(name) for name in NAMES[kind]}
    assert not there & (SAME[kind].keys() | EXPLAINED.get(kind, {}).keys())


def test_formats_of_other_libraries_lead_to_formats_that_parse() -> None:
    assert [name for name in SAME["format"].values() if not is_format(name)] == []
    assert [word for word in (*SAME["format"], *EXPLAINED["format"]) if is_format(word)] == []


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("bfloat16", "bf16"),
        ("torch.bfloat16", "bf16"),
        ("float16", "fp16"),
        ("half", "fp16"),
        ("float8_e4m3fn", "e4m3"),
        ("fp8_e4m3", "e4m3"),
        ("mxfp4_e2m1", "mxfp4"),
        ("int8", "uniform8 symmetric=true"),
        ("INT4", "uniform4 symmetric=true"),
        ("uint8", "uniform8"),
        ("E4M3", "e4m3"),
        ("Range4", "range4"),
        ("rnge5", "range5"),
        ("fixd8f4", "fixed8f4"),
        ("FP32", "float32"),
    ],
)
def test_format_in_another_spelling_suggests_the_format_with_the_same_values(given: str, right: str) -> None:
    assert is_format(right)
    with pytest.raises(UserError, match=re.escape(f"unknown format '{given}'; did you mean '{right}'?")):
        parse(given)


@pytest.mark.parametrize(
    ("given", "both"), [("q4.4", ("fixed8f4", "fixed9f4")), ("Q1.15", ("fixed16f15", "fixed17f15"))]
)
def test_q_notation_is_explained_with_the_sign_among_its_bits_and_in_addition_to_them(
    given: str, both: tuple[str, str]
) -> None:
    with pytest.raises(UserError) as caught:
        parse(given)
    assert all(name in str(caught.value) for name in both)
    assert all(map(is_format, both))


@pytest.mark.parametrize("given", ["fp8", "float64", "e4m3fnuz", "nf4"])
def test_format_with_other_values_is_explained_and_no_other_is_suggested(given: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(given)
    assert "did you mean" not in str(caught.value)
    assert explained("format", given) in str(caught.value)


def test_each_optimizer_of_pytorch_is_known_or_reported_as_unsupported() -> None:
    classes = [name for name, thing in vars(torch.optim).items() if isinstance(thing, type) and name != "Optimizer"]
    assert len(classes) > 10
    for name in classes:
        text = unknown("optimizer", name, tuple(OPTIMIZERS))
        if name.casefold() in OPTIMIZERS:
            assert f"did you mean '{name.casefold()}'?" in text
        else:
            assert "is not supported" in text, name
            assert "did you mean" not in text


def test_each_classifier_of_torchvision_is_suggested_with_its_prefix() -> None:
    for name in torchvision.models.list_models(module=torchvision.models):
        assert same("model", name) == f"torchvision:{name}"
    assert same("model", "ResNet-18") == same("model", "torchvision.models.resnet18") == "torchvision:resnet18"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("hidden", "`model: {name: mlp, hidden: …}`, or `model.hidden` for an axis"),
        ("dropout", "`model: {name: mlp, dropout: …}`"),
        ("std", "`init: {name: normal, std: …}`"),
        ("per", "`quantize: {weight: {format: …, per: …}}`"),
        ("weight", "`quantize.weight` for an axis"),
        ("trial.lr", "did you mean 'lr'?"),
        ("optimizer.lr", "did you mean 'lr'?"),
        ("trial.hidden", "`model.hidden` for an axis"),
        ("quantise.weight", "did you mean 'quantize.weight'?"),
        ("seed", "`seeds: 5` at the top"),
        ("bits", "did you mean 'bitwidth'?"),
        ("learning_rate", "did you mean 'lr'?"),
        ("LR", "did you mean 'lr'?"),
    ],
)
def test_parameter_at_the_wrong_level_or_under_another_name_gets_its_right_place(path: str, words: str) -> None:
    with pytest.raises(BadValueError) as caught:
        check(path, 1)
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", ["accuracy", "learning_rate", "bits"])
def test_column_is_suggested_only_if_the_table_has_it(kind: str) -> None:
    there = ("test_accuracy", "lr", "bitwidth")
    assert f"did you mean '{same('column', kind)}'" in did_you_mean(kind, there, "column")
    assert did_you_mean(kind, ("seed",), "column") == ""


@pytest.mark.parametrize("given", ["int4", "e4m2x", "l3", "cifar20", "stochastic9x"])
def test_name_with_other_digits_is_never_suggested(given: str) -> None:
    assert did_you_mean(given, ("int8", "e4m3", "l1", "cifar10", "cifar100", "stochastic8")) == ""


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("clip", 99, "it is a compression's: write `stages: [{compress: {weight: {format: …, clip: …}}}]`"),
        ("clusters", 4, "it is a compression's"),
        ("codebook", "free", "write `stages: [{retrain: {codebook: …}}]`"),
        ("at", "operands", "`quantize: {weight: {format: …, at: …}}`"),
        ("quantize.per", 16, "`quantize: {weight: {format: …, per: …}}`"),
        ("quantize.weight.clip", 99, "for compressions, which clip"),
        ("quantize.bias.at", "operands", "for the roles weight, activation and error"),
        ("quantize.weight.lr", 1, "'lr' is a trial parameter"),
        ("quantize.weight.prr", 16, "did you mean 'quantize.weight.per'?"),
        ("quantize", {"clip": 99}, "unknown role 'clip': it is a compression's"),
        (
            "quantize",
            {"weight": "uniform4 clip=99"},
            "'uniform4' has no parameter 'clip'; it is for compressions, which clip",
        ),
        (
            "quantize",
            {"weight": {"format": "uniform4", "clip": 99}},
            "it is for compressions, which clip values",
        ),
        ("layers", {"a": {"weight": "uniform4 clip=99"}}, "it is for compressions, which clip"),
        ("quantize", {"gradient": "e4m3 at=operands"}, "for the roles weight, activation and error"),
        ("quantize", {"weight": "e4m3 per=16"}, "; block, uniform, po2, ternary, binary, kmeans have it (it has: "),
        ("quantize", {"weight": {"format": "uniform4", "lr": 1}}, "it is a trial parameter, for `trial` or `grid`"),
        (
            "stages",
            [{"compress": {"weight": "uniform4 rounding=up"}}],
            "it is for roles; compressions round to nearest",
        ),
        ("stages", [{"compress": {"clip": 99}}], "`compress: {weight: {format: …, clip: …}}`"),
    ],
)
def test_parameter_of_a_format_at_a_wrong_place_gets_its_right_place(path: str, value: Any, words: str) -> None:
    with pytest.raises(BadValueError) as caught:
        check(path, value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("uniform4 symmetric", "symmetric=true"),
        ("uniform4 symetric", "symmetric=true"),
        ("block8 channel", "per=channel"),
        ("block8 per:16", "per=16"),
        ("block8 per 16", "per=…"),
    ],
)
def test_parameter_of_a_format_without_its_value_or_name_is_completed(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"did you mean '{meant}'?")):
        parse(name)


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        (("block4", "per=16"), "'block4 per=16'"),
        (("e4m3", "block4", "per=16", "axis=1"), "'block4 per=16 axis=1'"),
        (("uniform4", "symmetric"), "'uniform4 symmetric=true'"),
    ],
)
def test_format_split_by_the_shell_must_be_quoted(words: tuple[str, ...], quoted: str) -> None:
    with pytest.raises(UserError, match=f"quote both, {quoted}"):
        cli.main(["formats", *words], standalone_mode=False)


# --- typos ------------------------------------------------------------------------------------------------------------


def slips(name: str) -> Iterator[str]:
    """A name in another case, and with a letter left out, doubled, swapped with its neighbour, or replaced."""
    yield from (name.upper(), name.capitalize())
    for i, letter in enumerate(name):
        yield name[:i] + name[i + 1 :]
        if letter.isalpha():  # other digits may name another thing
            yield name[:i] + letter + name[i:]
            yield name[:i] + name[i : i + 2][::-1] + name[i + 2 :]
            yield name[:i] + "q" + name[i + 1 :]


CHECKS: dict[str, Callable[[str], object]] = {
    "parameter": lambda name: check(name, 1),
    "optimizer": lambda name: check("optimizer", name),
    "model": lambda name: check("model", name),
    "init": lambda name: check("init", name),
    "data": lambda name: check("data", name),
    "role": lambda name: check("quantize", {name: "float32"}),
    "rounding": lambda name: ROUNDING.check(name),
    "loss": lambda name: LOSS.check(name),
}
SHORT = 3
"""In names up to this length a typo may be as near to another name (`l1`, `lr`), or mean something (`he`)."""


@pytest.mark.parametrize("kind", CHECKS)
def test_one_typo_in_a_name_leads_back_to_it(kind: str) -> None:
    for name in [name for name in NAMES[kind] if len(name) > SHORT]:
        for slip in set(slips(name)) - set(NAMES[kind]):
            with pytest.raises(BadValueError) as caught:
                CHECKS[kind](slip)
            assert f"did you mean '{name}'?" in str(caught.value), slip


@pytest.mark.parametrize("kind", ["key", "metric", "kind of plot"])
def test_one_typo_in_a_key_a_metric_or_a_kind_of_plot_leads_back_to_it(kind: str) -> None:
    for name in [name for name in NAMES[kind] if len(name) > SHORT]:
        for slip in set(slips(name)) - set(NAMES[kind]):
            assert f"did you mean '{name}'?" in unknown(kind, slip, NAMES[kind]), slip


# --- the command line -------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command."""
    for name, command in cli.commands.items():
        inner = list(getattr(command, "commands", {}))
        yield from [(name, sub) for sub in inner] or [(name,)]


def refusal(*words: str) -> str:
    """The message of the command line for wrong arguments; errors of click and of qsweep both exit with 2."""
    with pytest.raises(click.UsageError) as caught:
        cli.main([*words], standalone_mode=False)
    assert caught.value.exit_code == 2
    return caught.value.message


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_one_typo_in_an_option_leads_back_to_it(words: tuple[str, ...]) -> None:
    command: Any = cli.commands[words[0]]
    for word in words[1:]:
        command = command.commands[word]
    long = [name for option in command.params for name in option.opts if name.startswith("--")]
    for name in long:
        for slip in {f"--{slip}" for slip in slips(name[2:])} - {*long, "--help"}:
            assert f"did you mean '{name}'?" in refusal(*words, slip), slip


def test_one_typo_in_a_command_leads_back_to_it() -> None:
    groups = {(): cli, **{(name,): group for name, group in cli.commands.items() if hasattr(group, "commands")}}
    for words, group in groups.items():
        for name in group.commands:
            for slip in set(slips(name)) - set(group.commands):
                if len(name) > SHORT:
                    assert f"did you mean '{name}'?" in refusal(*words, slip), slip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train",), "unknown command 'train'; did you mean 'run'?"),
        (("validate", "a.yaml"), "`qsweep run -n SPEC` checks a spec"),
        (("RUN",), "did you mean 'run'?"),
        (("run", "a", "--workers", "3"), "did you mean '--jobs'?"),
        (("run", "a", "--lr", "0.1"), "set a trial parameter with `-S lr=VALUE`"),
        (("run", "a", "--learning-rate", "0.1"), "`-S lr=VALUE`"),
        (("run", "a", "--hidden", "9"), "`-S model.hidden=VALUE`"),
        (("run", "a", "--seeds", "3"), "`-S seeds=3`"),
        (("run", "a", "-z"), "unknown option '-z'"),
        (("--versoin",), "did you mean '--version'?"),
        (("table", "--mean"), "did you mean '--aggregate'?"),
    ],
)
def test_commands_and_options_of_other_programs_lead_to_those_of_qsweep(words: tuple[str, ...], message: str) -> None:
    assert message in refusal(*words)
