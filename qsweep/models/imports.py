"""What a user's model file imports, found without running any of it.

A net is what its file says, and what that imports. Of torch and the standard library the environment speaks; installed
packages stand in a key by name and version; every other file by the SHA-256 of its text.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import stat
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from io import BytesIO
from pathlib import Path
from typing import Any

from qsweep.parameter import BadValueError

MAX_BYTES = 1024 * 1024
MAX_FILES = 500
KNOWN = frozenset((*sys.stdlib_module_names, "torch", "qsweep"))
"""What the environment and the numerics of a key stand for."""
KEPT, INDEX = "sources", "index.json"
"""Where a sweep's folder keeps its users' files, and the list of them."""
DIGEST = re.compile(r"[0-9a-f]{64}")
COOKIE = re.compile(r"\A((?:[^\n]*\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*)[-\w.]+")
"""What says how a file is encoded, in one of its first two lines."""


@dataclass(frozen=True)
class Source:
    """A user's file, and what it imports.

    Attributes:
        modules: text of each other file, by its path as a module: `blocks.py`, `layers/__init__.py`.
        packages: version of each installed package, by its distribution's name.
    """

    text: str
    modules: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def identity(self) -> str | dict[str, Any]:
        """What a trial's settings hold: the SHA-256 of the file; with those of the others where there are some."""
        digest = digest_of(self.text)
        modules = {path: digest_of(text) for path, text in sorted(self.modules.items())}
        more = {"modules": modules, "packages": dict(sorted(self.packages.items()))}
        return {"file": digest} | {name: own for name, own in more.items() if own} if any(more.values()) else digest

    @cached_property
    def texts(self) -> dict[str, str]:
        """All texts, by their SHA-256."""
        return {digest_of(text): text for text in (self.text, *self.modules.values())}


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def parts_of(identity: str | Mapping[str, Any]) -> tuple[str, Mapping[str, str], Mapping[str, str]]:
    """Of a source's identity: the file's digest, those of its modules by path, its packages' versions."""
    if isinstance(identity, str):
        return identity, {}, {}
    return identity["file"], identity.get("modules", {}), identity.get("packages", {})


def read_source(path: Path, shown: str) -> Source:
    """A model's file with all that it imports.

    Args:
        shown: its name in messages.

    Raises:
        BadValueError: one of the files can't be read, or is no Python text.
    """
    search = _Search(path.parent, shown)
    text = read_text(path, shown)
    search.follow(text)
    return Source(text, search.modules, search.packages)


