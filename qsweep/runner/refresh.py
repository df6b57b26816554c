"""Updates the tables of a sweep while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from qsweep.errors import UserError
from qsweep.runner.schedule import Flight, Progress, Stack

REFRESH_SECONDS = 60.0
"""Interval between updates of the tables."""
REST = 20
"""After an update, at least so many times its duration passes before the next."""


class Refreshing:
    """A progress that also updates a sweep's tables about once a minute."""

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
        except UserError as error:  # training continues: the tables are written again at the end
            self._progress.note(f"the tables could not be updated: {error}")
        self._is_stale = False
        self._due = monotonic() + max(REFRESH_SECONDS, REST * (monotonic() - begun))
