"""Progress on stderr: a bar where a person watches, a line now and then where a log is written."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qsweep.cli.terminal import printable, say, unbroken
from qsweep.runner.pace import Pace
from qsweep.runner.schedule import Flight, Stack

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LOG_SECONDS = 30.0
"""A log gets a line at least this often while stacks train."""
BAR_SECONDS = 1.0
SHOWN = 4
"""Stacks whose sizes are named."""


class Display:
    """Shows how far a run is. Use as a context manager: the bar is taken away at the end."""

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
        with unbroken():
            if self._bar is not None:
                self._bar.stop()

    def start(self, total: int, pace: Pace) -> None:
        """So many trials will be trained; `pace` has what is known of how long they take."""
        self._total = total
        self._pace = pace
        self._shown = time.monotonic()
        if is_watched():
            with unbroken():
                self._bar = _bar()
                self._task = self._bar.add_task("preparing", total=total)
                self._bar.start()

    def more(self, count: int) -> None:
        """So many trials more will be trained."""
        self._total += count
        if self._bar is not None and self._task is not None:
            with unbroken():
                self._bar.update(self._task, total=self._total)

    def finished(self, records: Sequence[Mapping[str, Any]]) -> None:
        """These records were committed."""
        self._counts.update(record["status"] for record in records)
        for record in records:
            if record["run"]["seconds"]:
                self._pace.add(record["trial"], record["run"]["seconds"])
        if self._bar is not None and self._task is not None:
            with unbroken():
                self._bar.update(self._task, advance=len(records))

    def working(self, flights: Sequence[Flight], waiting: Sequence[Stack]) -> None:
        """These stacks train, those wait: shown each second in a bar, each half minute in a log."""
        now = time.monotonic()
        if now - self._shown < (LOG_SECONDS if self._bar is None else BAR_SECONDS):
            return
        self._shown = now
        words = ", ".join([*self._statuses(), _training(flights), *self._left(flights, waiting)])
        if self._bar is not None and self._task is not None:
            with unbroken():
                self._bar.update(self._task, description=words)
        else:
            self.note(f"{self._counts.total()} of {self._total} trained: {words}")

    def _statuses(self) -> list[str]:
        return [f"{count} {status}" for status, count in self._counts.items()]

    def _left(self, flights: Sequence[Flight], waiting: Sequence[Stack]) -> list[str]:
        seconds = self._pace.left(flights, waiting)
        return [] if seconds is None or seconds < 1 else [f"about {duration(seconds)} left"]

    def note(self, text: str) -> None:
        """A line that stays."""
        if self._bar is None:
            say(text)
            return
        with unbroken():
            self._bar.console.print(printable(text), markup=False, highlight=False)


class Silent(Display):
    """Shows nothing."""

    def start(self, total: int, pace: Pace) -> None:
        """Nothing is counted, since nothing is shown."""

    def note(self, text: str) -> None:
        """Nobody reads it."""


def is_watched() -> bool:
    """Whether a bar can be shown: in a terminal, or in a notebook that can draw it anew."""
    if sys.stderr.isatty():
        return True
    if "ipykernel" not in sys.modules or find_spec("ipywidgets") is None:
        return False
    from rich.console import Console

    return Console(stderr=True).is_jupyter


def _training(flights: Sequence[Flight]) -> str:
    """What trains now, and for how long: `2 stacks (16, 8 trials) for 45 s`."""
    if not flights:
        return "preparing"
    sizes = ", ".join(str(len(stack)) for stack, _ in flights[:SHOWN]) + (" …" if len(flights) > SHOWN else "")
    stacks = "a stack" if len(flights) == 1 else f"{len(flights)} stacks"
    return f"training {stacks} (of {sizes}) for {duration(max(elapsed for _, elapsed in flights))}"


def duration(seconds: float) -> str:
    """Seconds as one would say them."""
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
