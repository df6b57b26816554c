"""Which accuracy counts as reached, and the lowest value of an axis that reaches it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qsweep.errors import cut
from qsweep.parameter import BadValueError

DEFAULT_REACH = "95%"
ACCURACIES = ("test_accuracy", "train_accuracy")
"""The accuracy to reach: the first that a trial has."""
SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?) ?%")


@dataclass(frozen=True)
class Reach:
    """The target: an accuracy, or a fraction of the best trial that does not use the axis."""

    value: float
    is_share: bool

    def target(self, references: Iterable[float]) -> float:
        """The accuracy to reach; NaN for a fraction without a reference."""
        best = max((r for r in references if not math.isnan(r)), default=math.nan)
        return self.value * best if self.is_share else self.value


def read_reach(text: object) -> Reach:
    """`95%` (of the best trial without the axis: float32's at its best learning rate), or an accuracy such as 0.6.

    Raises:
        BadValueError: it is neither.
    """
    if match := SHARE.fullmatch(str(text)):
        share = float(match[1]) / 100
        if 0 < share <= 1:
            return Reach(share, True)
    try:
        accuracy = float(str(text))
    except ValueError:
        accuracy = math.nan
    if not 0 < accuracy <= 1:
        message = f"found {cut(str(text))}, expected a share such as 95% (of the best trial without the axis), or an"
        raise BadValueError(f"{message} accuracy above 0 and up to 1")
    return Reach(accuracy, False)


def mean(accuracies: Sequence[float]) -> float:
    """The mean over seeds; NaN if one of them diverged (NaN): such a point reaches nothing."""
    return math.fsum(accuracies) / len(accuracies)


@dataclass(frozen=True)
class Edge:
    """Where trials start to reach the target, going up an axis.

    Attributes:
        lowest: the lowest value that reaches it; None if none does.
        fails: values above it that do not.
    """

    lowest: float | None
    fails: tuple[float, ...] = ()


def edge(accuracies: Mapping[float, float], target: float) -> Edge:
    """The edge, from the accuracy at each value of an axis; NaN, a diverged trial, reaches nothing."""
    reached = [value for value, accuracy in accuracies.items() if accuracy >= target]
    if not reached:
        return Edge(None)
    lowest = min(reached)
    return Edge(lowest, tuple(sorted(value for value in accuracies if value > lowest and value not in reached)))
