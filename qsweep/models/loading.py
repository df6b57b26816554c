"""Loads users' files as modules, as Python would, and refuses imports that the trial's key does not cover."""

from __future__ import annotations

import importlib
import linecache
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import qsweep
from qsweep.errors import UserError
from qsweep.models.imports import KNOWN, imported, is_installed, owners, parts_of

MODULE = "qsweep_user_model"
FILE = "<model>"
"""The name of a model's file in tracebacks; its real name does not affect trials."""
OWN_FILES = str(Path(qsweep.__file__).parent)


class _Files(MetaPathFinder, Loader):
    """Finds and loads a user's files from their texts, and records what else they import."""

    def __init__(self, texts: Mapping[str, str], packages: Mapping[str, str]) -> None:
        self._texts = texts
        self._packages = frozenset(packages)
        self._tops = {path.partition("/")[0].removesuffix(".py") for path in texts if path != FILE}
        self.path = list(sys.path)
        """The previous sys.path."""
        self.outside: dict[str, None] = {}
        """Code that was run but is not covered by the key, in order."""
        self.missing: dict[str, None] = {}
        """Imports by a computed name that were not found."""

    def load(self) -> ModuleType:
        """Run the model's file."""
        self._refuse_taken_names()
        module = module_from_spec(self._spec(MODULE, FILE))
        sys.modules[MODULE] = module  # dataclasses, pickle and torch.jit look it up there
        self.exec_module(module)
        return module

    def _refuse_taken_names(self) -> None:
        for top in sorted(self._tops & sys.modules.keys()):
            raise UserError(
                f"the model imports the file '{top}' beside it, but torch has a package of that name: rename it"
            )

    def _spec(self, name: str, file: str) -> ModuleSpec:
        spec = ModuleSpec(name, self, origin=file, is_package=file.endswith("__init__.py"))
        spec.has_location = True  # so that the module has a __file__
        return spec

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        stem = name.replace(".", "/")
        for file in (f"{stem}/__init__.py", f"{stem}.py"):
            if file in self._texts:
                return self._spec(name, file)
        if any(file.startswith(f"{stem}/") for file in self._texts):  # a folder without __init__.py
            return ModuleSpec(name, None, is_package=True)
        if self.is_own(_importer()):
            self._record_import(name, PathFinder.find_spec(name, path) is not None)
        return None

    def exec_module(self, module: ModuleType) -> None:
        file = str(module.__file__)
        text = self._texts[file]
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # the user's own model

    def get_source(self, name: str) -> str:
        """Called by `inspect` and `linecache`."""
        return self._texts[str(sys.modules[name].__file__)]

    # imports that the key does not cover

    def is_own(self, file: str) -> bool:
        return file in self._texts

    def _record_import(self, name: str, is_there: bool) -> None:
        top = name.partition(".")[0]
        if top in KNOWN | self._tops or self._packages.intersection(owners().get(top, ())):
            return
        if is_there:
            self.outside[f"'{name}'"] = None
        elif top not in self._named():
            self.missing[f"'{name}'"] = None

    def _named(self) -> set[str]:
        """The top-level names that the texts import literally."""
        return {name.partition(".")[0] for text in self._texts.values() for name in imported(text, "")}

    def record_code(self, code: object) -> None:
        """Record code from a file that is neither one of the known users' files nor installed."""
        if isinstance(code, CodeType) and not self.is_own(code.co_filename) and _is_foreign(code.co_filename):
            self.outside[f"'{Path(code.co_filename).name}'"] = None


def _importer() -> str:
    """The file of the code that is importing."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(("<frozen importlib", importlib.__file__)):
        frame = frame.f_back
    return frame.f_code.co_filename


def _is_foreign(file: str) -> bool:
    """Whether a file belongs neither to the standard library, nor to an installed package, nor to qsweep."""
    if file.startswith("<") or not file.endswith(".py") or is_installed(file):
        return False
    return not file.startswith((OWN_FILES, *_standard_library()))


@cache
def _standard_library() -> tuple[str, ...]:
    return tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


_current: list[_Files] = []
"""The files that this process loaded last; at most one element."""


@cache
def _watch() -> None:
    """Record all code that is run from now on; Python can't remove an audit hook."""
    sys.addaudithook(lambda event, given: _current[-1].record_code(given[0]) if event == "exec" and _current else None)


def line_of(error: BaseException) -> str:
    """The line in a user's files where an error occurred, in Python's notation for a SyntaxError: `nets.py, line 3`.

    "" if the error did not pass through such a file, or its message already contains the line.
    """
    found, trace = "", error.__traceback__
    while trace is not None and not isinstance(error, SyntaxError):
        file = trace.tb_frame.f_code.co_filename
        if _current and _current[-1].is_own(file):
            found = f"{file}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


def load(identity: str | Mapping[str, Any], sources: Mapping[str, str]) -> ModuleType:
    """Run a user's file as a module that can import the files beside it. What an earlier call loaded is unloaded.

    Args:
        identity: the file's identity in a trial's settings.
        sources: texts by SHA-256.

    Raises:
        UserError: a file beside it has the name of a loaded module. The file's own errors propagate.
    """
    file, modules, packages = parts_of(identity)
    forget()
    files = _Files({FILE: sources[file], **{path: sources[digest] for path, digest in modules.items()}}, packages)
    _current.append(files)
    sys.meta_path.insert(0, files)
    sys.path[:] = [p for p in sys.path if is_installed(p) or p.startswith(sys.base_prefix)]
    _watch()
    return files.load()


def forget() -> None:
    """Undo `load`: remove its modules from this process."""
    while _current:
        files = _current.pop()
        sys.path[:] = files.path
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not files]
        for name in [
            n for n, m in sys.modules.items() if getattr(getattr(m, "__spec__", None), "loader", None) is files
        ]:
            del sys.modules[name]


def check(is_missing: bool = False) -> None:
    """Refuse a net that has run code that its key does not cover: a change of it would not change the key.

    Args:
        is_missing: whether an import failed; then imports that were not found count too.

    Raises:
        UserError: it has run such code.
    """
    outside = {**_current[-1].outside, **(_current[-1].missing if is_missing else {})} if _current else {}
    if outside:
        raise UserError(
            f"the model imports {', '.join(outside)} in a way that can't be found without running it, so its trial's"
            " key does not cover it: write a plain `import` of something installed or beside the model's file"
        )
