"""The catalog of data sets: what each holds, how it is split, and what its files must look like. Data only, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class DataSet:
    """One classification data set of uint8 images.

    Attributes:
        shape: one example, channels first.
        train, test: number of examples in the standard split, in file order.
        maximum: the largest pixel value; `preprocess: unit` divides by it.
        mean, std: of all training pixels after `unit`; `preprocess: standard` subtracts and divides by them.
        decoded: SHA-256 of the decoded file (see qsweep.data).
        raw: SHA-256 of each file that the decoded file is made from.
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    maximum: int
    mean: float
    std: float
    decoded: str
    raw: dict[str, str]
    preprocess: str = "unit"
    split: str = "standard"
    drop_last: bool = False

    @property
    def features(self) -> int:
        """Numbers in one example."""
        return prod(self.shape)


PREPROCESS = ("unit", "standard")
SPLITS = ("standard", "all")
