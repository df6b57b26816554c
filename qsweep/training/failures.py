"""Why a trial failed, in one line without full paths, so that a results folder can be shared."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from typing import Any

from qsweep.errors import UserError
from qsweep.models.loading import FILE, line_of
from qsweep.training.apart import OutOfTimeError

FOLDERS = re.compile(
    r"""(?<=['"])(?:~|[A-Za-z]:|\w+:/)?/(?:[^/'"\n]*/)*(?=[^/'"\n]+['"])"""  # quoted, so that names may hold spaces
    r"""|(?<![\w.…$/])(?:~|[A-Za-z]:|\w+:/)?/(?:[^/\s'"<>|:;,()]+/)*(?=\w)"""
)
"""The folders of a full path, up to its last name."""
ADDRESSES = re.compile(r"""\b[A-Za-z][\w+.-]*://[^\s'"<>]+""")
"""Addresses, which may name hosts and users."""
NO_SINGLE_VALUES = (
    "the net needs single values here, but did not for the two blank examples that showed that it trains in stacks: let"
    " it do so at every batch size, and its trials train one by one (`stack: 1` is not enough), or use torch.where"
)
"""Replaces the message of `vmap` for a net that needs a Python number, or a shape that depends on one."""
MOST_TEXT = 300
"""Maximum length of a reason."""


def outcome_of_nothing(status: str, reason: str) -> dict[str, Any]:
    """The outcome of a trial without a result."""
    return {"status": status, "reason": reason[:MOST_TEXT], "result": {}, "history": []}


def failure_of(status: str, error: Exception, data_folder: str) -> dict[str, Any]:
    """The outcome of a trial that raised an error, with the last calls in its log."""
    text = str(error).replace(data_folder, "$QSWEEP_DATA") if data_folder else str(error)
    is_stacked = isinstance(error, RuntimeError) and text.startswith("vmap: ")
    message = NO_SINGLE_VALUES if is_stacked else without_paths(" ".join(text.split()))
    is_ours = isinstance(error, OutOfTimeError | UserError)  # its message says all, in the user's words
    reason = message if is_ours else _in_a_line(type(error).__name__, message, line_of(error))
    log = without_paths("".join(traceback.format_exception(error, limit=-3)))
    return {**outcome_of_nothing(status, reason), "log": log[-4000:]}


def _in_a_line(name: str, message: str, line: str) -> str:
    """An error as one line: `ValueError: no such layer (nets.py, line 3)`."""
    where = f" ({line})" if line else ""
    return f"{f'{name}: {message}'.removesuffix(': ')[: MOST_TEXT - len(where)]}{where}"


def with_file(outcome: Mapping[str, Any], file: str) -> dict[str, Any]:
    """An outcome with the name of a user's file filled in: a job only knows its text, and calls it `<model>`.

    Args:
        file: relative to the spec.
    """
    named = {name: text.replace(FILE, file) for name, text in outcome.items() if name in ("reason", "log")}
    more = {"run": with_file(outcome["run"], file)} if "run" in outcome else {}
    return {**outcome, **named, **more}


def without_paths(text: str) -> str:
    """A text without full paths (only their last names) and addresses."""
    return FOLDERS.sub("…/", ADDRESSES.sub("…", text))
