"""Trials: what they use, their keys, and which of them stack."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsweep.formats import FAMILIES
from qsweep.parameter import BadValueError, Parameter
from qsweep.spec.blocks import overlay
from qsweep.trial import checks, parameters
from qsweep.trial import resolve as resolving
from qsweep.trial.checks import check
from qsweep.trial.key import NUMERICS, Trial, canonical, key_of, stack_signature
from qsweep.trial.parameters import ROLE_PARAMETERS
from qsweep.trial.resolve import TrialError, resolve
from qsweep.trial.spelling import describe_choice, describe_role

SOURCE = {"nets.py": "ab" * 32}
OWN = "nets.py:net"
QUANTIZED = {"bitwidth": 4, "quantize": {"weight": "range"}}


def make(seed: int = 0, sources: dict[str, str] | None = None, **given: Any) -> Trial:
    """The trial of these parameters; `quantize__weight` is the dotted path `quantize.weight`."""
    named = {name.replace("__", "."): value for name, value in {"data": "digits", "model": "mlp", **given}.items()}
    return resolve(overlay({}, {n: check(n, v, bool(sources)) for n, v in named.items()}), seed, sources)


# --- pinned keys ------------------------------------------------------------------------------------------------------

PINNED: dict[str, tuple[dict[str, Any], str]] = {
    "float32": ({}, "663f42891556ccad7597c15929569f258085ff6498f1f06af23a0c3b4b715241"),
    "range": (
        {
            "data": "mnist",
            "model": {"name": "mlp", "hidden": [512, 512], "dropout": 0.2},
            "init": "normal(0.1)",
            "batch_size": 512,
            "lr": 2.0**-10,
            "quantize": {"weight": "range"},
            "rounding": "stochastic",
            "scale": 10,
            "bitwidth": 3,
            "zero": False,
            "quantize_init": False,
        },
        "81344ad8727acc2678ca89b843218758ad8a892a402d34921f1fc515ceb70121",
    ),
    "rmsprop": (
        {
            "optimizer": "rmsprop",
            "alpha": 0.9,
            "eps": 1e-7,
            "init": "he",
            "preprocess": "standard",
            "split": "all",
            "drop_last": True,
            "quantize": {"weight": "range8", "bias": "float32"},
        },
        "f1a11b718762286dda923f6252a313500864cc04f7a34390012a6a45b4b3f4cf",
    ),
    "adam": (
        {
            "data": "fashion_mnist",
            "model": "softmax",
            "init": "glorot_uniform",
            "epochs": 7,
            "optimizer": "adam",
            "betas": [0.8, 0.99],
            "weight_decay": 1e-4,
        },
        "76bda463b4791f9529a5cbb2ca538d55de8b16ed54b058bc4e4f1e2990931e9a",
    ),
    "user's own model": (
        {"seed": 3, "sources": SOURCE, "model": {"name": OWN, "width": 8}, "momentum": 0.9},
        "632d79be2510e08412eb29516f2cccce192b2448aca1745bbb2417875fdfe7fb",
    ),
}
"""Keys name records for good: one that changes here makes every store forget what it knows."""

FORMATS = {
    "fixed8f7": "9e75d7889fd3241c8b32bfa6c828acf7fc71cd81c97eb3943c5e141d7a7f7c9d",
    "fraction8": "b03ad0642790595d2b6c7e12e7426c408bef0480f0b5bd130f6d049583ad7860",
    "e4m3": "2050ca8002d25b39bed7351ea0ae06f06b7738fe78f2981228063d2e0aa5be7a",
    "block4 per=16": "4348461c67e10dd1e30535cec58bbea366c8122919392a0c6f3525ab32b526b9",
    "mxfp4": "07457d05ed80952c590394b56d07b52f19b659f186ca51c8f6cb391a278aed39",
    "nvfp4": "fa9b98ddbdbb0378a97b42a8ce7a627040c6a3b41b6606a2b1174c87bb8d1ec3",
    "uniform8 symmetric=true per=channel": "8748c7b65d16a7887ac612994dca8818317c97aa6719aaefb0a28202c3aa9bda",
    "po2_4": "839f5d0fd3718f92af7ad67dbcc86014068a20a2f0872ceff4f52db4536efc91",
    "ternary": "ee6a52bd411fc2d3ca34449196382d375895a43b908714fc7c4a6da3406061b1",
    "binary": "51059cc479814db903a9af2d87c4d7951f90278cdaf7c0e19eea1a6b02b5bb8c",
    "quantized_bits(4,0,1)": "e99e6b6c32454c5b7c9e6157667b0d857ab4f7c81bb5fc56487502ca071a2c42",
    "quantized_relu(3,1)": "49fe2d5bd05eb774758b52e6dbec59ab097d29051738bdff2ab61f85f56c9264",
    "quantized_po2(4,1)": "c67818d66fafe13392efa15075af281b38d28057aa75fd4f8c95238d8e7328cc",
    "quantized_relu_po2(4,4)": "2a54064cc0134512c06b0e0021de75bd9fb21090fcca17516d666229ae0a0ae8",
    "qkeras_binary(alpha=1)": "1007752c8262e5c1b5f1edc872d937e7699a87becbf8e7f8f4e170400ee90c8d",
    "qkeras_ternary": "ad03876a174170a6c8b7a49e9abda1dd4d4b9da420846ee92b677282e87ed0bf",
    "stochastic_binary": "1fa17c4559aecfb47701a7657e2698348b1e5be1f01500877af898bfa35a6e79",
    "stochastic_ternary(alpha='auto')": "fdfc008706b43a8542bb41a861038223d8335907c9321b17290feb5ffac9f7a2",
    "bernoulli": "91c4e89f8af775b0e59a9bd201d6058b2c3731d09771f10e1fcf99dfcb550ce2",
    "fixed8f4 compat=qtorch": "89d3d0b097bf1b58b6c9b584d1077080758a59ab84f54d03644ce34ca309e7e2",
}
"""The same of a trial whose weights are in a format."""


@pytest.mark.parametrize("name", PINNED)
def test_key_is_the_pinned_one(name: str) -> None:
    given_parameters, key = PINNED[name]
    assert make(**given_parameters).key == key


def test_key_is_the_sha_256_of_the_canonical_settings() -> None:
    trial = make(**PINNED["range"][0])
    text = json.dumps(trial.settings, sort_keys=True, separators=(",", ":"))
    assert trial.key == key_of(trial.settings) == hashlib.sha256(text.encode()).hexdigest()


def test_numerics_of_mxint8_have_a_part_that_the_other_formats_of_microscaling_lack() -> None:
    parts = {name: make(quantize={"weight": name}).settings["numerics"] for name in ("mxint8", "mxfp4", "mxfp8")}
    assert [name for name, own in parts.items() if "mxint8" in own] == ["mxint8"]


def test_key_of_nvfp4_tells_the_arithmetic_apart_and_leaves_the_exact_one_out() -> None:
    keys = [make(quantize={"weight": f"nvfp4 arithmetic={name}"}).key for name in ("exact", "nvidia")]
    assert keys[0] == make(quantize={"weight": "nvfp4"}).key != keys[1]


@pytest.mark.parametrize(
    ("quantize", "parts"),
    [
        ({"weight": "uniform4"}, {"stalled"}),
        ({"weight": "uniform4", "bias": "float32"}, {"stalled"}),
        ({"weight": "float32", "bias": "binary"}, {"stalled"}),
        ({"weight": "range4", "master": "nvfp4"}, {"stalled"}),
        ({"weight": "ternary scaling=1", "bias": "float32"}, set()),
        ({"weight": "block4"}, set()),
        ({"weight": "mxfp4"}, set()),
        ({"weight": "uniform4 symmetric=true scaling=po2"}, set()),
        ({"weight": "nvfp4 at=operands"}, {"lost"}),
        ({"gradient": "block8"}, {"lost"}),
        ({"activation": "range4", "weight": "binary"}, {"lost", "stalled"}),
    ],
    ids=lambda v: str(sorted(v)) if isinstance(v, set) else str(v),
)
def test_numerics_of_counts_are_parts_of_the_trials_that_have_them(quantize: dict[str, str], parts: set[str]) -> None:
    assert {"lost", "stalled"} & make(quantize=quantize).settings["numerics"].keys() == parts


@pytest.mark.parametrize("name", PINNED)
def test_key_is_found_again_from_settings_that_were_stored_as_json(name: str) -> None:
    trial = make(**PINNED[name][0])
    assert key_of(json.loads(json.dumps(trial.settings))) == trial.key


@pytest.mark.parametrize("name", FORMATS)
def test_key_of_a_format_is_the_pinned_one(name: str) -> None:
    assert make(quantize={"weight": name}).key == FORMATS[name]


@pytest.mark.parametrize("name", FORMATS)
def test_role_in_a_table_is_a_name_that_gives_the_same_trial(name: str) -> None:
    trial = make(quantize={"weight": name})
    assert make(quantize={"weight": trial.columns["quantize.weight"]}).key == trial.key


@pytest.mark.parametrize(
    ("given_parameters", "message"),
    [
        (
            {"quantize": {"weight": "fixed"}, "bitwidth": 8},
            "fixed needs a fraction: fixed8f7, or fraction in trial or grid",
        ),
        ({"quantize": {"weight": "range"}}, "range needs a bitwidth: range4, or bitwidth in trial or grid"),
        ({"quantize": {"weight": "range"}, "bitwidth": 17}, "range17: found 17, expected an integer from 1 to 16"),
        ({"quantize": {"weight": "block"}, "bitwidth": 1}, "block1 has no value but 0"),
        ({"quantize": {"weight": "uniform8 scaling=po2"}}, "needs symmetric: true"),
        (
            {"quantize": {"weight": "block8 compat=qtorch"}, "rounding": "up"},
            "has no rounding 'up' (one of: nearest, stochastic)",
        ),
        ({"quantize": {"weight": "quantized_bits(4)"}, "rounding": "stochastic4"}, "has no rounding 'stochastic4'"),
    ],
)
def test_format_that_is_impossible_in_a_trial_says_why(given_parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(TrialError) as caught:
        make(**given_parameters)
    assert message in str(caught.value)
    assert caught.value.path == ("bitwidth" if "found 17" in message else "quantize.weight")


def test_bitwidth_of_the_trial_reaches_every_family_that_has_one() -> None:
    for family in ("range", "block", "uniform", "po2", "quantized_bits"):
        assert make(quantize={"weight": family}, bitwidth=5).role("weight")["bitwidth"] == 5
    assert make(quantize={"weight": {"format": "fixed", "fraction": 3}}, bitwidth=5).role("weight")["bitwidth"] == 5


# --- parameters that are added later ----------------------------------------------------------------------------------


def add_nesterov(monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any, Any]:
    nesterov = Parameter("nesterov", bool, "true or false", default=False, as_before=False)
    monkeypatch.setitem(parameters.NAMED["optimizer"], "sgd", (*parameters.NAMED["optimizer"]["sgd"], nesterov))
    monkeypatch.setitem(parameters.PLAIN, "nesterov", nesterov)
    monkeypatch.setattr(checks, "TRIAL_NAMES", (*checks.TRIAL_NAMES, "nesterov"))
    return "nesterov", False, True


def add_block_size(monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any, Any]:
    block = Parameter("block", int, "an integer", default=0, as_before=0)
    monkeypatch.setitem(ROLE_PARAMETERS, "range", (*ROLE_PARAMETERS["range"], block))
    monkeypatch.setitem(parameters.ROLE_PARTS, "block", block)
    return "quantize__weight__block", 0, 32


def add_smoothing(monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any, Any]:
    smoothing = Parameter("smoothing", float, "a number", default=0.0, as_before=0.0)
    monkeypatch.setattr(resolving, "TRAINING_PARAMETERS", (*resolving.TRAINING_PARAMETERS, smoothing))
    monkeypatch.setitem(parameters.PLAIN, "smoothing", smoothing)
    monkeypatch.setattr(checks, "TRIAL_NAMES", (*checks.TRIAL_NAMES, "smoothing"))
    return "smoothing", 0.0, 0.1


ADDED = pytest.mark.parametrize("add", [add_nesterov, add_block_size, add_smoothing])


@ADDED
def test_parameter_added_later_leaves_all_pinned_keys(add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch)
    assert [make(**given_parameters).key for given_parameters, _ in PINNED.values()] == [
        key for _, key in PINNED.values()
    ]


@ADDED
def test_parameter_added_later_changes_the_key_with_another_value(add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, as_before, value = add(monkeypatch)
    same, other = (make(**QUANTIZED, **{name: v}) for v in (as_before, value))
    assert make(**QUANTIZED).key == same.key != other.key


def test_parameter_added_later_is_part_of_a_role_with_its_value_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    add_block_size(monkeypatch)
    trial = make(quantize={"weight": "range4"})
    assert "block" not in trial.settings["quantize"]["weight"]
    assert trial.role("weight")["block"] == 0


# --- what is in the key, and what is not ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "unread"),
    [
        ({}, {"bitwidth": 4, "scale": 2, "zero": False, "rounding": "stochastic", "quantize_init": False}),
        ({}, {"alpha": 0.5, "eps": 0.1, "betas": [0.1, 0.2]}),
        ({"optimizer": "adam"}, {"momentum": 0.9, "alpha": 0.5}),
        ({"optimizer": "rmsprop"}, {"betas": [0.1, 0.2]}),
        ({"model": "softmax"}, {"model__dropout": 0.5}),
        ({"init": "he"}, {"init__std": 0.5}),
        ({"quantize": {"weight": "range4"}}, {"bitwidth": 8}),
        ({"quantize": {"weight": {"format": "range4", "scale": 2, "zero": False}}}, {"scale": 3, "zero": True}),
        ({"quantize": {"weight": "float32"}}, {"quantize__weight__bitwidth": 3}),
        ({}, {"quantize": {"weight": "float32", "bias": "float32"}}),
        ({"quantize": {"weight": "range4"}}, {"quantize__bias": "range4"}),
        ({"quantize": {"weight": "range", "bias": "range"}, "bitwidth": 3}, {"quantize__weight": "range3"}),
    ],
)
def test_key_leaves_out_what_nothing_reads(base: dict[str, Any], unread: dict[str, Any]) -> None:
    assert make(**base).key == make(**{**base, **unread}).key


@pytest.mark.parametrize(
    "changed",
    [
        *(
            {"lr": 0.5},
            {"momentum": 0.5},
            {"weight_decay": 0.1},
            {"l1": 0.1},
            {"optimizer": "adam"},
            {"epochs": 2},
            {"batch_size": 7},
        ),
        *({"data": "mnist"}, {"preprocess": "standard"}, {"split": "all"}, {"drop_last": True}, {"seed": 1}),
        *(
            {"model": "softmax"},
            {"model__dropout": 0.5},
            {"model__hidden": [8]},
            {"init": "he"},
            {"init": "normal(0.2)"},
        ),
        *({"bitwidth": 5}, {"scale": 2}, {"zero": False}, {"rounding": "stochastic"}, {"quantize_init": False}),
        *(
            {"quantize__bias": "float32"},
            {"quantize__bias": "range5"},
            {"quantize": {}},
            {"quantize__weight": "float32"},
        ),
    ],
    ids=str,
)
def test_key_holds_what_the_trial_uses(changed: dict[str, Any]) -> None:
    assert make(**QUANTIZED).key != make(**{**QUANTIZED, **changed}).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"lr": 1}, {"lr": 1.0}),
        ({"epochs": 3}, {"epochs": 3.0}),
        ({"weight_decay": 0.0}, {"weight_decay": -0.0}),
        ({"optimizer": "adam", "betas": [0, 0.9]}, {"optimizer": "adam", "betas": [-0.0, 0.9]}),
        ({"model": {"name": "mlp", "hidden": [64]}}, {"model": "mlp", "model__hidden": [64.0]}),
        ({"model": "mlp"}, {"model": {"name": "mlp", "dropout": 0}}),
        ({"model": {"name": OWN, "x": 1}, "sources": SOURCE}, {"model": {"name": OWN, "x": 1.0}, "sources": SOURCE}),
        ({"model": {"name": OWN, "x": 0.0}, "sources": SOURCE}, {"model": OWN, "model__x": -0.0, "sources": SOURCE}),
        ({"init": "normal(0.1)"}, {"init": {"name": "normal", "std": 0.1}}),
        ({"quantize": {"weight": "range4"}}, {"quantize": {"weight": {"format": "range", "bitwidth": 4}}}),
        ({"quantize": {"weight": "range4"}}, {"quantize": {"weight": "range"}, "bitwidth": 4}),
        ({"model": "mlp"}, {"model": "mlp", "model__dropout": 0, "sources": SOURCE}),
    ],
)
def test_key_is_one_for_two_spellings(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert make(**one).key == make(**other).key


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False), st.floats(0.001, 1000))
def test_key_tells_any_two_numbers_apart(lr: float, other: float) -> None:
    assert (make(lr=lr).key == make(lr=other).key) == (lr == other)


def test_key_of_a_users_own_model_has_the_text_but_not_the_files_name() -> None:
    same = make(sources={"other.py": "ab" * 32}, model="other.py:net")
    edited = make(sources={"nets.py": "cd" * 32}, model=OWN)
    assert make(sources=SOURCE, model=OWN).key == same.key != edited.key
    assert make(sources=SOURCE, model="nets.py:other").key != same.key


@pytest.mark.parametrize("part", NUMERICS)
def test_raised_numerics_change_the_keys_that_use_the_part_alone(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    users = {
        "step": set(PINNED),
        "random": set(PINNED),
        "init": set(PINNED),
        "sgd": {"float32", "range", "user's own model"},
        "mlp": {"float32", "range", "rmsprop"},
        "digits": {"float32", "rmsprop", "user's own model"},
        "range": {"range", "rmsprop"},
        "rmsprop": {"rmsprop"},
        "adam": {"adam"},
        "softmax": {"adam"},
        "source": {"user's own model"},
        "mnist": {"range"},
        "fashion_mnist": {"adam"},
    }
    monkeypatch.setitem(NUMERICS, part, NUMERICS[part] + 1)
    changed = {name for name, (given_parameters, key) in PINNED.items() if make(**given_parameters).key != key}
    assert changed == users.get(part, set())
    moved = {
        t.role("weight")["format"] for name, key in FORMATS.items() if (t := make(quantize={"weight": name})).key != key
    }
    of_all = part in ("step", "random", "init", "sgd", "mlp", "digits")
    drifting = {"nvfp4", "uniform", "ternary", "binary", "stochastic_ternary"} if part == "stalled" else set[str]()
    families = set(FAMILIES) if of_all else {part} & set(FAMILIES) | drifting
    assert moved == families - {"range", "float32", "kmeans"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "path", ["lr", "momentum", "weight_decay", "alpha", "eps", "scale", "model.dropout", "init.std"]
)
def test_check_refuses_what_is_not_finite(path: str, value: float) -> None:
    with pytest.raises(BadValueError, match="expected a"):
        check(path, value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_canonical_refuses_what_is_not_finite(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical({"lr": value})


# --- roles ------------------------------------------------------------------------------------------------------------


def test_bias_is_like_the_weight_unless_named() -> None:
    quantized = make(quantize={"weight": "range4"}, scale=3).settings["quantize"]
    assert quantized["bias"] == quantized["weight"]
    assert make(quantize={"weight": "range4", "bias": "range6"}).role("bias")["bitwidth"] == 6
    assert set(make(quantize={"weight": "range4", "bias": "float32"}).settings["quantize"]) == {"weight"}
    assert set(make(quantize={"bias": "range4"}).settings["quantize"]) == {"bias"}


def test_bias_with_a_parameter_alone_is_like_the_weight_for_the_rest() -> None:
    trial = make(quantize={"weight": {"format": "range4", "scale": 3}}, quantize__bias__bitwidth=8)
    weight = {name: value for name, value in trial.role("weight").items() if name != "at"}
    assert trial.role("bias") == {**weight, "bitwidth": 8}


@pytest.mark.parametrize(
    ("name", "value", "other"),
    [("bitwidth", 5, 7), ("scale", 5.0, 7.0), ("zero", False, True), ("rounding", "stochastic", "nearest")],
)
def test_trial_level_parameter_reaches_a_role_that_does_not_set_it(name: str, value: Any, other: Any) -> None:
    base = {"bitwidth": 3, name: value}
    assert make(quantize={"weight": "range"}, **base).role("weight")[name] == value
    own = {"format": "range", name: other}
    assert make(quantize={"weight": own}, **base).role("weight")[name] == other
    assert (
        make(quantize={"weight": "range"}, **{f"quantize__weight__{name}": other}, **base).role("weight")[name] == other
    )


def test_role_that_is_not_named_is_float32() -> None:
    assert make().role("weight") == make().role("bias") == {"format": "float32"}


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ({"format": "float32", "bitwidth": 3}, "float32"),
        ({"format": "range"}, "range"),
        ({"format": "range", "bitwidth": 4}, "range4"),
        ({"format": "range", "bitwidth": 4, "scale": 8.0, "rounding": "nearest"}, "range4 scale=8.0 rounding=nearest"),
    ],
)
def test_describe_role_is_a_word_or_so(role: dict[str, Any], text: str) -> None:
    assert describe_role(role) == text


def test_describe_choice_is_a_word_or_so() -> None:
    assert describe_choice({"name": "mlp"}) == "mlp"
    assert describe_choice({"name": "mlp", "hidden": [64, 32]}) == "mlp hidden=[64,32]"


# --- columns, and what is missing -------------------------------------------------------------------------------------


def test_columns_are_what_the_trial_reads() -> None:
    columns = make(
        model={"name": "mlp", "hidden": [8]}, bitwidth=4, quantize={"weight": {"format": "range", "scale": 2}}
    ).columns
    assert columns["model"] == "mlp"
    assert columns["model.hidden"] == [8]
    assert columns["bitwidth"] == 4
    assert columns["quantize.weight"] == columns["quantize.bias"] == "range scale=2.0"
    assert columns["quantize.weight.scale"] == 2
    assert not {"betas", "scale", "init.std"} & columns.keys()


def test_columns_of_a_users_own_model_have_file_and_parameters() -> None:
    columns = make(sources=SOURCE, model={"name": OWN, "width": 8}).columns
    assert (columns["model"], columns["model.width"]) == (OWN, 8)


@pytest.mark.parametrize(
    ("given_parameters", "path", "message"),
    [
        ({"model": "mlp"}, "data", "data is missing (one of: digits, mnist, fashion_mnist, cifar10, cifar100)"),
        ({"data": "digits"}, "model", "model is missing (one of: mlp, softmax, lenet, cnn3, conv_block, "),
        ({"data": "digits", "model": {"dropout": 0.1}}, "model", "model is missing"),
        (
            {"data": "digits", "model": {"name": "mlp"}, "quantize": {"weight": {"format": "range"}}},
            "quantize.weight",
            "range needs a bitwidth: range4, or bitwidth in trial or grid",
        ),
    ],
)
def test_resolve_says_what_is_missing(given_parameters: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(TrialError) as caught:
        resolve(given_parameters, 0)
    assert caught.value.path == path
    assert message in str(caught.value)


def test_resolve_checks_what_could_have_been_meant_for_a_users_own_model() -> None:
    with pytest.raises(TrialError, match=r"found 64, expected a list of layer widths"):
        make(sources=SOURCE, model="mlp", model__hidden=64)


# --- stacks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "changed"),
    [
        (QUANTIZED, {"lr": 0.5}),
        (QUANTIZED, {"bitwidth": 8}),
        (QUANTIZED, {"scale": 3}),
        (QUANTIZED, {"zero": False}),
        (QUANTIZED, {"quantize": {"weight": "range7"}}),
        ({"momentum": 0.5}, {"momentum": 0.9}),
        ({"weight_decay": 0.5}, {"weight_decay": 0.1}),
        ({"optimizer": "adam"}, {"betas": [0.5, 0.9], "eps": 0.1}),
        ({"optimizer": "rmsprop"}, {"alpha": 0.5}),
    ],
    ids=str,
)
def test_trials_that_differ_in_what_stacks_share_a_signature(base: dict[str, Any], changed: dict[str, Any]) -> None:
    one, other = make(**base), make(**{**base, **changed})
    assert one.key != other.key
    assert stack_signature(one.settings) == stack_signature(other.settings)


@pytest.mark.parametrize(
    "changed",
    [
        *({"epochs": 2}, {"batch_size": 7}, {"data": "mnist"}, {"preprocess": "standard"}, {"drop_last": True}),
        *({"seed": 1}, {"model": "softmax"}, {"model__dropout": 0.5}, {"init": "he"}, {"init": "normal(0.2)"}),
        *({"optimizer": "adam"}, {"momentum": 0.5}, {"weight_decay": 0.1}, {"rounding": "stochastic"}),
        *({"quantize": {}}, {"quantize__bias": "float32"}, {"quantize_init": False}),
    ],
    ids=str,
)
def test_trials_that_differ_in_what_does_not_stack_have_two_signatures(changed: dict[str, Any]) -> None:
    one, other = make(**QUANTIZED), make(**{**QUANTIZED, **changed})
    assert stack_signature(one.settings) != stack_signature(other.settings)


# --- roles and places -------------------------------------------------------------------------------------------------


def of_roles(quantize: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The settings of a trial with these roles."""
    return make(quantize=quantize, **more).settings


