"""Users' own data sets: how a spec names them, and the data set that a trial's settings describe. No torch.

A spec gives a path; a key has the SHA-256 of the decoded content instead, so that the same data under another path have
the same key. The settings of a trial have all that a worker needs: the digest names the decoded file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from qsweep.data.catalog import DataSet
from qsweep.errors import unknown
from qsweep.parameter import REQUIRED, BadValueError, Parameter, check_each, listing, show

MOST_CLASSES = 256
"""A label is one byte."""
MOST_SIDE = 1024
DTYPES = ("uint8", "float32")

Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]

FILE = Parameter("file", Text, "the path of a file of NumPy arrays, such as mine.npz")
FOLDER = Parameter("folder", Text, "the path of a folder with one subfolder of pictures per class")
SIZE = Parameter(
    "size", Annotated[int, Field(ge=1, le=MOST_SIDE)], f"an integer from 1 to {MOST_SIDE} (pixels of each side)"
)
TEST = Parameter(
    "test",
    Annotated[float, Field(gt=0, lt=1)],
    "a number between 0 and 1 (the fraction of the examples that is taken for the test)",
    default=None,
)
MAXIMUM = Parameter(
    "maximum", Annotated[int, Field(ge=1, le=255)], "an integer from 1 to 255 (the largest pixel value)", default=None
)
DEFAULT_TEST, DEFAULT_MAXIMUM = 0.2, 255

KINDS = {"npz": (FILE, TEST, MAXIMUM), "images": (FOLDER, SIZE, TEST)}
"""The parameters of each kind, the path first."""
SPELLED = re.compile(r"(npz|images):(.+?)((?: (?:test|maximum|size)=\S*)*)", re.DOTALL)
"""The one spelling of such data, as tables show them: `npz:mine.npz`, `images:pictures/ size=32 test=0.1`."""
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
"""The name of such data in settings."""


@dataclass(frozen=True)
class Asked:
    """What a spec says about a user's data.

    Attributes:
        options: the other parameters of the kind that are given.
    """

    kind: str
    path: str
    options: Mapping[str, Any]

    @property
    def spelling(self) -> str:
        return " ".join([f"{self.kind}:{self.path}", *(f"{name}={value}" for name, value in self.options.items())])

    @classmethod
    def of(cls, spelling: str) -> Asked:
        """The reverse of `spelling`.

        Raises:
            BadValueError: a parameter is wrong.
        """
        match = SPELLED.fullmatch(spelling)
        if not match:
            raise BadValueError(f"found {show(spelling)}, expected npz:FILE or images:FOLDER size=PIXELS")
        options = dict(part.split("=") for part in match[3].split() if part.count("=") == 1)
        path, *_ = KINDS[match[1]]
        return _checked(match[1], {path.name: match[2], **{name: _number(text) for name, text in options.items()}})


def is_own(data: Any) -> bool:
    """Whether the value of `data` in a spec means a user's own."""
    name = data.get("name") if isinstance(data, Mapping) else data
    return isinstance(name, str) and name.partition(":")[0] in KINDS


def check(value: object) -> str:
    """The one spelling of a user's data set, given as such or as a mapping.

    Raises:
        BadValueError: a parameter is missing, unknown or wrong.
    """
    if not isinstance(value, Mapping):
        return Asked.of(str(value)).spelling
    asked = _checked(value["name"], {name: own for name, own in value.items() if name != "name"})
    if Asked.of(asked.spelling) != asked:  # a path that ends like an option
        raise BadValueError(f"the path {show(asked.path)} can't end in what reads as a parameter: rename it")
    return asked.spelling


def _checked(kind: str, given: Mapping[str, object]) -> Asked:
    if kind not in KINDS:
        raise BadValueError(unknown("kind of data", kind, tuple(KINDS)))
    known = listing(KINDS[kind])

    def one(name: str, value: object) -> Any:
        if name not in known:
            raise BadValueError(unknown(f"parameter of {kind}", name, tuple(known)))
        return known[name].check(value)

    found = dict(check_each(given.items(), one))
    for p in known.values():
        if p.default is REQUIRED and p.name not in found:
            raise BadValueError(f"{kind} needs {p.name}: {p.expected}")
    path, *options = known
    return Asked(kind, found[path], {name: found[name] for name in options if name in found})


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


# --- in settings ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnData:
    """A user's data set, as a spec found it.

    Attributes:
        identity: what a trial's settings say about it.
        decode: makes the content of the decoded file again; None if only the identity is known, in a sweep's folder
            that came from elsewhere.
    """

    identity: Mapping[str, Any]
    decode: Callable[[], bytes] | None = None

    @property
    def name(self) -> str:
        return str(self.identity["name"])


def identity_of(dataset: DataSet) -> dict[str, Any]:
    """What a trial's settings say about a user's data set, as plain JSON values; the reverse of `data_set`."""
    return {
        "name": dataset.name,
        "shape": list(dataset.shape),
        "classes": dataset.classes,
        "train": dataset.train,
        "test": dataset.test,
        "dtype": dataset.dtype,
        "maximum": dataset.maximum,
    }


def data_set(settings: Mapping[str, Any]) -> DataSet:
    """The data set that a trial's settings describe.

    Raises:
        ValueError: they are not what `identity_of` returns: a folder of results or a store is damaged.
    """
    name, shape, dtype = str(settings["name"]), settings["shape"], settings["dtype"]
    match = DIGEST.fullmatch(name)
    numbers = {field: settings[field] for field in ("classes", "train", "test", "maximum")}
    is_whole = all(type(number) is int and number >= 1 for number in (*numbers.values(), *shape))
    if not match or dtype not in DTYPES or len(shape) != 3 or not is_whole or numbers["classes"] > MOST_CLASSES:
        raise ValueError(f"not the settings of a data set: {show(settings)}")
    channels, height, width = shape
    return DataSet(
        name=name,
        title="",
        shape=(channels, height, width),
        mean=(),
        std=(),
        decoded=match[1],
        raw={},
        dtype=dtype,
        **numbers,
    )


def kept_data(folder: Path, spelling: str) -> OwnData | None:
    """The data set of this spelling that the provenance in a sweep's folder names; None if there is none.

    Raises:
        BadValueError: the provenance is damaged.
    """
    try:
        identity = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["data"][spelling]
        return OwnData(identity_of(data_set(identity)))
    except (FileNotFoundError, NotADirectoryError, KeyError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise BadValueError(f"provenance.json beside this spec can't be read: {error}") from None
