"""The check of one value: its one spelling, its bounds, and what is said of a wrong one."""

from __future__ import annotations

from typing import Any

import pytest

from qsweep.parameter import BadValueError
from qsweep.trial.checks import check


@pytest.mark.parametrize(
    ("path", "value", "checked"),
    [
        ("lr", 1, 1.0),
        ("epochs", 3.0, 3),
        ("betas", [0, 0.9], [0.0, 0.9]),
        ("zero", False, False),
        ("rounding", "nearest", "nearest"),
        ("data", "mnist", "mnist"),
        ("optimizer", "adam", "adam"),
        ("split", "all", "all"),
        ("model", "mlp", {"name": "mlp"}),
        ("model", {"name": "mlp", "hidden": [8.0], "dropout": 0}, {"name": "mlp", "hidden": [8], "dropout": 0.0}),
        ("model", "my_models.py:net", {"name": "my_models.py:net"}),
        ("model", "torchvision:resnet18", {"name": "torchvision:resnet18"}),
        ("model", {"name": "torchvision:vgg11", "dropout": 0.1}, {"name": "torchvision:vgg11", "dropout": 0.1}),
        ("model", {"name": "a/b.py:net", "width": 8.0}, {"name": "a/b.py:net", "width": 8}),
        ("model.dropout", 0, 0.0),
        ("init", "he", {"name": "he"}),
        ("init", "normal(0.1)", {"name": "normal", "std": 0.1}),
        ("init", "normal(1)", {"name": "normal", "std": 1.0}),
        ("init", {"name": "normal", "std": 0.5}, {"name": "normal", "std": 0.5}),
        ("init.std", 1, 1.0),
        ("quantize", {}, {}),
        ("quantize", {"weight": "range4"}, {"weight": {"format": "range", "bitwidth": 4}}),
        ("quantize.bias", "float32", {"format": "float32"}),
        ("quantize.weight", {"format": "range", "scale": 8}, {"format": "range", "scale": 8.0}),
        ("quantize.weight", {"format": "range4", "zero": False}, {"format": "range", "bitwidth": 4, "zero": False}),
        ("quantize.weight.bitwidth", 4.0, 4),
        ("quantize.bias.rounding", "stochastic", "stochastic"),
    ],
)
def test_check_gives_the_one_spelling(path: str, value: object, checked: object) -> None:
    assert repr(check(path, value)) == repr(checked)


@pytest.mark.parametrize(
    ("path", "inside", "outside"),
    [
        ("lr", [1e-300, 1e300], [0, -1]),
        ("momentum", [0, 0.999], [-0.1, 1, 1.5]),
        ("weight_decay", [0, 10], [-1e-9]),
        ("alpha", [0, 0.999], [-0.1, 1]),
        ("eps", [1e-300], [0]),
        ("betas", [[0, 0], [0.999, 0.999]], [[0, 1], [1, 0], [-0.1, 0], [0.9], [0.9, 0.9, 0.9]]),
        ("epochs", [1, 100_000], [0, 100_001]),
        ("batch_size", [1, 1_000_000], [0, 1_000_001]),
        ("histogram", [0, 1, 10_000], [-1, 10_001, 0.5]),
        ("bitwidth", [1, 24], [0, 25]),
        ("scale", [1e-9, 2.0**60], [0, -1, 2.0**61]),
        ("model.hidden", [[1], [65536] * 32, []], [[0], [65537], [1] * 33]),
        ("model.dropout", [0, 0.999], [-0.1, 1]),
        ("init.std", [1e-9], [0, -1]),
    ],
)
def test_check_knows_the_bounds(path: str, inside: list[object], outside: list[object]) -> None:
    assert [check(path, value) for value in inside] == inside
    for value in outside:
        with pytest.raises(BadValueError, match="expected"):
            check(path, value)


@pytest.mark.parametrize("value", [64, [1, 2], "text", None, True, {"a": [1]}])
def test_check_of_a_users_own_models_parameter_takes_any_value(value: object) -> None:
    assert check("model.hidden", value, open_model=True) == value