def test_a_second_copy_of_what_is_not_rounded_is_none() -> None:
    assert "master" not in of_roles({"error": "e4m3", "master": "float32"})["quantize"]
    assert make(quantize={"error": "e4m3", "master": "float32"}).key == make(quantize={"error": "e4m3"}).key
    assert of_roles({"weight": "block8", "master": "float32"})["quantize"]["master"] == {"format": "float32"}


def test_weights_rounded_as_operands_leave_stored_weights_and_biases_alone() -> None:
    settings = of_roles({"weight": {"format": "mxfp4", "at": "operands"}, "master": "float32"})
    assert set(settings["quantize"]) == {"weight"}
    assert "quantize_init" not in settings


def test_quantize_init_is_read_where_stored_values_are_rounded_anywhere() -> None:
    assert of_roles({"weight": "block8"})["quantize_init"] is True
    assert of_roles({}, layers={"linear1": {"weight": "block8"}})["quantize_init"] is True
    assert "quantize_init" not in of_roles({"error": "e4m3", "activation": "e4m3"})


def test_compat_of_a_trial_reaches_all_its_formats_and_leaves_the_init_alone() -> None:
    settings = of_roles({"weight": "block8", "error": "e5m2"}, compat="qtorch", rounding="nearest")
    assert {own["compat"] for own in settings["quantize"].values()} == {"qtorch"}
    assert settings["quantize_init"] is False
    assert of_roles({"weight": "block8"}, compat="qtorch", rounding="nearest", quantize_init=True)["quantize_init"]


