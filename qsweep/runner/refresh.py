"""The tables of a sweep while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from qsweep.errors import UserError
from qsweep.runner.schedule import Flight, Progress, Stack

REFRESH_SECONDS = 60.0
"""Between two writings of the tables while a sweep runs."""
REST = 20
"""Writings take turns with at least so many times their own length of other work."""


class Refreshing:
    """A progress that also writes a sweep's tables again, about once a minute, while stacks train."""

    def __init__(self, progress: Progress, write: Callable[[], None]) -> None:
        self._progress = progress
        self._write = write
        self._is_stale = False
        self._due = monotonic() + REFRESH_SECONDS

    def more(self, count: int) -> None:
        self._progress.more(count)

    def finished(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._is_stale = True
        self._progress.finished(records)
        self._refresh()

    def working(self, flights: Sequence[Flight], waiting: Sequence[Stack]) -> None:
        self._progress.working(flights, waiting)
        self._refresh()

    def note(self, text: str) -> None:
        self._progress.note(text)

    def _refresh(self) -> None:
        begun = monotonic()
        if not self._is_stale or begun < self._due:
            return
        try:
            self._write()
        except UserError as error:  # the tables are written at the end once more: what trains goes on
            self._progress.note(f"the tables are not refreshed: {error}")
        self._is_stale = False
        self._due = monotonic() + max(REFRESH_SECONDS, REST * (monotonic() - begun))