def test_check_of_a_users_own_models_parameter_has_one_spelling_of_a_number() -> None:
    assert repr(check("model.x", [1.0, -0.0, {"a": 2.0}], open_model=True)) == "[1, 0, {'a': 2}]"


# --- mistakes ---------------------------------------------------------------------------------------------------------


def mistakes(path: str, value: object, **more: Any) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(BadValueError) as caught:
        check(path, value, **more)
    return caught.value.mistakes


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("lr", 0, "found 0, expected a number above 0"),
        ("lr", [0.1], "found [0.1], expected a number above 0"),
        ("lrr", 1, "unknown parameter 'lrr'; did you mean 'lr'?"),
        ("", 1, "unknown parameter ''"),
        ("lr.x", 1, "unknown parameter 'lr.x'"),
        (".lr", 1, "unknown parameter '.lr'"),
        (
            "data",
            "minst",
            "unknown data 'minst'; did you mean 'mnist'? (one of: digits, mnist, fashion_mnist, cifar10, cifar100)",
        ),
        ("data", 5, "found 5, expected one of: digits, mnist"),
        ("optimizer", ["sgd"], 'found ["sgd"], expected one of: sgd, rmsprop, adam'),
        (
            "optimizer",
            {"name": "adam", "lr": 0.1},
            'found {"name": "adam", "lr": 0.1}, expected a name: write `optimizer: adam`, and lr beside it',
        ),
        ("optimizer", None, "found null, expected one of: sgd"),
        ("model", "mpl", "unknown model 'mpl'; did you mean 'mlp'?"),
        ("model", "net.py", "'net.py' needs the function that builds the net: net.py:net"),
        ("model", {"hidden": [8]}, "expected a name or a mapping with a name"),
        ("model", ["mlp"], "expected a name or a mapping with a name"),
        ("model.", 1, "unknown parameter 'model.'"),
        ("model.dropuot", 0.1, "unknown parameter 'model.dropuot'; did you mean 'model.dropout'?"),
        ("model.hidden.x", 1, "unknown parameter 'model.hidden.x'"),
        ("init", "normal(--1)", 'found "normal(--1)", expected a standard deviation'),
        ("init", "normal()", "expected a standard deviation"),
        ("init", "normal(0.1", "unknown init 'normal(0.1'"),
        ("init", "uniform", "unknown init 'uniform'"),
        ("quantize", None, "found null, expected a mapping of roles to formats, such as {weight: range4}"),
        ("quantize", "range4", "expected a mapping of roles to formats"),
        ("quantize.", "range4", "unknown role ''"),
        ("quantize.weigth", "range4", "unknown role 'weigth'; did you mean 'weight'?"),
        ("quantize.weight", None, "expected a format's name, or a mapping with a format"),
        ("quantize.weight", {"bitwidth": 4}, "expected a format's name, or a mapping with a format"),
        ("quantize.weight", "fp9", "unknown format 'fp9'"),
        ("quantize.weight.bits", 4, "unknown parameter 'quantize.weight.bits'"),
        ("quantize.weight.bitwidth", 25, "found 25, expected an integer from 1 to 24 (bits per value)"),
        (
            "stages.0.compress.weight",
            "e3m2",
            "a path into `stages` can't be an axis; list alternatives under `variants`",
        ),
        ("layers.linear1.weight", "e3m2", "a path into `layers` can't be an axis; list alternatives under `variants`"),
        ("quantize.weight.bitwidth.x", 1, "unknown parameter 'quantize.weight.bitwidth.x'"),
    ],
)
def test_check_wrong_value_says_what_is_wrong(path: str, value: object, message: str) -> None:
    ((place, found),) = mistakes(path, value)
    assert place == ()
    assert message in found


