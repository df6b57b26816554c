"""What a trial can be told: the catalogs of parameters."""

from __future__ import annotations

from qsweep.formats import FAMILIES
from qsweep.parameter import ALWAYS, REQUIRED
from qsweep.results.tables import HISTORY_COLUMNS
from qsweep.trial.key import NUMERICS
from qsweep.trial.measures import DRAWN, LABELS, METRICS
from qsweep.trial.parameters import (
    CHOICES,
    DATA,
    NAMED,
    PLAIN,
    ROLE_DEFAULTS,
    ROLE_PARAMETERS,
    TRIAL_NAMES,
)


def test_parameter_names_never_equal_a_table_column() -> None:
    columns = {"key", "status", "seed", "variant", "reason", *METRICS, *HISTORY_COLUMNS}
    assert not columns & set(TRIAL_NAMES)


def test_parameter_names_have_no_dot() -> None:
    inside = [p.name for catalog in CHOICES.values() for own in catalog.values() for p in own]
    assert not [name for name in (*TRIAL_NAMES, *inside) if "." in name]


def test_one_name_is_one_parameter() -> None:
    catalogs = [own for catalog in NAMED.values() if catalog is not DATA for own in catalog.values()]
    for parameter in (p for own in (*catalogs, ROLE_DEFAULTS) for p in own):
        assert PLAIN[parameter.name] is parameter


def test_every_default_is_a_good_value() -> None:
    catalogs = [*NAMED.values(), *CHOICES.values(), ROLE_PARAMETERS]
    for parameter in (p for catalog in catalogs for own in catalog.values() for p in own):
        if parameter.default is not REQUIRED:
            assert repr(parameter.check(parameter.default)) == repr(parameter.default)


def test_parameters_that_came_later_are_out_of_the_key_while_they_mean_what_was_before() -> None:
    catalogs = [*NAMED.values(), *CHOICES.values(), ROLE_PARAMETERS]
    later = {p.name: p.as_before for c in catalogs for own in c.values() for p in own if p.as_before is not ALWAYS}
    assert later == {"l1": 0.0, "bias": "drawn", "output": "linear", "arithmetic": "exact"}


def test_every_part_that_a_name_stands_for_has_numerics() -> None:
    formats = [family for family in FAMILIES if family != "float32"]
    parts = [*NAMED["data"], *NAMED["optimizer"], *CHOICES["model"], *formats]
    assert len(parts) == len(set(parts))
    others = {
        "step",
        "online",
        "random",
        "init",
        "source",
        "torchvision",
        "histogram",
        "operands",
        "compress",
        "retrain",
        "mxint8",
        "stalled",
        "lost",
        "coded_sizes",
        "own_data",
    }
    assert set(parts) | others == set(NUMERICS)


def test_all_that_can_be_drawn_has_a_label() -> None:
    assert set(DRAWN) <= set(LABELS)
