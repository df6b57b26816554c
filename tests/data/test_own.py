"""Users' own data: arrays and folders of pictures, their keys, what trains on them, and every mistake."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qsweep.data import decode, statistics
from qsweep.data.catalog import DATASETS
from qsweep.data.files import Examples, decoded_file, ensure, load, preprocess
from qsweep.data.own import Asked, OwnData, check, data_set
from qsweep.errors import DataError, SpecError
from qsweep.parameter import BadValueError
from qsweep.results.folder import write
from qsweep.runner.checks import get_data
from qsweep.spec.file import read
from qsweep.spec.plan import Plan, expand
from qsweep.training.job import Job

Write = Callable[..., Path]
"""Writes mine.npz from arrays."""

X, Y = np.arange(6 * 20, dtype=np.uint8).reshape(6, 4, 5), np.array([0, 1, 2, 0, 1, 2])
"""Six examples of three classes."""


@pytest.fixture
def arrays(tmp_path: Path) -> Write:
    def save(**given: Any) -> Path:
        np.savez(tmp_path / "mine.npz", **given)
        return tmp_path / "mine.npz"

    return save


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of three grey pictures, 4×4, each of one value."""
    folder = tmp_path / "pictures"
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for index in range(3):
            Image.new("L", (4, 4), 100 * label + index).save(folder / name / f"{index}.png")
    return folder


def own(path: Path, **options: Any) -> OwnData:
    kind, named = ("images", "folder") if path.is_dir() else ("npz", "file")
    return decode.read_own(Asked.of(check({"name": kind, named: path.name, **options})), path)


def examples(path: Path, folder: Path, **options: Any) -> Examples:
    """The data set as a worker loads it."""
    found = own(path, **options)
    dataset = data_set(found.identity)
    ensure(dataset, folder, lambda text: None, found.decode)
    return load(dataset, folder)


def plan_of(folder: Path, data: str, more: str = "", name: str = "mine") -> Plan:
    text = f"trial: {{data: {data}, model: {{name: mlp, hidden: [8]}}, batch_size: 2{more}}}\n"
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return expand(read(folder / f"{name}.yaml", shown=f"{name}.yaml"))