@pytest.mark.parametrize(
    ("path", "value", "places"),
    [
        ("model", {"name": "mlp", "hidden": 8, "dropout": 1, "depth": 3}, [("hidden",), ("dropout",), ("depth",)]),
        ("model", {"name": "a.py:f", "source": "x", "b c": 1}, [("source",), ("b c",)]),
        ("init", {"name": "normal", "std": 0}, [("std",)]),
        ("init", "normal(0)", [("std",)]),
        ("init", "normal(1e999)", [("std",)]),
        ("init", "he(3)", [("std",)]),
        (
            "quantize",
            {"weight": "foo", "bias": {"format": "range", "scale": 0, "x": 1}, "z": "range"},
            [("weight",), ("bias", "scale"), ("bias", "x"), ("z",)],
        ),
        ("quantize.weight", {"format": "range", "bitwidth": 0}, [("bitwidth",)]),
        ("quantize.weight", {"format": "float32", "scale": 2}, [("scale",)]),
    ],
)
def test_check_tells_all_that_is_wrong_inside(path: str, value: object, places: list[tuple[str, ...]]) -> None:
    assert [place for place, _ in mistakes(path, value)] == places


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "model",
            {"name": "mlp", "droput": 0.1},
            "'mlp' has no parameter 'droput'; did you mean 'dropout'? (it has: hidden, dropout, output)",
        ),
        ("model", {"name": "softmax", "hidden": [8]}, "'softmax' has no parameter 'hidden' (it has none)"),
    ],
)
def test_check_of_a_parameter_that_a_model_has_not_says_what_it_has(path: str, value: object, message: str) -> None:
    assert mistakes(path, value)[0][1] == message


def test_check_of_a_bitwidth_that_is_given_twice_is_refused() -> None:
    assert mistakes("quantize.weight", {"format": "range4", "bitwidth": 4}) == [
        ((), "'range4' sets the bitwidth already")
    ]


@pytest.mark.parametrize("name", ["name", "source", "", "a-b", "1a"])
def test_check_of_a_name_that_no_own_model_can_have_is_refused(name: str) -> None:
    assert "can't be the name of a model's parameter" in mistakes(f"model.{name}", 1, open_model=True)[0][1]


def test_check_of_stages_gives_each_format_and_parameter_its_one_spelling() -> None:
    given = [
        {"compress": {"weight": "uniform8 per=channel", "bias": "uniform1"}},
        {"retrain": {"lr": 1, "epochs": 2.0}},
    ]
    assert repr(check("stages", given)) == repr(
        [
            {
                "compress": {
                    "weight": {"format": "uniform", "bitwidth": 8, "per": "channel"},
                    "bias": {"format": "uniform", "bitwidth": 1},
                }
            },
            {"retrain": {"lr": 1.0, "epochs": 2}},
        ]
    )


@pytest.mark.parametrize(
    ("value", "place", "message"),
    [
        ({}, (), "expected a list of stages, each a mapping with one of compress, retrain"),
        ([3], (0,), "found 3, expected a mapping with one of compress, retrain"),
        ([{"compress": {}, "retrain": {}}], (0,), "expected a mapping with one of"),
        ([{"compres": {}}], (0,), "unknown stage 'compres'; did you mean 'compress'?"),
        ([{"retrain": {}}, {"compress": {}}], (1,), "it compresses nothing (one or more of: weight, bias,"),
        (
            [{"compress": {"norm": "uniform8"}}],
            (0, "compress", "norm"),
            "(one of: weight, bias, norm_scale, norm_shift)",
        ),
        (
            [{"compress": {"weight": "uniform8 rounding=zero"}}],
            (0, "compress", "weight", "rounding"),
            "it is for roles; compressions round to nearest",
        ),
        ([{"retrain": {"epoch": 3}}], (0, "retrain", "epoch"), "did you mean 'epochs'?"),
        ([{"retrain": {"optimizer": "sdg"}}], (0, "retrain", "optimizer"), "did you mean 'sgd'?"),
    ],
)
def test_check_of_stages_says_where_what_is_wrong(value: object, place: tuple[str | int, ...], message: str) -> None:
    with pytest.raises(BadValueError) as caught:
        check("stages", value)
    ((found, said),) = caught.value.mistakes
    assert found == place
    assert message in said


def test_more_stages_than_anybody_trains_are_refused_at_once() -> None:
    with pytest.raises(BadValueError, match=r"found 3,000 stages, more than 100"):
        check("stages", [{"compress": {"weight": "uniform4"}}] * 3000)
