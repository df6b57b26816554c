"""Users' files as modules: each as Python would run it, and nothing imported that the trial's key does not hold."""

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
"""A model's own file in tracebacks: what it is called changes no trial."""
OUR_FILES = str(Path(qsweep.__file__).parent)


class _Files(MetaPathFinder, Loader):
    """Finds and loads a user's files by their texts, and watches what they import besides."""

    def __init__(self, texts: Mapping[str, str], packages: Mapping[str, str]) -> None:
        self._texts = texts
        self._packages = frozenset(packages)
        self._tops = {path.partition("/")[0].removesuffix(".py") for path in texts if path != FILE}
        self.path = list(sys.path)
        """What was searched before."""
        self.outside: dict[str, None] = {}
        """What was run although the key does not hold it, in order."""
        self.missing: dict[str, None] = {}
        """What was asked for by a computed name, and is not in reach."""

    def load(self) -> ModuleType:
        """The model's own file, run."""
        self._refuse_taken_names()
        module = module_from_spec(self._spec(MODULE, FILE))
        sys.modules[MODULE] = module  # dataclasses, pickle and torch.jit look it up there
        self.exec_module(module)
        return module

    def _refuse_taken_names(self) -> None:
        for top in sorted(self._tops & sys.modules.keys()):
            raise UserError(f"the model imports its neighbour '{top}', but torch has a package of that name: rename it")

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
        if self._is_ours(_importer()):
            self._note_import(name, PathFinder.find_spec(name, path) is not None)
        return None

    def exec_module(self, module: ModuleType) -> None:
        file = str(module.__file__)
        text = self._texts[file]
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # what `run` is asked to run

    def get_source(self, name: str) -> str:
        """What `inspect` and `linecache` ask for."""
        return self._texts[str(sys.modules[name].__file__)]

    # what the key does not hold

    def _is_ours(self, file: str) -> bool:
        return file in self._texts

    def _note_import(self, name: str, is_there: bool) -> None:
        top = name.partition(".")[0]
        if top in KNOWN | self._tops or self._packages.intersection(owners().get(top, ())):
            return
        if is_there:
            self.outside[f"'{name}'"] = None
        elif top not in self._named():
            self.missing[f"'{name}'"] = None

    def _named(self) -> set[str]:
        """The plain names that the texts import in words."""
        return {name.partition(".")[0] for text in self._texts.values() for name in imported(text, "")}

    def note_run(self, code: object) -> None:
        """Note code that comes from a file which is neither a user's that we know nor installed."""
        if isinstance(code, CodeType) and not self._is_ours(code.co_filename) and _is_foreign(code.co_filename):
            self.outside[f"'{Path(code.co_filename).name}'"] = None


def _importer() -> str:
    """The file of the code that imports something just now."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(("<frozen importlib", importlib.__file__)):
        frame = frame.f_back
    return frame.f_code.co_filename


def _is_foreign(file: str) -> bool:
    """Whether a file is neither the standard library's, nor installed, nor ours."""
    if file.startswith("<") or not file.endswith(".py") or is_installed(file):
        return False
    return not file.startswith((OUR_FILES, *_standard_library()))


@cache
def _standard_library() -> tuple[str, ...]:
    return tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


_current: list[_Files] = []
"""The files that this process has loaded last; none, or one."""


@cache
def _watch() -> None:
    """Note all code that is run from now on; Python has no way to end that."""
    sys.addaudithook(lambda event, given: _current[-1].note_run(given[0]) if event == "exec" and _current else None)


def line_of(error: BaseException) -> str:
    """Where in a user's files an error came up, as Python says it of a SyntaxError: `nets.py, line 3`.

    "" where no such file had a part in it, or the error says it itself.
    """
    found, trace = "", error.__traceback__
    while trace is not None and not isinstance(error, SyntaxError):
        file = trace.tb_frame.f_code.co_filename
        if _current and _current[-1]._is_ours(file):
            found = f"{file}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


def load(identity: str | Mapping[str, Any], sources: Mapping[str, str]) -> ModuleType:
    """A user's file, run as a module, with its neighbours in reach. What an earlier call has loaded is forgotten.

    Args:
        identity: what a trial's settings say of it.
        sources: texts by SHA-256.

    Raises:
        UserError: a neighbour has the name of what is loaded already. Errors of the file's own pass through.
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
    """Take back what `load` has put into this process's modules."""
    while _current:
        files = _current.pop()
        sys.path[:] = files.path
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not files]
        for name in [
            n for n, m in sys.modules.items() if getattr(getattr(m, "__spec__", None), "loader", None) is files
        ]:
            del sys.modules[name]


def check(is_missing: bool = False) -> None:
    """Refuse a net that has run what its key does not hold: if that changed, its trials would not be told apart.

    Args:
        is_missing: whether it could not import something: what was out of reach counts too.

    Raises:
        UserError: it has.
    """
    outside = {**_current[-1].outside, **(_current[-1].missing if is_missing else {})} if _current else {}
    if outside:
        raise UserError(
            f"the model imports {', '.join(outside)} in a way that is not seen without running it, so that its"
            " trial's key does not hold it: write a plain `import`, of what is installed or beside the model's file"
        )