def test_a_loss_scale_is_read_where_errors_or_gradients_are_rounded_anywhere() -> None:
    assert of_roles({"error": "e4m3"}, loss_scale=8)["loss_scale"] == 8
    assert of_roles({}, layers={"linear1": {"gradient": "e4m3"}}, loss_scale=8)["loss_scale"] == 8
    assert "loss_scale" not in of_roles({"weight": "block8"}, loss_scale=8)


def test_exceptions_by_place_are_part_of_the_key_and_roles_rounded_there_alone_are_known() -> None:
    exceptions = {"linear1": {"activation": "e4m3"}, "linear2": "float32"}
    one = make(quantize={"weight": "block8"}, layers=exceptions)
    assert one.key != make(quantize={"weight": "block8"}).key
    assert one.view.quantized_roles == ("weight", "bias", "activation")
    assert one.columns["layers"] == canonical(exceptions)
    assert make(quantize={"weight": "block8"}, layers={}).key == make(quantize={"weight": "block8"}).key


def test_a_net_that_halves_its_images_out_of_existence_is_refused() -> None:
    with pytest.raises(TrialError, match="lenet needs images of 16×16 pixels at least, digits has 8×8"):
        make(model="lenet")


def test_an_open_models_parameters_are_columns_and_part_of_the_key() -> None:
    one, other = (make(model={"name": "torchvision:vgg11", "dropout": rate}) for rate in (0.1, 0.2))
    assert one.key != other.key
    assert (one.columns["model"], one.columns["model.dropout"]) == ("torchvision:vgg11", 0.1)
    assert "torchvision" in one.settings["numerics"]


