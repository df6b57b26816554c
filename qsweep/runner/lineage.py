"""The trials that a sweep has to run, stage by stage: those without a record, and the bases that they start from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qsweep.results.records import FINAL, Record
from qsweep.trial.key import Trial


def family(trials: Iterable[Trial]) -> list[Trial]:
    """Trials and all their bases, each once."""
    return list({one.key: one for trial in trials for one in (*trial.bases, trial)}.values())


def needed(wanted: Iterable[Trial], records: Mapping[str, Record], has_weights: Callable[[str], bool]) -> list[Trial]:
    """The wanted trials, and the bases that must run before them, each once: earlier stages first.

    A base need not run if it is known and its weights exist, nor if it is known to have none because it diverged.
    """
    found: dict[str, Trial] = {}
    for trial in wanted:
        chain = [trial]
        while chain[-1].bases and not _is_available(chain[-1].bases[-1].key, records, has_weights):
            chain.append(chain[-1].bases[-1])
        found |= {one.key: one for one in chain}
    return sorted(found.values(), key=lambda one: len(one.bases))


def _is_available(key: str, records: Mapping[str, Record], has_weights: Callable[[str], bool]) -> bool:
    record = records.get(key)
    return record is not None and record.status in FINAL and (record.status != "done" or has_weights(key))


def storing_weights(trials: Iterable[Trial]) -> set[str]:
    """The keys of trials whose weights are stored: bases, and trials with stages."""
    return {one.key for trial in trials for one in (trial, *trial.bases[-1:]) if trial.bases}


def taken_over(trial: Trial, status: str, reason: str, environment: str) -> dict[str, Any]:
    """The record of a trial whose base has no weights to start from: it has the base's status and reason."""
    return {
        "key": trial.key,
        "environment": environment,
        "trial": trial.settings,
        "status": status,
        "reason": f"its base {trial.bases[-1].key[:10]} {status}: {reason}"[:300],
        "result": {},
        "history": [],
        "run": {"seconds": 0.0, "stack": 1},
    }