def read_text(path: Path, shown: str) -> str:
    """A Python file's text; a byte order mark and an encoding of its own are taken away.

    Raises:
        BadValueError: it can't be read, or is no Python text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadValueError(f"'{shown}' is not a regular file")  # a FIFO would wait for its writer
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, BadValueError):
            raise
        raise BadValueError(f"can't read '{shown}' beside this spec: {getattr(error, 'strerror', error)}") from None
    if len(data) > MAX_BYTES:
        raise BadValueError(f"'{shown}' is larger than 1 MB: this is no model's source")
    try:
        encoding, _ = tokenize.detect_encoding(BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise BadValueError(f"'{shown}' is not Python text: {error}") from None
    return text if encoding.startswith("utf-8") else COOKIE.sub(r"\1utf-8", text)


# --- kept sources -----------------------------------------------------------------------------------------------------


def keep(folder: Path, sources: Mapping[str, Source]) -> dict[Path, str]:
    """The files that keep sources in a sweep's folder: each text by its SHA-256, and a list of what belongs together.

    Args:
        sources: by the file's name in the spec.
    """
    if not sources:
        return {}
    index = json.dumps({name: source.identity for name, source in sources.items()}, indent=1) + "\n"
    texts = {digest: text for source in sources.values() for digest, text in source.texts.items()}
    return {folder / KEPT / INDEX: index, **{folder / KEPT / f"{d}.py": text for d, text in texts.items()}}


def read_kept(folder: Path, shown: str) -> Source | None:
    """A model's file as a sweep's folder keeps it; None where it keeps none of this name.

    Raises:
        BadValueError: what is kept is damaged, or a package that it imports is not installed.
    """
    try:
        identity = json.loads((folder / KEPT / INDEX).read_text(encoding="utf-8"))[shown]
        file, modules, packages = parts_of(identity)
    except (FileNotFoundError, NotADirectoryError, KeyError):
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadValueError(f"{KEPT}/{INDEX} beside this spec can't be read: {error}") from None
    texts = {path: _kept_text(folder, str(digest)) for path, digest in modules.items()}
    return Source(_kept_text(folder, str(file)), texts, {name: _version(name, shown) for name in packages})


def _kept_text(folder: Path, digest: str) -> str:
    path = folder / KEPT / f"{digest}.py"
    if not DIGEST.fullmatch(digest):
        raise BadValueError(f"{KEPT}/{INDEX} beside this spec is damaged")
    text = read_text(path, f"{KEPT}/{path.name}")
    if digest_of(text) != digest:
        raise BadValueError(f"'{KEPT}/{path.name}' is not what it was: its SHA-256 is another")
    return text


def _version(package: str, shown: str) -> str:
    """Of what is installed now: another than before makes other trials."""
    try:
        return version(package)
    except PackageNotFoundError:
        raise BadValueError(f"'{shown}' imports {package}, which is not installed") from None


# --- following imports ------------------------------------------------------------------------------------------------


class _Search:
    """Collects what files import, starting from one in a folder whose files may be imported too."""

    def __init__(self, folder: Path, shown: str) -> None:
        self.modules: dict[str, str] = {}
        self.packages: dict[str, str] = {}
        self._folder = str(folder.resolve())
        self._shown = shown
        self._places: dict[str, list[str] | None] = {}
        """Where each module found so far has its submodules; None where it has none, or is not to be looked into."""

        self._waiting: list[tuple[str, str]] = []
        """Texts whose imports are to be followed, each with the package that it belongs to."""

    def follow(self, text: str) -> None:
        """Take what a text imports, and what that imports."""
        self._waiting.append((text, ""))
        while self._waiting:
            for name in imported(*self._waiting.pop()):
                self._take(name.split("."))

    def _take(self, parts: Sequence[str]) -> None:
        if parts[0] in KNOWN:
            return
        places: list[str] | None = None
        for count in range(1, len(parts) + 1):
            name = ".".join(parts[:count])
            if name not in self._places:
                spec = self._top(name) if count == 1 else PathFinder.find_spec(name, places)
                if spec is None:
                    return  # what is not there, or no module: running it will tell
                self._places[name] = self._found(name, spec)
            places = self._places[name]
            if places is None:
                return

    def _found(self, name: str, spec: ModuleSpec) -> list[str] | None:
        """Note a module; the places of its submodules, if these are to be looked for."""
        inner = spec.submodule_search_locations
        places = None if inner is None else list(inner)
        if spec.origin is None:  # a folder without __init__.py
            return places
        if "." not in name and (owners := _owners(name, spec.origin)):
            self.packages |= {owner: version(owner) for owner in owners}
            return None
        if not isinstance(spec.loader, SourceFileLoader):
            what = f"'{name}', which is not Python text ({Path(spec.origin).name})"
            raise BadValueError(f"'{self._shown}' imports {what}: install it as a package")
        path = name.replace(".", "/") + ("/__init__.py" if places is not None else ".py")
        self.modules[path] = text = read_text(Path(spec.origin), path)
        if len(self.modules) > MAX_FILES:
            raise BadValueError(f"'{self._shown}' imports more than {MAX_FILES} files: install them as a package")
        self._waiting.append((text, name if places is not None else name.rpartition(".")[0]))
        return places

    def _top(self, name: str) -> ModuleSpec | None:
        """A module of a plain name: beside the file, else installed; a mere folder only where nothing else has it."""
        beside = PathFinder.find_spec(name, [self._folder])
        if beside is not None and beside.origin is not None:
            return beside
        installed = PathFinder.find_spec(name, search_path()) or _editable(name)
        return installed if installed is not None and (installed.origin or beside is None) else beside


def imported(text: str, package: str) -> Iterator[str]:
    """The full names that a text may import anywhere in it; of `from a import b` both `a` and `a.b`."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # running it will tell
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            yield from (f"{base}.{alias.name}" for alias in node.names if base)
        elif isinstance(node, ast.Call) and _is_import(node.func) and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value.strip("."):
                yield first.value.strip(".")


def _base(node: ast.ImportFrom, package: str) -> str:
    """What `from …` names, in full; "" for what leads out of all packages."""
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if package else []
    return ".".join([*above, *([node.module] if node.module else [])]) if above else ""


def _is_import(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("__import__", "import_module")


# --- what is installed ------------------------------------------------------------------------------------------------


def search_path() -> list[str]:
    """Where installed packages are looked for: not the folder that a program was started in, or lies in."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    own = {"", str(Path.cwd()), str(Path(sys.argv[0] or ".").resolve().parent)} - set(named)
    return [place for place in sys.path if place not in own]


def is_installed(file: str) -> bool:
    """Whether a file lies where packages are installed."""
    return bool({"site-packages", "dist-packages"} & set(Path(file).parts))


def _owners(name: str, file: str) -> list[str]:
    """The distributions that a module of a plain name belongs to; none of one that was not installed as a package."""
    return sorted(set(owners().get(name, ()))) if is_installed(file) else []


@cache
def owners() -> Mapping[str, list[str]]:
    """The installed distributions, by the plain names of their modules."""
    return packages_distributions()


def _editable(name: str) -> ModuleSpec | None:
    """A package that was installed as a link to its source."""
    for finder in sys.meta_path:
        if getattr(finder, "__module__", "").startswith("__editable__"):
            spec = finder.find_spec(name, None)
            if spec is not None:
                return spec
    return None