# --- stages -----------------------------------------------------------------------------------------------------------

COMPRESS: dict[str, Any] = {"compress": {"weight": "uniform"}}


def test_a_trial_of_stages_has_the_trials_that_end_before_each_as_its_bases() -> None:
    stages = [COMPRESS, {"retrain": {"epochs": 1}}]
    found = make(quantize={}, bitwidth=4, stages=stages)
    assert [base.key for base in found.bases] == [
        make(quantize={}).key,
        make(quantize={}, bitwidth=4, stages=stages[:1]).key,
    ]
    assert [len(base.bases) for base in found.bases] == [0, 1]
    assert make(quantize={}, stages=[]).key == make(quantize={}).key


def test_a_bitwidth_reaches_a_compression_that_has_none() -> None:
    keys = {make(quantize={}, bitwidth=b, stages=[COMPRESS]).key for b in (3, 4)}
    assert len(keys) == 2
    assert make(quantize={}, bitwidth=3, stages=[COMPRESS]).columns["bitwidth"] == 3
    set_itself = [{"compress": {"weight": "uniform4"}}]
    assert make(quantize={}, bitwidth=3, stages=set_itself).key == make(quantize={}, stages=set_itself).key


def test_clusters_left_open_are_as_many_as_a_bitwidth_tells_apart() -> None:
    left_open = [{"compress": {"weight": "kmeans", "bias": "kmeans5"}}]
    found = make(quantize={}, bitwidth=3, stages=left_open)
    assert found.key == make(quantize={}, stages=[{"compress": {"weight": "kmeans8", "bias": "kmeans5"}}]).key
    assert found.columns["bitwidth"] == 3
    with pytest.raises(TrialError, match="kmeans needs clusters: kmeans8, or bitwidth in trial or grid"):
        make(quantize={}, stages=left_open)


