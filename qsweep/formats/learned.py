"""Formats whose levels are computed from the values: for compressing trained weights, not for use during training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from qsweep.formats.declared import AXIS, PER
from qsweep.formats.family import Format
from qsweep.parameter import Parameter

CLUSTERS = Parameter(
    "clusters",
    Annotated[int, Field(ge=1, le=2**16)],
    "an integer from 1 to 65536 (the most levels; fewer if there are fewer distinct values)",
)


@dataclass(frozen=True)
class KMeans(Format):
    """N levels that k-means finds per tensor, channel or group; each value becomes the nearest one.

    Each level is the mean of its values: a local minimum of the sum of squared errors, which moving any single level
    cannot reduce. If there are fewer distinct values than N, each is a level, and nothing changes.

    Without `clusters`, a trial's `bitwidth` B gives 2^B levels.

    Sources: Lloyd (1982), initialized by k-means++ (Arthur & Vassilvitskii 2007); for codebooks of weights, Han, Mao &
    Dally, Deep Compression (2016), 3.
    """

    family: ClassVar[str] = "kmeans"
    short: ClassVar[str] = "kmeans{clusters}"
    parameters: ClassVar[tuple[Parameter, ...]] = (CLUSTERS, PER, AXIS)
    summary: ClassVar[str] = "N levels found in the values by k-means: for `compress`"
    examples: ClassVar[tuple[str, ...]] = ("kmeans8",)
    rule: ClassVar[str] = "kmeans"
    code: ClassVar[None] = None
    is_learned: ClassVar[bool] = True

    clusters: int
    per: int | str = "tensor"
    axis: int | str = "auto"


FAMILIES: tuple[type[Format], ...] = (KMeans,)