def trained(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """The results of a plan's trials, each trained by itself."""
    get_data_in(folder, plan)
    job = Job({}, folder, "cpu")
    found = [own for trial in plan.trials for own in job([trial.settings])]
    assert {own["status"] for own in found} == {"done"}
    return [own["result"] for own in found]


def get_data_in(folder: Path, plan: Plan) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QSWEEP_DATA", str(folder))
        get_data(plan, plan.trials, lambda text: None)


# --- the spelling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "spelling"),
    [
        ({"name": "npz", "file": "mine.npz"}, "npz:mine.npz"),
        ({"name": "npz", "maximum": 16.0, "test": 0.5, "file": "a b/é.npz"}, "npz:a b/é.npz test=0.5 maximum=16"),
        ({"name": "images", "folder": "/x/y/", "size": 32}, "images:/x/y/ size=32"),
        ("images:p size=8 test=0.1", "images:p size=8 test=0.1"),
    ],
)
def test_own_data_have_one_spelling_which_reads_back(given: Any, spelling: str) -> None:
    assert check(given) == spelling
    assert Asked.of(spelling).spelling == spelling


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "npz"}, "npz needs file"),
        ({"name": "images", "folder": "x"}, "images needs size"),
        ({"name": "npz", "file": "x", "size": 3}, "unknown parameter of npz 'size'"),
        ({"name": "npz", "file": ""}, 'found "", expected the path of a file'),
        ({"name": "npz", "file": "a\nb"}, "expected the path of a file"),
        ({"name": "npz", "file": "a\0b"}, "expected the path of a file"),
        ({"name": "npz", "file": "x", "test": 1}, "found 1, expected a number between 0 and 1"),
        ({"name": "npz", "file": "x", "maximum": 256}, "expected an integer from 1 to 255"),
        ({"name": "images", "folder": "x", "size": 5000}, "expected an integer from 1 to 1024"),
        ({"name": "npz", "file": "x test=0.3"}, "can't end in what reads as a parameter"),
        ({"name": "npy", "file": "x"}, "unknown kind of data 'npy'"),
        ("npz:", "expected npz:FILE"),
        ("npz:x test=a", 'found "a"'),
    ],
)
def test_wrong_parameter_of_own_data_is_reported(given: Any, message: str) -> None:
    with pytest.raises(BadValueError) as error:
        check(given)
    assert message in str(error.value)


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_arrays_of_digits_train_as_the_built_in_set_does(tmp_path: Path, data_folder: Path, arrays: Write) -> None:
    digits = load(DATASETS["digits"], data_folder)
    parts = {"x": digits.train_images, "y": digits.train_labels}
    tests = {"x_test": digits.test_images, "y_test": digits.test_labels}
    arrays(**{name: part.numpy() for name, part in (parts | tests).items()})
    for more in ("", ", preprocess: centered", ", split: all"):
        mine = plan_of(tmp_path, "'npz:mine.npz maximum=16'", more)
        known = plan_of(tmp_path, "digits", more)
        assert trained(mine, data_folder) == trained(known, data_folder)
        assert mine.trials[0].settings["data"]["name"] == f"sha256:{DATASETS['digits'].decoded}"
        assert mine.trials[0].key != known.trials[0].key


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (X, (1, 4, 5)),
        (X.reshape(6, 20), (20, 1, 1)),
        (X.reshape(6, 2, 2, 5), (2, 2, 5)),
        (np.asfortranarray(X), (1, 4, 5)),
        (X.astype(">f8"), (1, 4, 5)),
        (X.astype(np.float16), (1, 4, 5)),
    ],
)
def test_arrays_of_all_shapes_and_types_are_read_as_they_are(
    arrays: Write, tmp_path: Path, x: np.ndarray, shape: tuple[int, ...]
) -> None:
    found = examples(arrays(x=x, y=Y, x_test=x[:2], y_test=Y[:2]), tmp_path)
    assert found.train_images.shape == (6, *shape)
    assert found.train_images.dtype == (torch.uint8 if x.dtype == np.uint8 else torch.float32)
    assert np.array_equal(found.train_images.numpy().reshape(X.shape), X)
    assert np.array_equal(found.test_images.numpy().reshape(2, 4, 5), X[:2])
    assert (found.train_labels.tolist(), found.test_labels.tolist()) == (Y.tolist(), Y[:2].tolist())


def test_test_examples_are_drawn_from_the_content_alone(arrays: Write, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (50, 3, 3), dtype=np.uint8), np.arange(50) % 2
    found = examples(arrays(x=x, y=y), tmp_path)
    assert (len(found.train_images), len(found.test_images)) == (40, 10)
    together = np.concatenate([found.train_images.numpy(), found.test_images.numpy()])[:, 0]
    assert sorted(map(bytes, together)) == sorted(map(bytes, x))
    chosen = [next(i for i in range(50) if np.array_equal(x[i], image[0])) for image in found.test_images.numpy()]
    assert chosen == [9, 12, 23, 26, 28, 30, 31, 33, 34, 48]  # pinned: keys of trials depend on it
    assert len(examples(tmp_path / "mine.npz", tmp_path, test=0.5).test_images) == 25


def test_same_content_has_the_same_key_under_any_path(arrays: Write, tmp_path: Path) -> None:
    arrays(x=X, y=Y)
    (tmp_path / "there").mkdir()
    np.savez_compressed(tmp_path / "there" / "other.npz", y=Y.astype(np.int8), x=X)
    first, second = (
        plan_of(tmp_path, data) for data in ("npz:mine.npz", "{name: npz, file: there/other.npz, test: 0.2}")
    )
    assert first.trials[0].key == second.trials[0].key
    assert first.trials[0].columns["data"] == "npz:mine.npz"
    np.savez(tmp_path / "mine.npz", x=X + 1, y=Y)
    assert plan_of(tmp_path, "npz:mine.npz").trials[0].key != first.trials[0].key