def test_retraining_has_the_trials_own_parameters_unless_it_sets_them() -> None:
    plain, named = make(quantize={}, stages=[{"retrain": {}}]), make(quantize={}, lr=0.5)
    same = make(quantize={}, stages=[{"retrain": {"epochs": named.settings["epochs"], "codebook": "free"}}])
    assert same.key == plain.key
    other = make(quantize={}, stages=[{"retrain": {"lr": 0.125}}])
    assert other.settings["stages"][0]["retrain"]["optimizer"]["lr"] == 0.125
    assert other.bases[0].key == plain.bases[0].key
    assert other.columns["lr"] == plain.columns["lr"]


@pytest.mark.parametrize(
    ("stages", "path", "message"),
    [
        ([COMPRESS], "stages.0.compress.weight", "uniform needs a bitwidth: uniform8, or bitwidth in trial or grid"),
        (
            [{"compress": {"weight": {"format": "fixed", "bitwidth": 8}}}],
            "stages.0.compress.weight",
            "fraction: fixed8f7$",
        ),
        ([{"retrain": {"codebook": "kept"}}], "stages.0.retrain.codebook", "nothing is compressed at this stage"),
        ([{"retrain": {"alpha": 0.5}}], "stages.0.retrain.alpha", "sgd has no alpha"),
        (
            [
                {"compress": {"weight": "uniform4"}},
                {"retrain": {"codebook": "free"}},
                {"retrain": {"codebook": "kept"}},
            ],
            "stages.2.retrain.codebook",
            "nothing is compressed at this stage",
        ),
    ],
)
def test_stages_that_can_not_be_say_which_and_why(stages: list[Any], path: str, message: str) -> None:
    with pytest.raises(TrialError, match=message) as caught:
        make(quantize={}, stages=stages)
    assert caught.value.path == path


