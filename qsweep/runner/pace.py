"""Estimates the time left of a run from the durations of similar trials, in this run and earlier ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qsweep.runner.schedule import Flight, Stack
from qsweep.trial import cost
from qsweep.trial.key import stack_signature
from qsweep.trial.settings import Settings


def similarity(settings: Mapping[str, Any]) -> str:
    """Equal for trials that differ only in seed and stacking parameters, which take equally long."""
    return stack_signature({**settings, "seed": 0})


@dataclass
class _Similar:
    """Similar trials: the work of each, how many have been measured, and their total seconds."""

    work: float
    count: int = 0
    seconds: float = 0.0


class Pace:
    """The seconds of trials, each a share of its stack's.

    The estimate for a trial is the mean of similar trials, or, if none has run, its work divided by the mean speed of
    all measured trials.
    """

    def __init__(self, workers: int, timings: Iterable[tuple[Mapping[str, Any], float]] = ()) -> None:
        """
        Args:
            workers: number of stacks that train at once.
            timings: settings and seconds of earlier trials.
        """
        self.workers = workers
        self._similar: dict[str, _Similar] = {}
        for settings, seconds in timings:
            self.add(settings, seconds)

    def add(self, settings: Mapping[str, Any], seconds: float) -> None:
        """Add the measured seconds of a trial."""
        name = similarity(settings)
        if name not in self._similar:
            self._similar[name] = _Similar(cost.work(Settings(settings)))
        own = self._similar[name]
        own.count += 1
        own.seconds += seconds

    def has_like(self, stack: Stack) -> bool:
        """Whether trials similar to those of a stack have been measured."""
        return similarity(stack[0].settings) in self._similar

    def of(self, stack: Stack) -> float:
        """The estimated seconds of a stack, whose trials are similar. Something must have been measured."""
        settings = stack[0].settings
        if (own := self._similar.get(similarity(settings))) is not None:
            return own.seconds / own.count * len(stack)
        seconds = sum(each.seconds for each in self._similar.values())
        work = sum(each.work * each.count for each in self._similar.values())
        return cost.work(stack[0].view) * seconds / work * len(stack)

    def left(self, flights: Iterable[Flight], waiting: Iterable[Stack]) -> float | None:
        """The estimated seconds until the last stack ends; None if nothing has been measured.

        Args:
            flights: stacks in training, each with the seconds since its start.
        """
        if not self._similar:
            return None
        running = [max(self.of(stack) - elapsed, 0.0) for stack, elapsed in flights]
        later = [self.of(stack) for stack in waiting]
        at_once = max(min(self.workers, len(running) + len(later)), 1)
        return max([(sum(running) + sum(later)) / at_once, *running, *later])
