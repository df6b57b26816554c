"""Progress on stderr: a bar in a terminal or notebook, an occasional line in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qsweep.cli.terminal import ignore_broken_stderr, printable, say
from qsweep.runner.pace import Pace
from qsweep.runner.schedule import Flight, Stack

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LOG_SECONDS = 30.0
"""A log gets a line at least this often while stacks train."""
BAR_SECONDS = 1.0
SHOWN = 4
"""How many stacks are shown with their sizes."""


class Display:
    """Shows the progress of a run. A context manager, which removes the bar at the end."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._total = 0
        self._counts: Counter[str] = Counter()
        self._pace = Pace(1)
        self._shown = 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ignore_broken_stderr():
            if self._bar is not None:
                self._bar.stop()

    def start(self, total: int, pace: Pace) -> None:
        """Start with `total` trials to train, whose duration `pace` estimates."""
        self._total = total
        self._pace = pace
        self._shown = time.monotonic()
        if is_watched():
            with ignore_broken_stderr():
                self._bar = _bar()
                self._task = self._bar.add_task("preparing", total=total)
                self._bar.start()

    def more(self, count: int) -> None:
        """Add `count` trials to those that will be trained."""
        self._total += count
        if self._bar is not None and self._task is not None:
            with ignore_broken_stderr():
                self._bar.update(self._task, total=self._total)

    def finished(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Count records that were committed."""
        self._counts.update(record["status"] for record in records)
        for record in records:
            if record["run"]["seconds"]:
                self._pace.add(record["trial"], record["run"]["seconds"])
        if self._bar is not None and self._task is not None:
            with ignore_broken_stderr():
                self._bar.update(self._task, advance=len(records))

    def working(self, flights: Sequence[Flight], waiting: Sequence[Stack]) -> None:
        """Show which stacks train and wait: every second in a bar, every half minute in a log."""
        now = time.monotonic()
        if now - self._shown < (LOG_SECONDS if self._bar is None else BAR_SECONDS):
            return
        self._shown = now
        text = ", ".join([*self._statuses(), _training(flights), *self._left(flights, waiting)])
        if self._bar is not None and self._task is not None:
            with ignore_broken_stderr():
                self._bar.update(self._task, description=text)
        else:
            self.note(f"{self._counts.total()} of {self._total} trained: {text}")

    def _statuses(self) -> list[str]:
        return [f"{count} {status}" for status, count in self._counts.items()]

    def _left(self, flights: Sequence[Flight], waiting: Sequence[Stack]) -> list[str]:
        seconds = self._pace.left(flights, waiting)
        return [] if seconds is None or seconds < 1 else [f"about {duration(seconds)} left"]

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is None:
            say(text)
            return
        with ignore_broken_stderr():
            self._bar.console.print(printable(text), markup=False, highlight=False)


class Silent(Display):
    """Shows nothing."""

    def start(self, total: int, pace: Pace) -> None:
        """Show no bar."""

    def note(self, text: str) -> None:
        """Print nothing."""


def is_watched() -> bool:
    """Whether a bar can be shown: in a terminal, or in a notebook that can redraw it."""
    if sys.stderr.isatty():
        return True
    if "ipykernel" not in sys.modules or find_spec("ipywidgets") is None:
        return False
    from rich.console import Console

    return Console(stderr=True).is_jupyter


def _training(flights: Sequence[Flight]) -> str:
    """What is training, and for how long: `training 2 stacks (of 16, 8) for 45 s`."""
    if not flights:
        return "preparing"
    sizes = ", ".join(str(len(stack)) for stack, _ in flights[:SHOWN]) + (" …" if len(flights) > SHOWN else "")
    stacks = "a stack" if len(flights) == 1 else f"{len(flights)} stacks"
    return f"training {stacks} (of {sizes}) for {duration(max(elapsed for _, elapsed in flights))}"


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    return Progress(
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("trials"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
    )
