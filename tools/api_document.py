"""The generated part of docs/api.md, every public name with its docstring; `make docs` inserts it with cog."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import qsweep

WIDTH = 100


def pages() -> str:
    """Every name of qsweep as a stub: its signature and docstring."""
    return "\n\n".join(f"### qsweep.{name}\n\n```python\n{_stub(name)}\n```" for name in qsweep.__all__)


def _stub(name: str) -> str:
    own = getattr(qsweep, name)
    if not inspect.isclass(own):
        return _function(name, own)
    methods = [f"    {line}".rstrip() for method in _methods(own) for line in ("", *method.split("\n"))]
    base = "" if own.__base__ in (None, object) else f"({own.__base__.__name__})"
    return "\n".join([f"class {name}{base}:", _docstring(own), *methods])


def _methods(own: type) -> Iterator[str]:
    for name, method in vars(own).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            yield _function(name, method)


def _function(name: str, own: Any) -> str:
    """The stub of a function, with one line per parameter if the signature does not fit on a line."""
    signature = inspect.signature(own)
    parts: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        parts.append(_parameter(parameter))
    line = f"def {name}({', '.join(parts)}) -> {signature.return_annotation}:"
    if len(line) > WIDTH:
        line = "\n".join([f"def {name}(", *(f"    {part}," for part in parts), f") -> {signature.return_annotation}:"])
    return f"{line}\n{_docstring(own)}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
    annotation = f": {parameter.annotation}" if parameter.annotation is not parameter.empty else ""
    given = parameter.default
    default = "" if given is parameter.empty else f' = "{given}"' if isinstance(given, str) else f" = {given!r}"
    return f"{stars}{parameter.name}{annotation}{default}"


def _docstring(own: Any) -> str:
    found = inspect.getdoc(own) or ""
    text = f'"""{found}\n"""' if "\n" in found else f'"""{found}"""'
    return "\n".join(f"    {line}".rstrip() for line in text.split("\n"))
