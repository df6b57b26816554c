"""Packed weights: every bit comes back, and the file is as small as its codes and levels say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from qsweep.errors import UserError
from qsweep.formats import parse
from qsweep.formats.packing import (
    CODEBOOK,
    CODED,
    ENDS,
    FORMAT,
    MOST_WITHOUT_CODES,
    WHOLE,
    Groups,
    from_file,
    load_weights,
    packed,
    to_file,
)
from qsweep.rounding import quantize
from qsweep.rounding.layout import Layout

SHAPE = (6, 5, 3, 3)


def some(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def rounded(name: str, *shape: int) -> np.ndarray:
    return quantize(some(*shape), parse(name), contraction=1).numpy()


@pytest.mark.parametrize(
    ("name", "groups", "kind", "bits"),
    [
        ("uniform4", Groups(), ENDS, 4),
        ("uniform1", Groups(), CODEBOOK, 1),
        ("uniform8 per=channel", Groups("channel", 0), ENDS, 8),
        ("uniform3 per=4", Groups(4, 1), ENDS, 3),
        ("kmeans8", Groups(), CODEBOOK, 3),
        ("kmeans5 per=channel", Groups("channel", 0), CODEBOOK, 3),
        ("ternary", Groups(), CODEBOOK, 2),
        ("fixed5f3", Groups(), ENDS, 5),
        ("float32", Groups(), WHOLE, 0),
    ],
)
def test_every_value_comes_back_from_the_codes_that_the_format_has(
    name: str, groups: Groups, kind: str, bits: int
) -> None:
    values = rounded(name, 16, 40, 3, 3)
    own = packed(values, groups)
    assert (own.kind, own.bits) == (kind, bits)
    found = from_file(to_file({"a": values, "b": values + 1}, {"a": groups}))
    assert found["a"].tobytes() == values.tobytes()
    assert found["b"].tobytes() == (values + 1).tobytes()


@given(st.integers(0, 999), st.sampled_from([Groups(), Groups("channel", 1), Groups(2, 1), Groups(3, 0)]))
def test_whatever_the_values_they_come_back(seed: int, groups: Groups) -> None:
    random = np.random.default_rng(seed)
    values = random.choice(random.normal(size=5), size=(4, 5)).astype(np.float32)
    values[0, 0] = random.choice([-0.0, np.inf, np.nan, 1e-45, -3e38])
    found = from_file(to_file({"a.b": values}, {"a.b": groups}))["a.b"]
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize(("per", "axis"), [("tensor", 0), ("channel", 1), (2, 1), (4, 3), (7, 0)])
def test_groups_are_those_in_which_a_format_rounds(per: int | str, axis: int) -> None:
    layout = Layout(SHAPE, per, axis)
    places = layout.rows(torch.arange(int(np.prod(SHAPE))).view(1, *SHAPE))[0].numpy()
    expected = np.zeros(len(np.unique(places)), dtype=np.int64)
    expected[places] = np.arange(len(places)) // layout.width
    found = Groups(per, axis).numbers(SHAPE).reshape(-1)
    pairs = np.unique(np.stack([found, expected], axis=1), axis=0)
    assert len(pairs) == len(np.unique(found)) == len(np.unique(expected))


def test_the_file_is_no_larger_than_codes_levels_and_a_header() -> None:
    values = rounded("uniform3", 100, 100)
    own = packed(values, Groups())
    assert own.total_bits == 3 * 10_000 + 2 * 32
    assert own.entropy_bits < own.total_bits
    assert own.total_bits / 8 < len(to_file({"w": values}, {"w": Groups()})) < own.total_bits / 8 + 500


def test_equal_weights_give_equal_bytes_and_keep_their_shapes() -> None:
    tensors = {"w": rounded("uniform3", 9, 9), "steps": np.array(7), "b": np.ones(3, np.float32)}
    content = to_file(tensors, {"w": Groups()})
    assert all(to_file(tensors, {"w": Groups()}) == content for _ in range(20))
    found = from_file(content)
    assert {name: own.shape for name, own in found.items()} == {name: own.shape for name, own in tensors.items()}


def test_a_file_that_was_cut_is_none() -> None:
    with pytest.raises(ValueError, match="not weights that `qsweep export` wrote"):
        from_file(to_file({"w": rounded("uniform3", 9, 9)}, {"w": Groups()})[:-5])


def test_load_weights_reads_a_file_by_its_path_and_names_one_that_it_can_not_read(tmp_path: Path) -> None:
    values, path = rounded("uniform3", 9, 9), tmp_path / "model.safetensors"
    with pytest.raises(UserError, match=r"model\.safetensors: No such file.*; `qsweep export KEY .*` writes it"):
        load_weights(path)
    path.write_bytes(to_file({"w": values}, {"w": Groups()}))
    assert load_weights(str(path))["w"].tobytes() == values.tobytes()
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"model\.safetensors: not weights that `qsweep export` wrote"):
        load_weights(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope.st", "No such file or directory; expected a .safetensors file of `qsweep export`"),
        (".", "Is a directory; expected a .safetensors file of `qsweep export`"),
        ("empty.safetensors", "not weights that `qsweep export` wrote: found no header, expected a safetensors file"),
        ("other.safetensors", "found a safetensors file of another program; `safetensors.numpy.load_file` reads it"),
        ("torch.safetensors", "found a safetensors file of another program; `safetensors.numpy.load_file` reads it"),
        ("newer.safetensors", "found version '3', expected 1 to 2"),
        ("damaged.safetensors", "found None, expected a mapping of packed tensors"),
    ],
)
def test_load_weights_says_what_another_file_is(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty.safetensors").write_bytes(b"")
    headers: dict[str, dict[str, str] | None] = {
        "other": None,
        "torch": {"format": "pt"},
        "newer": {"format": FORMAT, "version": "3", "packed": "{}"},
        "damaged": {"format": FORMAT, "version": "2", "packed": "{"},
    }
    for stem, header in headers.items():
        (tmp_path / f"{stem}.safetensors").write_bytes(save({"w": np.zeros(3, np.float32)}, header))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_weights(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_load_weights_of_what_is_not_a_path_is_an_error() -> None:
    with pytest.raises(UserError, match="path: found 3, expected a path"):
        load_weights(3)  # type: ignore[arg-type]


def test_entropy_is_shannons() -> None:
    own = packed(np.array([0, 0, 0, 0, 1, 1, 2, 3], dtype=np.float32), Groups())
    assert own.entropy_bits - 32 * own.levels.size == pytest.approx(8 * 1.75)


@pytest.mark.parametrize("content", [b"", b"abc", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 40])
def test_another_file_is_no_packed_one(content: bytes) -> None:
    with pytest.raises(ValueError, match="not weights that `qsweep export` wrote"):
        from_file(content)


@pytest.mark.parametrize("groups", [Groups(), Groups("channel", 1), Groups(3, 0)])
def test_constant_groups_need_no_codes_and_come_back(groups: Groups) -> None:
    values = np.zeros((70, 80), np.float32)
    assert from_file(to_file({"w": values}, {"w": groups}))["w"].tobytes() == values.tobytes()


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (1, 1, 1)])
def test_tensors_of_one_value_or_none_come_back(shape: tuple[int, ...]) -> None:
    values = np.full(shape, -0.0, np.float32)
    found = from_file(to_file({"w": values}, {"w": Groups()}))["w"]
    assert (found.shape, found.tobytes()) == (shape, values.tobytes())


SEVERAL = to_file(
    {
        "a": rounded("uniform3 per=4", 6, 10),
        "b": rounded("kmeans3", 7, 5),
        "c": np.full((3, 3), 2, np.float32),
        "d": rounded("block4 per=4", 6, 10),
        "e": rounded("nvfp4", 3, 20),
        "f": rounded("uniform4 symmetric=true per=channel", 4, 5),
    },
    {
        "a": Groups(4, 1),
        "b": Groups(),
        "c": Groups("channel", 0),
        "d": Groups(4, 1, parse("block4 per=4")),
        "e": Groups(16, 1, parse("nvfp4")),
        "f": Groups("channel", 0, parse("uniform4 symmetric=true per=channel")),
    },
)


def with_entries(content: bytes, tensor: str, entries: dict[str, Any]) -> bytes:
    """The same file with other entries in the description of a packed tensor."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    about = json.loads(header["__metadata__"]["packed"])
    about[tensor].update(entries)
    header["__metadata__"]["packed"] = json.dumps(about)
    written = json.dumps(header).encode()
    written = written.ljust(-(-len(written) // 8) * 8)
    return len(written).to_bytes(8, "little") + written + content[end:]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=5,
)
ODD = st.sampled_from(
    [0, -1, 1, 4, 64, 10**9, "channel", ENDS, CODEBOOK, CODED, "block4", "mxfp4", "fp9", [], [10**6, 10**6], [0], [60]]
)
ENTRY = st.sampled_from(["kind", "bits", "shape", "per", "axis", "format", "more"])


def refusal_of(content: bytes) -> str | None:
    """What `from_file` says of a file, if it refuses it; what else it raises, it raises here too."""
    try:
        found = from_file(content)
    except ValueError as error:
        return str(error)
    assert all(value.size <= MOST_WITHOUT_CODES for value in found.values())
    return None


@given(st.sampled_from("abcdef"), st.dictionaries(ENTRY, ODD | ANYTHING, min_size=1))
def test_from_file_with_any_other_header_gives_weights_or_a_value_error(tensor: str, entries: dict[str, Any]) -> None:
    refusal = refusal_of(with_entries(SEVERAL, tensor, entries))
    assert refusal is None or "not weights that `qsweep export` wrote" in refusal


@given(st.integers(0, len(SEVERAL) - 1), st.binary(max_size=6))
def test_from_file_of_a_damaged_file_gives_weights_or_a_value_error(place: int, damage: bytes) -> None:
    refusal = refusal_of(SEVERAL[:place] + damage + SEVERAL[place + len(damage) :])
    assert refusal is None or "not weights that `qsweep export` wrote" in refusal


@pytest.mark.parametrize("entries", [{"shape": [10**6, 10**6]}, {"shape": [2**40], "bits": 0}, {"per": 2**61}])
def test_from_file_allocates_nothing_that_the_file_cannot_hold(entries: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not weights that `qsweep export` wrote"):
        from_file(with_entries(SEVERAL, "a", entries))
