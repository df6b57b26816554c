"""Counts the panels and lines that a figure would have, before its trials are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Spot:
    """Where a figure shows a row, as the texts of its values; None for a parameter that its trial doesn't read.

    `name` is its name in the figure if it is a reference. With `has_series` it is a reference if it has no value in the
    column of the lines (or y), otherwise if it has none in any of the columns.
    """

    key: str
    x: str | None
    series: str | None
    facet: str | None
    name: str
    has_series: bool

    @property
    def is_whole(self) -> bool:
        """Whether its trial reads all three parameters."""
        return None not in (self.x, self.series, self.facet)

    @property
    def is_reference(self) -> bool:
        """Whether it belongs to the line of trials that don't read a parameter."""
        return self.series is None if self.has_series else not self.is_whole

    @property
    def line(self) -> tuple[bool, str | None]:
        """The identity of its line."""
        return self.is_reference, self.name if self.is_reference else self.series

    @property
    def is_everywhere(self) -> bool:
        """Whether every panel shows it, if it has no value of the facet."""
        return self.x is None or self.is_reference


def named(found: Sequence[Spot]) -> list[Spot]:
    """Spots with the names that the figure shows for references: their formats, if no other trial has these."""
    others = {"", *(spot.name for spot in found if spot.is_whole)}
    return [replace(spot, name="reference") if spot.is_reference and spot.name in others else spot for spot in found]


def panels(spots: Sequence[Spot]) -> int:
    """The number of panels: one per value of the facet, and one for spots without a value that are not everywhere."""
    loose = any(spot.facet is None and not spot.is_everywhere for spot in spots)
    return len({spot.facet for spot in spots} - {None}) + loose


def most_curves(spots: Sequence[Spot]) -> int:
    """The largest number of curves in a panel of histograms, which has one per trial."""
    everywhere = {(spot.key, spot.line) for spot in spots if spot.facet is None and spot.is_everywhere}
    own: dict[str | None, set[tuple[str, tuple[bool, str | None]]]] = {}
    for spot in spots:
        own.setdefault(spot.facet, set(everywhere)).add((spot.key, spot.line))
    return max(map(len, own.values()), default=0)