def test_a_codebook_is_kept_as_long_as_there_is_one() -> None:
    compress = {"compress": {"weight": "uniform4", "bias": "float32"}}
    stages = [compress, {"retrain": {}}, {"retrain": {}}, {"retrain": {"codebook": "free"}}, {"retrain": {}}]
    found = [
        next(iter(stage.values())).get("codebook") for stage in make(quantize={}, stages=stages).settings["stages"]
    ]
    assert found == [None, "kept", "kept", "free", "free"]
    alone = make(quantize={}, stages=[{"compress": {"weight": "uniform4"}}])
    assert make(quantize={}, stages=[compress]).key == alone.key


@pytest.mark.parametrize("roles", [{"weight": "range4"}, {"gradient": "e5m2"}, {"momentum": "bf16"}])
def test_a_codebook_is_not_kept_where_a_role_would_part_its_values(roles: dict[str, str]) -> None:
    stages = [{"compress": {"weight": "uniform4"}}, {"retrain": {}}]
    with pytest.raises(TrialError, match="which would separate values that share a level: write `codebook: free`"):
        make(quantize=roles, momentum=0.5, scale=1, bitwidth=4, stages=stages)
    make(quantize={"activation": "fixed8f4", "error": "e5m2"}, stages=stages)


def test_more_clusters_than_kmeans_takes_are_refused() -> None:
    with pytest.raises(TrialError, match="kmeans with bitwidth 20: found 1048576, expected an integer from 1 to 65536"):
        make(quantize={"weight": "fixed20f4"}, bitwidth=20, stages=[{"compress": {"weight": "kmeans"}}])


def test_columns_of_stages_say_them_in_a_line() -> None:
    stages = [{"compress": {"weight": "uniform8", "bias": "uniform1"}}, {"retrain": {"epochs": 2, "codebook": "free"}}]
    found = make(quantize={}, stages=stages).columns["stages"]
    assert found == "compress weight=uniform8 bias=uniform1 > retrain epochs=2 codebook=free"


@pytest.mark.parametrize(
    ("name", "is_coded"),
    [
        *[("uniform4", False), ("uniform4 per=channel", False), ("kmeans4", False), ("fraction3", False)],
        *[("uniform4 symmetric=true", True), ("uniform4 scaling=1", True), ("block8", True), ("mxfp4", True)],
        *[("fixed8f6", True), ("e4m3", True), ("range4", True), ("ternary", True)],
    ],
)
def test_compressions_whose_size_counts_scales_have_a_part_of_their_own(name: str, is_coded: bool) -> None:
    found = make(quantize={}, stages=[{"compress": {"weight": name}}, {"retrain": {}}])
    assert ["coded_sizes" in each.settings["numerics"] for each in (*found.bases, found)] == [False, is_coded, is_coded]
