"""How long is left of a run: from what like trials took, in this run and in earlier ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qsweep.runner.schedule import Flight, Stack
from qsweep.trial import cost
from qsweep.trial.key import stack_signature

Settings = Mapping[str, Any]


def likeness(settings: Settings) -> str:
    """Equal for trials that differ in seed and stacking parameters alone: they take equally long."""
    return stack_signature({**settings, "seed": 0})


@dataclass
class _Alike:
    """Trials that are alike: the work of each, how many have been measured, and their seconds together."""

    work: float
    count: int = 0
    seconds: float = 0.0


class Pace:
    """The seconds of trials, as parts of their stacks.

    A trial takes the mean of like trials; where none has run, its work at the mean speed of all that have.
    """

    def __init__(self, workers: int, timings: Iterable[tuple[Settings, float]] = ()) -> None:
        """
        Args:
            workers: how many stacks train at once.
            timings: settings and seconds of earlier trials.
        """
        self.workers = workers
        self._alike: dict[str, _Alike] = {}
        for settings, seconds in timings:
            self.add(settings, seconds)

    def add(self, settings: Settings, seconds: float) -> None:
        """Note what a trial took."""
        name = likeness(settings)
        if name not in self._alike:
            self._alike[name] = _Alike(cost.work(settings))
        own = self._alike[name]
        own.count += 1
        own.seconds += seconds

    def has_like(self, stack: Stack) -> bool:
        """Whether trials like a stack's have been measured."""
        return likeness(stack[0].settings) in self._alike

    def of(self, stack: Stack) -> float:
        """The seconds that a stack takes. Its trials are alike, and something has been measured."""
        settings = stack[0].settings
        if (own := self._alike.get(likeness(settings))) is not None:
            return own.seconds / own.count * len(stack)
        seconds = sum(each.seconds for each in self._alike.values())
        work = sum(each.work * each.count for each in self._alike.values())
        return cost.work(settings) * seconds / work * len(stack)

    def left(self, flights: Iterable[Flight], waiting: Iterable[Stack]) -> float | None:
        """The seconds until the last stack ends; None while nothing has been measured.

        Args:
            flights: stacks that train, each with the seconds since it began.
        """
        if not self._alike:
            return None
        running = [max(self.of(stack) - elapsed, 0.0) for stack, elapsed in flights]
        later = [self.of(stack) for stack in waiting]
        at_once = max(min(self.workers, len(running) + len(later)), 1)
        return max([(sum(running) + sum(later)) / at_once, *running, *later])
