"""Deleting weights that no sweep needs any more."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from qsweep.results.store import Store
from qsweep.results.weights import Weights


def prune(results: Path, delete: bool) -> tuple[int, int]:
    """Count the trials whose weights no sweep needs, and their bytes; with `delete`, delete these weights.

    Raises:
        UserError: there is no store, or the weights' folder can't be written.
    """
    with closing(Store.view(results / "store.db")) as store:
        weights = Weights.beside(results, "")
        planned = store.planned()
        found = {key: size for key, size in weights.owners().items() if key not in planned}
    for key in found if delete else ():
        weights.delete(key)
    return len(found), sum(found.values())
