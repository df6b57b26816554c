"""Entries of `exclude` and `only`: the index finds the same as trying each."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qsweep.spec.matching import Matcher, matches

VALUES = st.one_of(st.integers(0, 2), st.booleans(), st.sampled_from(["a", 1.0, None]), st.lists(st.integers(0, 1)))
USED = st.dictionaries(
    st.sampled_from("xyz"), st.one_of(VALUES, st.dictionaries(st.sampled_from("xy"), VALUES)), max_size=3
)


@given(st.lists(USED, max_size=8), USED)
def test_matcher_finds_what_trying_each_entry_finds(entries: list[dict[str, Any]], used: dict[str, Any]) -> None:
    named = list(enumerate(entries))
    found = Matcher(named).matching(used)
    assert sorted(found) == [name for name, entry in named if matches(entry, used)]


def test_matcher_tries_few_of_many_entries_that_share_all_but_one_value() -> None:
    entries = [(i, {"optimizer": "sgd", "lr": i}) for i in range(1000)]
    matcher = Matcher(entries)
    assert len(list(matcher._candidates({"optimizer": "sgd", "lr": 7}))) == 1
