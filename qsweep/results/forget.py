"""Deletes the records and weights of trials, so that the next run retrains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from qsweep.errors import UserError, unknown
from qsweep.results.keys import records_like
from qsweep.results.store import Store
from qsweep.results.weights import Weights


@dataclass(frozen=True)
class Forgotten:
    """What `forget` deletes.

    Attributes:
        shared: how many of the trials other sweeps also have, by the sweep's name.
        bytes: size of the weights.
    """

    trials: int
    records: int
    shared: Mapping[str, int]
    bytes: int


def forget(results: Path, prefixes: Sequence[str], name: str | None, delete: bool) -> Forgotten:
    """Count the records and weights of trials; with `delete`, delete them.

    Args:
        prefixes: the beginnings of keys, one trial each.
        name: the name of a sweep whose trials are all included.

    Raises:
        UserError: there is no such trial or sweep, or the store can't be written.
    """
    path = results / "store.db"
    with closing(Store.open(path, create=False) if delete else Store.view(path)) as store:
        plans = store.plans()
        if name is not None and name not in plans:
            raise UserError(unknown("sweep", name, tuple(plans)))
        found = {record.key: 0 for prefix in prefixes for record in records_like(store, prefix)}
        keys = list({**found, **dict.fromkeys(plans[name] if name is not None else ())})
        records = sum(len(store.like(key)) for key in keys)
        weights = Weights.beside(results, "")
        sizes = weights.owners()
        others = {other: len(set(keys) & set(own)) for other, own in plans.items() if other != name}
        if delete:
            store.forget(keys)
            for key in keys:
                weights.delete(key)
    return Forgotten(len(keys), records, {n: c for n, c in others.items() if c}, sum(sizes.get(k, 0) for k in keys))