def test_key_of_own_data_is_pinned(arrays: Write, tmp_path: Path) -> None:
    arrays(x=X, y=Y)
    (trial,) = plan_of(tmp_path, "npz:mine.npz").trials
    assert trial.settings["data"] == {
        "name": "sha256:24fd98bff31126a37632548b523ce8ae07fa1fea155d2bfbafcafe07cf4d4a91",
        "shape": [1, 4, 5],
        "classes": 3,
        "train": 5,
        "test": 1,
        "dtype": "uint8",
        "maximum": 255,
        "preprocess": "unit",
        "split": "standard",
        "drop_last": False,
    }
    assert trial.key[:16] == "8a314e16a0dc35d3"


BAD_ARRAYS: dict[str, tuple[Mapping[str, Any], str]] = {
    "a test set under another name": (
        {"x": X, "y": Y, "X_test": X, "Y_test": Y},
        "nothing reads X_test, Y_test: arrays are named x and y, and x_test and y_test",
    ),
    "no y": ({"x": X}, "it has no y (it has: x)"),
    "other names": ({"x_train": X, "y_train": Y}, "it has no x and no y (it has: x_train, y_train)"),
    "no y_test": ({"x": X, "y": Y, "x_test": X}, "it has no y_test"),
    "objects": (
        {"x": np.array([{}] * 6, object), "y": Y},
        "x is an array of Python objects, which are never unpickled",
    ),
    "object labels": ({"x": X, "y": np.array(list("abcabc"), object)}, "y is an array of Python objects"),
    "integers": ({"x": X.astype(np.int64), "y": Y}, "x is int64, expected uint8 or floating point"),
    "flat": ({"x": X.reshape(-1), "y": Y}, "x has the shape (120,), expected (n, channels, height, width)"),
    "five axes": ({"x": X.reshape(6, 1, 1, 4, 5), "y": Y}, "x has the shape (6, 1, 1, 4, 5)"),
    "scalar": ({"x": np.uint8(3), "y": Y}, "x has the shape ()"),
    "none": ({"x": X[:0], "y": Y[:0]}, "x has the shape (0, 4, 5), expected one or more examples"),
    "one": ({"x": X[:1], "y": Y[:1]}, "one class"),
    "channels last": ({"x": np.zeros((6, 8, 8, 3), np.uint8), "y": Y}, "channels last: x.transpose(0, 3, 1, 2)"),
    "NaN": ({"x": np.where(X == 7, np.nan, X), "y": Y}, "x has NaN in 1 places"),
    "Inf": ({"x": np.where(X == 7, np.inf, X), "y": Y}, "x has Inf, or numbers beyond float32 in 1 places"),
    "overflow": ({"x": X * 1e300, "y": Y}, "numbers beyond float32"),
    "fewer labels": ({"x": X, "y": Y[:5]}, "y has the shape (5,), expected one label per example, (6,)"),
    "one-hot": ({"x": X, "y": np.eye(6, dtype=np.uint8)}, "y has the shape (6, 6)"),
    "float labels": ({"x": X, "y": Y * 1.0}, "y is float64, expected integers"),
    "from 1": ({"x": X, "y": Y + 1}, "y has labels from 1 to 3 without 0"),
    "negative": ({"x": X, "y": Y - 1}, "y has labels from -1 to 1 without 2"),
    "gap": ({"x": X, "y": Y * 2}, "y has labels from 0 to 4 without 1"),
    "one class": ({"x": X, "y": Y * 0}, "all examples have one class"),
    "too many": ({"x": np.zeros((300, 2), np.uint8), "y": np.arange(300)}, "300 classes, more than 256"),
    "unseen": ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, "y_test has the label 3, y only 0 … 2"),
    "test shape": ({"x": X, "y": Y, "x_test": X[:, :2], "y_test": Y}, "x_test is uint8 (6, 2, 5) and x is uint8"),
    "test type": ({"x": X, "y": Y, "x_test": X / 2, "y_test": Y}, "x_test is float64 (6, 4, 5) and x is uint8"),
    "test labels": ({"x": X, "y": Y, "x_test": X, "y_test": Y[:2]}, "y_test has the shape (2,)"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_wrong_arrays_are_reported_at_their_line(arrays: Write, tmp_path: Path, case: str) -> None:
    given, message = BAD_ARRAYS[case]
    arrays(**given)
    with pytest.raises(SpecError) as error:
        plan_of(tmp_path, "\n  'npz:mine.npz'")
    assert str(error.value).startswith("mine.yaml:1:9: trial.data: 'mine.npz': ")
    assert message in str(error.value)


def test_options_that_do_not_fit_the_arrays_are_reported(arrays: Write) -> None:
    with pytest.raises(BadValueError, match="x has the value 119, above the maximum of 16"):
        own(arrays(x=X, y=Y), maximum=16)
    with pytest.raises(BadValueError, match="it has x_test, so leave `test` out"):
        own(arrays(x=X, y=Y, x_test=X, y_test=Y), test=0.5)
    with pytest.raises(BadValueError, match="maximum is for uint8"):
        own(arrays(x=X / 2, y=Y), maximum=16)


def test_file_that_is_no_npz_is_reported(tmp_path: Path, arrays: Write) -> None:
    whole = arrays(x=X, y=Y).read_bytes()
    npy, pickled, damaged = (tmp_path / name for name in ("a.npy", "b.npz", "c.npz"))
    np.save(npy, X)
    np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "b.npy").replace(pickled)
    at = whole.index(bytes(X.reshape(-1)[:50]))
    damaged.write_bytes(whole[:at] + b"\0" * 50 + whole[at + 50 :])
    os.mkfifo(tmp_path / "fifo.npz")
    asked = Asked.of("npz:mine.npz")
    for path, message in (
        (tmp_path / "none.npz", "not found"),
        (tmp_path, "not a regular file"),
        (tmp_path / "fifo.npz", "not a regular file"),
        (npy, "not a file of arrays"),
        (pickled, "not a file of arrays"),
        (damaged, "not a file of arrays that np.savez writes: Bad CRC-32"),
    ):
        with pytest.raises(BadValueError, match=message):
            decode.read_own(asked, path)


