"""The catalog of data sets."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import sklearn.datasets

from qsweep.data.catalog import DATASETS, PREPROCESS, SPLITS, DataSet

ALL = pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS.keys())


def test_catalog_has_each_data_set_under_its_name() -> None:
    assert list(DATASETS) == ["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"]
    assert all(dataset.name == name for name, dataset in DATASETS.items())


@ALL
def test_digests_are_complete(dataset: DataSet) -> None:
    digests = [digest for digest in (dataset.decoded, *dataset.raw.values()) if digest]
    assert digests
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    assert len(set(digests)) == len(digests)


@ALL
def test_defaults_are_among_the_choices(dataset: DataSet) -> None:
    assert dataset.preprocess in PREPROCESS
    assert dataset.split in SPLITS


@ALL
def test_size_is_one_byte_per_pixel_and_label(dataset: DataSet) -> None:
    channels, height, width = dataset.shape
    assert dataset.features == channels * height * width
    assert dataset.size == sum(dataset.parts) == (dataset.train + dataset.test) * (dataset.features + 1)


@ALL
def test_standard_has_a_mean_and_a_deviation_per_channel(dataset: DataSet) -> None:
    assert len(dataset.mean) == len(dataset.std) == dataset.shape[0]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_raw_files_are_in_the_order_of_the_parts(name: str) -> None:
    dataset = DATASETS[name]
    assert list(dataset.raw) == [
        "train-images-idx3-ubyte",
        "t10k-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-labels-idx1-ubyte",
    ]
    assert dataset.parts == (47_040_000, 7_840_000, 60_000, 10_000)


@pytest.mark.parametrize("dataset", [d for d in DATASETS.values() if d.scikit_learn], ids=lambda d: d.name)
def test_what_scikit_learn_brings_is_as_the_catalog_declares_it(dataset: DataSet) -> None:
    images, labels = getattr(sklearn.datasets, dataset.scikit_learn)(return_X_y=True)
    assert (len(images), images[0].size) == (dataset.train + dataset.test, dataset.features)
    assert (images.max(), labels.max()) == (dataset.maximum, dataset.classes - 1)
    unit = images[: dataset.train].reshape(dataset.train, dataset.shape[0], -1) / dataset.maximum
    moments = unit.mean((0, 2)), unit.std((0, 2))
    assert [tuple(round(float(m), 4) for m in own) for own in moments] == [dataset.mean, dataset.std]


def test_catalog_imports_no_torch_and_no_numpy() -> None:
    code = "import sys, qsweep.data.catalog; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
