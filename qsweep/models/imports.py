"""Finds what a user's model file imports, without running any of it.

A net depends on its file and on what that imports. Torch and the standard library are part of the environment; a key
covers installed packages by name and version, and every other file by the SHA-256 of its text.
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
"""Modules that the environment and the numerics of a key cover."""
KEPT, INDEX = "sources", "index.json"
"""The folder of users' files in a sweep's folder, and the list of them."""
DIGEST = re.compile(r"[0-9a-f]{64}")
COOKIE = re.compile(r"\A((?:[^\n]*\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*)[-\w.]+")
"""The declaration of a file's encoding, in one of its first two lines."""


@dataclass(frozen=True)
class Source:
    """A user's file and its imports.

    Attributes:
        modules: texts of the other files, by their paths as modules: `blocks.py`, `layers/__init__.py`.
        packages: versions of the installed packages, by the names of their distributions.
    """

    text: str
    modules: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def identity(self) -> str | dict[str, Any]:
        """The identity in a trial's settings: the SHA-256 of the file, with its modules and packages if it has any."""
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
    """The parts of a source's identity: the file's digest, those of its modules by path, its packages' versions."""
    if isinstance(identity, str):
        return identity, {}, {}
    return identity["file"], identity.get("modules", {}), identity.get("packages", {})


def read_source(path: Path, shown: str) -> Source:
    """Read a model's file and everything that it imports.

    Args:
        shown: its name in messages.

    Raises:
        BadValueError: one of the files can't be read or is not Python text.
    """
    search = _Search(path.parent, shown)
    text = read_text(path, shown)
    search.follow(text)
    return Source(text, search.modules, search.packages)


def read_text(path: Path, shown: str) -> str:
    """Read the text of a Python file, without a byte order mark, and with its encoding declared as UTF-8.

    Raises:
        BadValueError: it can't be read or is not Python text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadValueError(f"'{shown}' is not a regular file")  # reading a FIFO would block
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, BadValueError):
            raise
        raise BadValueError(f"can't read '{shown}' beside this spec: {getattr(error, 'strerror', error)}") from None
    if len(data) > MAX_BYTES:
        raise BadValueError(f"'{shown}' is larger than 1 MB: this is not the source of a model")
    try:
        encoding, _ = tokenize.detect_encoding(BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise BadValueError(f"'{shown}' is not Python text: {error}") from None
    return text if encoding.startswith("utf-8") else COOKIE.sub(r"\1utf-8", text)


# --- stored sources ---------------------------------------------------------------------------------------------------


def keep(folder: Path, sources: Mapping[str, Source]) -> dict[Path, str]:
    """The files that store sources in a sweep's folder: each text by its SHA-256, and an index of the sources.

    Args:
        sources: by the file's name in the spec.
    """
    if not sources:
        return {}
    index = json.dumps({name: source.identity for name, source in sources.items()}, indent=1) + "\n"
    texts = {digest: text for source in sources.values() for digest, text in source.texts.items()}
    return {folder / KEPT / INDEX: index, **{folder / KEPT / f"{d}.py": text for d, text in texts.items()}}


def read_kept(folder: Path, shown: str) -> Source | None:
    """Read a model's file as stored in a sweep's folder; None if there is none of this name.

    Raises:
        BadValueError: a stored file is damaged, or a package that it imports is not installed.
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
        raise BadValueError(f"'{KEPT}/{path.name}' was changed: its SHA-256 is wrong")
    return text


def _version(package: str, shown: str) -> str:
    """The installed version of a package; if it differs from the stored one, so do the keys."""
    try:
        return version(package)
    except PackageNotFoundError:
        raise BadValueError(f"'{shown}' imports {package}, which is not installed") from None


# --- following imports ------------------------------------------------------------------------------------------------


class _Search:
    """Collects imports recursively, starting from a file in a folder whose other files may be imported too."""

    def __init__(self, folder: Path, shown: str) -> None:
        self.modules: dict[str, str] = {}
        self.packages: dict[str, str] = {}
        self._folder = str(folder.resolve())
        self._shown = shown
        self._places: dict[str, list[str] | None] = {}
        """The search paths of the submodules of each module found so far; None if it has none, or is not searched."""

        self._waiting: list[tuple[str, str]] = []
        """Texts whose imports have yet to be followed, each with its package."""

    def follow(self, text: str) -> None:
        """Collect what a text imports, recursively."""
        self._waiting.append((text, ""))
        while self._waiting:
            for name in imported(*self._waiting.pop()):
                self._add(name.split("."))

    def _add(self, parts: Sequence[str]) -> None:
        if parts[0] in KNOWN:
            return
        places: list[str] | None = None
        for count in range(1, len(parts) + 1):
            name = ".".join(parts[:count])
            if name not in self._places:
                spec = self._top(name) if count == 1 else PathFinder.find_spec(name, places)
                if spec is None:
                    return  # missing, or not a module: running it will show
                self._places[name] = self._found(name, spec)
            places = self._places[name]
            if places is None:
                return

    def _found(self, name: str, spec: ModuleSpec) -> list[str] | None:
        """Add a module; return the search path of its submodules, or None if they are not searched."""
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
        """A top-level module: beside the file, or else installed; a folder without __init__.py only if there is nothing
        else."""
        beside = PathFinder.find_spec(name, [self._folder])
        if beside is not None and beside.origin is not None:
            return beside
        installed = PathFinder.find_spec(name, search_path()) or _editable(name)
        return installed if installed is not None and (installed.origin or beside is None) else beside


def imported(text: str, package: str) -> Iterator[str]:
    """The full names that a text may import anywhere; for `from a import b` both `a` and `a.b`."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # running it will raise the error
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
    """The full name of the module in `from …`; "" if it is above the top-level package."""
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if package else []
    return ".".join([*above, *([node.module] if node.module else [])]) if above else ""


def _is_import(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("__import__", "import_module")


# --- installed packages -----------------------------------------------------------------------------------------------


def search_path() -> list[str]:
    """The search path of installed packages: without the current folder and that of the program."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    own = {"", str(Path.cwd()), str(Path(sys.argv[0] or ".").resolve().parent)} - set(named)
    return [place for place in sys.path if place not in own]


def is_installed(file: str) -> bool:
    """Whether a file belongs to an installed package."""
    return bool({"site-packages", "dist-packages"} & set(Path(file).parts))


def _owners(name: str, file: str) -> list[str]:
    """The distributions that a top-level module belongs to; none if it is not installed as a package."""
    return sorted(set(owners().get(name, ()))) if is_installed(file) else []


@cache
def owners() -> Mapping[str, list[str]]:
    """The installed distributions, by the names of their top-level modules."""
    return packages_distributions()


def _editable(name: str) -> ModuleSpec | None:
    """A package that was installed in editable mode."""
    for finder in sys.meta_path:
        if getattr(finder, "__module__", "").startswith("__editable__"):
            spec = finder.find_spec(name, None)
            if spec is not None:
                return spec
    return None