def test_array_that_claims_to_be_huge_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9000000000, 9000000000), }\n"
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as file:
        for name in ("x", "y"):
            file.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(BadValueError, match=r"x has 81,000,000,000\.0 GB, more than 4\.3 GB"):
        own(tmp_path / "mine.npz")


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_are_read_by_class_and_name(pictures: Path, tmp_path: Path) -> None:
    (pictures / ".hidden").mkdir()
    (pictures / "README.txt").write_text("mine")
    found = examples(pictures, tmp_path, size=4, test=0.34)
    values = [*found.train_images[:, 0, 0, 0].tolist(), *found.test_images[:, 0, 0, 0].tolist()]
    assert sorted(values) == [0, 1, 2, 100, 101, 102]
    assert [value // 100 for value in values] == [*found.train_labels.tolist(), *found.test_labels.tolist()]
    assert (found.train_images.shape, len(found.test_images)) == ((4, 1, 4, 4), 2)


def test_one_picture_in_colour_makes_all_colour(pictures: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (9, 7), (200, 100, 50, 0)).save(pictures / "dog" / "wide.PNG")
    Image.new("L", (30, 30), 255).save(pictures / "cat" / "grey.jpg")
    found = examples(pictures, tmp_path, size=5)
    assert found.train_images.shape[1:] == (3, 5, 5)
    every = torch.cat([found.train_images, found.test_images])[:, :, 2, 2].tolist()
    assert [200, 100, 50] in every
    assert [255, 255, 255] in every


def test_wrong_pictures_are_reported(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(match: str, **options: Any) -> None:
        with pytest.raises(BadValueError, match=match):
            own(pictures, **{"size": 4, **options})

    monkeypatch.setattr(decode, "MOST_BYTES", 10_000)
    refused("more than 0.0 GB: choose a smaller size", size=100)
    monkeypatch.setattr(decode, "MOST_PIXELS", 20)
    Image.new("L", (5, 5)).save(pictures / "cat" / "large.png")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(pictures / "cat" / "deep.png")
    (pictures / "dog" / "text.png").write_text("no picture")
    (pictures / "dog" / "folder.png").mkdir()
    (pictures / "dog" / "gif.png").write_bytes(b"GIF89a\1\0\1\0\0\0\0;")
    refused(
        r"can't read cat/deep.png \(16 bits per pixel, expected 8\), cat/large.png \(5×5, more than 20 pixels\),"
        r" dog/folder.png \(not a regular file\), dog/gif.png \(not a picture\), dog/text.png \(not a picture\)"
    )
    for path in (*(pictures / "cat").glob("*e*.png"), pictures / "dog" / "text.png", pictures / "dog" / "gif.png"):
        path.unlink()
    (pictures / "dog" / "folder.png").rmdir()
    whole = (pictures / "dog" / "1.png").read_bytes()
    (pictures / "dog" / "1.png").write_bytes(whole[:-30])
    refused(r"can't read dog/1.png")
    (pictures / "dog" / "1.png").write_bytes(whole)
    (pictures / "dog" / "a.bmp").write_text("")
    refused("dog/a.bmp is not a PNG or JPEG file")
    (pictures / "dog" / "a.bmp").replace(pictures / "loose.png")
    refused("loose.png is in no class")
    (pictures / "loose.png").unlink()
    (pictures / "eel").mkdir()
    refused("the class folder eel is empty")


def test_folder_without_classes_is_reported(pictures: Path) -> None:
    asked = Asked.of("images:pictures size=4")
    for path, message in (
        (pictures / "none", "not found"),
        (pictures / "cat" / "0.png", "not a folder"),
        (pictures / "cat", "0.png is in no class"),
    ):
        with pytest.raises(BadValueError, match=message):
            decode.read_own(asked, path)
    for file in (pictures / "dog").iterdir():
        file.unlink()
    (pictures / "dog").rmdir()
    with pytest.raises(BadValueError, match="1 subfolders, expected one per class, two or more"):
        decode.read_own(asked, pictures)


# --- from a spec to a worker ------------------------------------------------------------------------------------------


def test_trials_train_on_pictures_and_features(pictures: Path, arrays: Write, tmp_path: Path) -> None:
    arrays(x=X.reshape(6, 20) / 7, y=Y)
    for data in ("npz:mine.npz", "images:pictures size=4"):
        for kind in ("unit", "standard", "centered"):
            assert trained(plan_of(tmp_path, f"'{data}'", f", preprocess: {kind}"), tmp_path / "data")


def test_single_example_training_takes_own_uint8_data_only(arrays: Write, tmp_path: Path) -> None:
    arrays(x=X, y=Y)
    text = (
        "trial: {data: npz:mine.npz, model: mlp, preprocess: standard, iterations: 9, window: 5, loss: squared_error}"
    )
    (tmp_path / "mine.yaml").write_text(text)
    assert trained(expand(read(tmp_path / "mine.yaml")), tmp_path / "data")
    arrays(x=X / 2, y=Y)
    with pytest.raises(SpecError, match="iterations look inputs up by pixel value: expected uint8 data, found float32"):
        expand(read(tmp_path / "mine.yaml"))


def test_own_data_can_be_an_axis_and_be_excluded(arrays: Write, tmp_path: Path) -> None:
    arrays(x=X, y=Y)
    (tmp_path / "mine.yaml").write_text(
        "trial: {model: mlp, batch_size: 2}\n"
        "grid: {data: [digits, {name: npz, file: mine.npz}, {name: npz, file: mine.npz, test: 0.5}]}\n"
        "exclude: [{data: {name: npz, file: mine.npz, test: 0.5}}]\n"
    )
    plan = expand(read(tmp_path / "mine.yaml"))
    assert [row.axes for row in plan.rows] == [("digits",), ("npz:mine.npz",)]
    assert plan.notes == ()


def test_option_s_takes_a_path_beside_the_spec_or_in_the_current_folder(
    arrays: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays(x=X, y=Y)
    (tmp_path / "specs").mkdir()
    spec = tmp_path / "specs" / "a.yaml"
    spec.write_text("trial: {data: digits, model: mlp}")
    monkeypatch.chdir(tmp_path)
    (trial,) = expand(read(spec, ["data={name: npz, file: mine.npz}"])).trials
    assert trial.settings["data"]["train"] == 5
    spec.write_text("trial: {data: 'npz:mine.npz', model: mlp}")
    with pytest.raises(SpecError, match=r"'mine\.npz': not found"):
        read(spec)


def test_net_that_the_data_are_too_small_for_is_reported(arrays: Write, tmp_path: Path) -> None:
    arrays(x=X, y=Y)
    (tmp_path / "mine.yaml").write_text("trial: {data: 'npz:mine.npz', model: lenet}")
    with pytest.raises(SpecError, match=r"lenet needs images of \d+×\d+ pixels at least, npz:mine.npz has 4×5"):
        expand(read(tmp_path / "mine.yaml"))


def test_results_folder_names_its_data_by_digest(arrays: Write, tmp_path: Path) -> None:
    path = arrays(x=X, y=Y)
    plan = plan_of(tmp_path, "{name: npz, file: mine.npz}")
    folder = tmp_path / "mailed"
    write(folder, plan, "mine.yaml", {}, {})
    recorded = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["data"]
    assert list(recorded) == ["npz:mine.npz"]
    path.unlink()
    again = expand(read(folder / "spec.yaml"))
    assert [trial.key for trial in again.trials] == [trial.key for trial in plan.trials]
    digest = recorded["npz:mine.npz"]["name"].removeprefix("sha256:")
    with pytest.raises(DataError, match=f"copy {digest}.own from where it ran"):
        get_data_in(tmp_path / "data", again)


@pytest.mark.parametrize(
    "changed", [{"name": "sha256:../../x"}, {"shape": [1, 4]}, {"train": -1}, {"train": True}, {"dtype": "object"}]
)
def test_damaged_identity_in_a_results_folder_is_reported(
    arrays: Write, tmp_path: Path, changed: dict[str, Any]
) -> None:
    identity = {**own(arrays(x=X, y=Y)).identity, **changed}
    (tmp_path / "provenance.json").write_text(json.dumps({"data": {"npz:mine.npz": identity}}))
    with pytest.raises(SpecError, match=r"provenance\.json beside this spec can't be read: not the settings"):
        plan_of(tmp_path, "npz:mine.npz")


def test_data_that_change_after_the_spec_was_read_are_refused(arrays: Write, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"npz:{arrays(x=X, y=Y).name}")
    for x, y in ((X + 1, Y), (X, Y * 0)):
        arrays(x=x, y=y)
        with pytest.raises(DataError, match="the data changed since the spec was read"):
            get_data_in(tmp_path / "data", plan)
    assert not list((tmp_path / "data").glob("*.own"))


def test_link_at_the_decoded_file_is_replaced_not_followed(arrays: Write, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"npz:{arrays(x=X, y=Y).name}")
    victim, folder = tmp_path / "victim", tmp_path / "data"
    victim.write_text("mine")
    folder.mkdir()
    file = decoded_file(plan.trials[0].view.data_set, folder)
    file.symlink_to(victim)
    get_data_in(folder, plan)
    assert victim.read_text() == "mine"
    assert not file.is_symlink()


# --- statistics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_standard_subtracts_the_mean_and_divides_by_the_deviation_of_training_pixels(
    arrays: Write, tmp_path: Path, dtype: str
) -> None:
    rng = np.random.default_rng(1)
    x = (rng.random((5000, 2, 3, 3)) * np.array([40, 200])[:, None, None] + 10).astype(dtype)
    x[:, 1] = x[:, 1] if dtype == "uint8" else 7  # a channel without deviation
    path = arrays(x=x, y=np.arange(5000) % 2)
    found = examples(path, tmp_path)
    dataset = data_set(own(path).identity)
    got = preprocess(found.test_images, dataset, "standard", found).numpy()
    scale = 255 if dtype == "uint8" else 1
    train, test = (part.numpy().astype(np.float64) / scale for part in (found.train_images, found.test_images))
    mean, std = train.mean((0, 2, 3)), train.std((0, 2, 3))
    std[std == 0] = 1
    assert np.allclose(got, (test - mean[:, None, None]) / std[:, None, None], atol=1e-5)


def test_statistics_do_not_depend_on_the_layout_in_memory() -> None:
    x = np.random.default_rng(2).normal(1e4, 1, (9001, 2, 3, 1)).astype(np.float32)
    moved = np.ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    assert statistics.of_channels(x) == statistics.of_channels(moved)
    assert np.array_equal(statistics.mean_image(x), statistics.mean_image(moved))
    exact = x[:, 0].astype(np.float64)
    mean, std = (own[0] for own in statistics.of_channels(x))
    assert np.isclose(mean, exact.mean(), rtol=1e-14)
    assert np.isclose(std, exact.std(), rtol=1e-12)
