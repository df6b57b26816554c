"""Progress on stderr: a bar where a person watches, a line now and then where a log is written."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LOG_SECONDS = 30.0


class Display:
    """Tells how far a run is. Use as a context manager: the bar is taken away at the end."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._total = 0
        self._counts: Counter[str] = Counter()
        self._last_line = 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, total: int) -> None:
        """So many trials will be trained."""
        self._total = total
        self._last_line = time.monotonic()
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("starting workers", total=total)
            self._bar.start()

    def more(self, count: int) -> None:
        """So many trials more will be trained."""
        self._total += count
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=self._total)

    def finished(self, records: Sequence[Mapping[str, Any]]) -> None:
        """These records were committed."""
        self._counts.update(record["status"] for record in records)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=len(records), description=self._words())
        elif time.monotonic() - self._last_line > LOG_SECONDS:
            self._last_line = time.monotonic()
            self.note(f"{self._counts.total()} of {self._total} trained: {self._words()}")

    def note(self, text: str) -> None:
        """A line that stays."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def _words(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in self._counts.items())


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("trials"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
    )
