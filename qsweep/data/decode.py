"""Decoding users' own data: arrays in a .npz file, or a folder of pictures, to the content of the decoded file.

The files are data and nothing in them is run: arrays of objects (pickles) are refused, and sizes are checked before
anything is unpacked. NumPy and Pillow are imported inside functions, since most specs need neither.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from qsweep.data.catalog import DataSet
from qsweep.data.own import DEFAULT_MAXIMUM, DEFAULT_TEST, MOST_CLASSES, Asked, OwnData, identity_of
from qsweep.errors import cut
from qsweep.files import is_regular
from qsweep.parameter import BadValueError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Pair = tuple[Array, Array]
    """Images (n, channels, height, width), uint8 or float32, and their labels (n,)."""

MOST_BYTES = 4 * 2**30
"""Of the decoded content, which is held in memory once."""
MOST_PIXELS = 100_000_000
"""Of one picture before it is scaled."""
MOST_SHOWN = 5
"""How many unreadable pictures a message lists."""
SUFFIXES = (".png", ".jpg", ".jpeg")
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, RuntimeError)
"""What Pillow, NumPy and zipfile raise for damaged files; an encrypted member of a zip file is a RuntimeError."""


def read_own(asked: Asked, path: Path) -> OwnData:
    """Decode a user's data set, to know its digest; the content is not kept.

    Raises:
        BadValueError: it can't be read, or is not a data set.
    """
    dataset, _ = decode(asked, path)
    return OwnData(identity_of(dataset), lambda: decode(asked, path)[1])


def decode(asked: Asked, path: Path) -> tuple[DataSet, bytes]:
    """A user's data set, and the content of its decoded file.

    Raises:
        BadValueError: it can't be read, or is not a data set.
    """
    train, test = _read_npz(asked, path) if asked.kind == "npz" else (_read_pictures(asked, path), None)
    classes = _classes(asked, train[1], test)
    if test is None:
        train, test = _divided(*train, asked.options.get("test", DEFAULT_TEST))
    images, labels = zip(train, test, strict=True)
    content = b"".join([*(part.tobytes() for part in images), *(part.astype("uint8").tobytes() for part in labels)])
    digest = hashlib.sha256(content).hexdigest()
    channels, height, width = train[0].shape[1:]
    dtype = train[0].dtype.name
    dataset = DataSet(
        name=f"sha256:{digest}",
        title="",
        shape=(channels, height, width),
        classes=classes,
        train=len(train[0]),
        test=len(test[0]),
        maximum=asked.options.get("maximum", DEFAULT_MAXIMUM) if dtype == "uint8" else 1,
        mean=(),
        std=(),
        decoded=digest,
        raw={},
        dtype=dtype,
    )
    return dataset, content


def _refuse(asked: Asked, message: str) -> NoReturn:
    raise BadValueError(f"'{asked.path}': {message}")


def _classes(asked: Asked, labels: Array, test: Pair | None) -> int:
    """The number of classes: each of 0 … k-1 is a label of some training example."""
    import numpy as np

    found = np.unique(labels)
    count = len(found)
    if found[0] != 0 or found[-1] != count - 1:
        absent = next(label for label in range(count + 1) if label not in found)
        _refuse(asked, f"y has labels from {found[0]} to {found[-1]} without {absent}, expected all of 0 … classes - 1")
    if count < 2:
        _refuse(asked, "all examples have one class, expected two or more")
    if count > MOST_CLASSES:
        _refuse(asked, f"{count:,} classes, more than {MOST_CLASSES}")
    if test is not None and (outside := test[1][(test[1] < 0) | (test[1] >= count)]).size:
        _refuse(asked, f"y_test has the label {outside[0]}, y only 0 … {count - 1}")
    return count


def _divided(images: Array, labels: Array, fraction: float) -> tuple[Pair, Pair]:
    """Training and test examples, each in the order of the file; which are which depends on the content alone."""
    import numpy as np

    count = len(labels)
    content = hashlib.sha256(images.tobytes() + labels.astype("uint8").tobytes()).digest()
    # NumPy promises that raw numbers of a bit generator never change; of permutations it does not.
    drawn = np.random.Philox(key=int.from_bytes(content[:16], "little")).random_raw(count)
    is_test = np.zeros(count, bool)
    is_test[np.argsort(drawn, kind="stable")[: min(max(round(count * fraction), 1), count - 1)]] = True
    return (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])


# --- arrays -----------------------------------------------------------------------------------------------------------


def _read_npz(asked: Asked, path: Path) -> tuple[Pair, Pair | None]:
    arrays = _arrays(asked, path)
    images, labels = _images(asked, "x", arrays["x"]), _labels(asked, "y", arrays["y"], len(arrays["x"]))
    if "x_test" not in arrays:
        return (images, labels), None
    if "test" in asked.options:
        _refuse(asked, "it has x_test, so leave `test` out")
    test = _images(asked, "x_test", arrays["x_test"])
    if (test.shape[1:], test.dtype) != (images.shape[1:], images.dtype):
        found = f"{arrays['x_test'].dtype} {arrays['x_test'].shape}"
        _refuse(asked, f"x_test is {found} and x is {arrays['x'].dtype} {arrays['x'].shape}: other shape or type")
    return (images, labels), (test, _labels(asked, "y_test", arrays["y_test"], len(test)))


def _arrays(asked: Asked, path: Path) -> dict[str, Array]:
    """The arrays x and y, and x_test and y_test if they are there."""
    if not is_regular(path):
        _refuse(asked, "not found" if not path.exists() else "not a regular file")
    try:
        with zipfile.ZipFile(path) as file:
            names = [name.removesuffix(".npy") for name in file.namelist()]
            is_tested = "x_test" in names or "y_test" in names
            wanted = ("x", "y", "x_test", "y_test") if is_tested else ("x", "y")
            if absent := [name for name in wanted if name not in names]:
                has = cut(", ".join(sorted(names))) or "nothing"
                _refuse(asked, f"it has no {' and no '.join(absent)} (it has: {has}): np.savez(FILE, x=…, y=…)")
            if others := sorted({*names} - {*wanted}):
                unread = cut(", ".join(others))
                _refuse(asked, f"nothing reads {unread}: arrays are named x and y, and x_test and y_test")
            return {name: _array(asked, file, name) for name in wanted}
    except BadValueError:
        raise
    except (*UNREADABLE, zipfile.BadZipFile, MemoryError) as error:
        _refuse(asked, f"not a file of arrays that np.savez writes: {cut(str(error) or type(error).__name__)}")


def _array(asked: Asked, file: zipfile.ZipFile, name: str) -> Array:
    """One array, whose header is checked before its values are unpacked."""
    import numpy as np

    with file.open(f"{name}.npy") as stream:
        shape, dtype = _header(stream)
    if dtype.hasobject:
        _refuse(asked, f"{name} is an array of Python objects, which are never unpickled: save numbers")
    if len(shape) == 0 or min(shape) < 1:
        _refuse(asked, f"{name} has the shape {shape}, expected one or more examples")
    bytes_of_each = 1 if dtype == np.uint8 else max(dtype.itemsize, 4)
    if (size := bytes_of_each * _product(shape)) > MOST_BYTES:
        _refuse(asked, f"{name} has {size / 1e9:,.1f} GB, more than {MOST_BYTES / 1e9:,.1f} GB")
    with file.open(f"{name}.npy") as stream:
        found: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return found


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    import numpy as np

    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def _product(shape: Sequence[int]) -> int:
    """In Python's integers: NumPy's would overflow for a malicious shape."""
    count = 1
    for side in shape:
        count *= side
    return count


def _images(asked: Asked, name: str, array: Array) -> Array:
    """An array x as (n, channels, height, width), features as channels of one pixel; uint8 or float32."""
    import numpy as np

    if array.dtype != np.uint8 and array.dtype.kind != "f":
        _refuse(asked, f"{name} is {array.dtype}, expected uint8 or floating point: {name}.astype(np.uint8)")
    if array.ndim not in (2, 3, 4):
        expected = "(n, channels, height, width), (n, height, width) or (n, features)"
        _refuse(asked, f"{name} has the shape {array.shape}, expected {expected}")
    if array.ndim == 4 and array.shape[3] in (1, 3, 4) and array.shape[1] == array.shape[2] > 4:
        _refuse(asked, f"{name} has the shape {array.shape}, channels last: {name}.transpose(0, 3, 1, 2)")
    count, *rest = array.shape
    shaped = array.reshape(count, *{1: (*rest, 1, 1), 2: (1, *rest), 3: tuple(rest)}[len(rest)])
    if array.dtype == np.uint8:
        most = asked.options.get("maximum", DEFAULT_MAXIMUM)
        if (highest := int(array.max())) > most:
            _refuse(asked, f"{name} has the value {highest}, above the maximum of {most}")
        return shaped
    if "maximum" in asked.options:
        _refuse(asked, f"maximum is for uint8, and {name} is {array.dtype}, which is used as it is: leave it out")
    with np.errstate(over="ignore"):  # found by the check below
        floats = shaped.astype(np.dtype("<f4"))
    if not np.isfinite(floats).all():
        what = "NaN" if np.isnan(floats).any() else "Inf, or numbers beyond float32"
        _refuse(asked, f"{name} has {what} in {int((~np.isfinite(floats)).sum()):,} places")
    return floats


def _labels(asked: Asked, name: str, array: Array, count: int) -> Array:
    if array.shape != (count,):
        _refuse(asked, f"{name} has the shape {array.shape}, expected one label per example, ({count},)")
    if array.dtype.kind not in "iu":
        _refuse(asked, f"{name} is {array.dtype}, expected integers from 0 to the number of classes - 1")
    return array


# --- pictures ---------------------------------------------------------------------------------------------------------


def _read_pictures(asked: Asked, path: Path) -> Pair:
    """The pictures of all classes, which are the subfolders by name: grey ones if all are, else colour."""
    import numpy as np

    classes = _class_folders(asked, path)
    files = [(label, file) for label, folder in enumerate(classes) for file in _pictures(asked, folder)]
    modes = dict(_try_each(asked, path, files, _is_grey))
    channels, side = 1 if all(modes.values()) else 3, asked.options["size"]
    if (size := len(files) * channels * side * side) > MOST_BYTES:
        _refuse(asked, f"{size / 1e9:,.1f} GB, more than {MOST_BYTES / 1e9:,.1f} GB: choose a smaller size")
    images = np.empty((len(files), channels, side, side), np.uint8)
    for index, pixels in _try_each(asked, path, files, lambda file: _pixels(file, channels, side)):
        images[index] = pixels
    return images, np.array([label for label, _ in files])


def _class_folders(asked: Asked, path: Path) -> list[Path]:
    try:
        inside = sorted(path.iterdir(), key=lambda each: each.name)
        classes = [each for each in inside if each.is_dir() and not each.name.startswith(".")]
    except (OSError, ValueError) as error:
        _refuse(asked, "not found" if not path.exists() else f"not a folder that can be read: {error}")
    if loose := [each.name for each in inside if each.suffix.lower() in SUFFIXES]:
        _refuse(asked, f"{cut(loose[0])} is in no class: expected one subfolder of pictures per class")
    if len(classes) < 2:
        _refuse(asked, f"{len(classes)} subfolders, expected one per class, two or more")
    return classes


def _pictures(asked: Asked, folder: Path) -> list[Path]:
    """The files of a class, by name."""
    try:
        files = sorted((each for each in folder.iterdir() if not each.name.startswith(".")), key=lambda f: f.name)
    except OSError as error:
        _refuse(asked, f"{folder.name}: {error.strerror}")
    if others := [each.name for each in files if each.suffix.lower() not in SUFFIXES]:
        _refuse(asked, f"{cut(f'{folder.name}/{others[0]}')} is not a PNG or JPEG file ({', '.join(SUFFIXES)})")
    if not files:
        _refuse(asked, f"the class folder {cut(folder.name)} is empty")
    return files


def _try_each(
    asked: Asked, root: Path, files: Sequence[tuple[int, Path]], read: Callable[[Path], Any]
) -> Iterator[tuple[int, Any]]:
    """What `read` returns for each file, by index; the files that it can't read are reported together."""
    from PIL import Image, UnidentifiedImageError

    failed: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MOST_PIXELS is the limit here
        for index, (_, file) in enumerate(files):
            try:
                if not is_regular(file):
                    raise ValueError("not a regular file")
                yield index, read(file)
            except (*UNREADABLE, Image.DecompressionBombError) as error:
                why = "not a picture" if isinstance(error, UnidentifiedImageError) else cut(str(error))
                failed.append(f"{cut(str(file.relative_to(root)))} ({why})")
    if failed:
        more = f", and {len(failed) - MOST_SHOWN:,} more" if len(failed) > MOST_SHOWN else ""
        _refuse(asked, f"can't read {', '.join(failed[:MOST_SHOWN])}{more}")


def _open(file: Path) -> Any:
    from PIL import Image

    return Image.open(file, formats=("PNG", "JPEG"))


def _is_grey(file: Path) -> bool:
    with _open(file) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"{picture.width}×{picture.height}, more than {MOST_PIXELS:,} pixels")
        if picture.mode.startswith(("I", "F")):
            raise ValueError("16 bits per pixel, expected 8")
        return picture.mode in ("1", "L", "LA")


def _pixels(file: Path, channels: int, side: int) -> Array:
    """The pixels (channels, side, side) of a picture, scaled if it has another size; transparency is ignored."""
    import numpy as np
    from PIL import Image

    with _open(file) as picture:
        plain = picture.convert("L" if channels == 1 else "RGB")
    if plain.size != (side, side):
        plain = plain.resize((side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(plain).reshape(side, side, channels)
    return pixels.transpose(2, 0, 1)
