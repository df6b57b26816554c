"""The catalog of data sets."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

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


def test_digits_moments_are_those_of_its_training_pixels() -> None:
    digits = DATASETS["digits"]
    pixels = load_digits().data
    unit = pixels[: digits.train] / digits.maximum
    assert pixels.max() == digits.maximum
    assert len(pixels) == digits.train + digits.test
    assert ((round(float(np.mean(unit)), 4),), (round(float(np.std(unit)), 4),)) == (digits.mean, digits.std)


def test_catalog_imports_no_torch_and_no_numpy() -> None:
    code = "import sys, qsweep.data.catalog; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
