"""The messages of `run`: what it is about to do, and its outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from qsweep.cli.progress import Display, duration
from qsweep.parameter import show
from qsweep.runner.inspection import rounds_flows
from qsweep.runner.outlook import Outlook
from qsweep.runner.search import Found
from qsweep.runner.sweep import Result
from qsweep.trial.key import Trial

SHOWN = 3
"""How many places, reasons and failed lines a message names."""


# --- before the run ---------------------------------------------------------------------------------------------------


def begin(ahead: Outlook, display: Display) -> None:
    """Report what a run is about to do, and start its display."""
    for line in (counts(ahead), *failing(ahead), *ahead.unmet.lines(SHOWN)):
        display.note(line)
    if ahead.stacks:
        for line in time(ahead) if ahead.time.trials else ():
            display.note(line)
        display.start(ahead.missing, ahead.pace)


def counts(ahead: Outlook) -> str:
    """How many trials there are, how many are known and how many are to be trained."""
    rows, trials = len(ahead.plan.rows), len(ahead.plan.trials)
    shared = f" in {rows} rows" if rows != trials else ""
    first = " first, then those that the search needs" if ahead.plan.spec.search else ""
    to_train = _with_bases(ahead.missing, ahead.bases)
    failing = f", {len(ahead.failing)} will fail" if ahead.failing else ""
    return f"{ahead.folder_name}: {_trials(trials)}{shared}, known {ahead.known}, to train {to_train}{first}{failing}"


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"


def _with_bases(trained: int, bases: int) -> str:
    """The number of trials to train, not counting bases: these have no row; other trials start from them."""
    if not bases:
        return str(trained)
    return f"{trained - bases} and {'1 base' if bases == 1 else f'{bases} bases, each'} once"


def stack_sizes(ahead: Outlook) -> Iterator[str]:
    """The number of stacks of each size, the largest first."""
    for size, count in sorted(Counter(map(len, ahead.stacks)).items(), reverse=True):
        yield f"{count} stack{'s' * (count != 1)} of {size}"


def places(ahead: Outlook) -> Iterator[str]:
    """The places of each net whose trials round activations or errors, or name places."""
    asked = [t for t in ahead.plan.configurations if t.view.names_places or rounds_flows(t)]
    found: dict[tuple[str, str], list[Trial]] = {}
    for trial in asked:
        own = ahead.nets.of(trial)
        if own is not None and own.places:
            rounding = f"; outputs are rounded at {', '.join(own.rounding)}" if own.rounding else ""
            text = f"{', '.join(own.places)}{rounding}"
            found.setdefault((str(trial.columns["model"]), text), []).append(trial)
    for (model, text), trials in found.items():
        yield f"places of {model}{_in_brackets(_common(trials, asked, ('model',)))}: {text}"


def _common(trials: Sequence[Trial], others: Sequence[Trial], without: Sequence[str] = ()) -> str:
    """The settings, by column, that all of these trials share and some of the others do not have."""
    shared = {
        name: value
        for name, value in trials[0].columns.items()
        if all(trial.columns.get(name) == value for trial in trials) and name not in without
    }
    telling = {n: v for n, v in shared.items() if any(other.columns.get(n) != v for other in others)}
    return ", ".join(f"{name}={value if isinstance(value, str) else show(value)}" for name, value in telling.items())


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def short_groups(ahead: Outlook) -> Iterator[str]:
    """The weights of each model that have fewer values than a group of their format."""
    found: dict[str, dict[str, None]] = {}
    for trial in ahead.plan.configurations:
        if own := ahead.nets.of(trial):
            found.setdefault(str(trial.columns["model"]), {}).update(dict.fromkeys(own.short_groups))
    for model, texts in found.items():
        yield from (f"short groups in {model}: {text}" for text in texts)


def data(ahead: Outlook) -> Iterator[str]:
    """The missing data sets, where they would come from and how large they are."""
    for found in ahead.lacking:
        yield found.text


def failing(ahead: Outlook) -> Iterator[str]:
    """How many trials will fail because their nets can't be built: by reason, with what these trials share."""
    reasons: dict[str, list[Trial]] = {}
    for trial in ahead.failing:
        if (own := ahead.nets.of(trial)) and own.failure:
            reasons.setdefault(str(own.failure["reason"]), []).append(trial)
    for reason, trials in reasons.items():
        yield f"{len(trials)} will fail{_in_brackets(_common(trials, ahead.plan.configurations))}: {reason}"


def time(ahead: Outlook) -> Iterator[str]:
    """How long the training will take, if there is something to train."""
    seconds, trials = ahead.time
    if not ahead.stacks:
        return
    if not trials:
        yield "duration unknown: nothing similar has run here yet"
    elif trials == ahead.missing:
        yield f"about {duration(seconds)}, estimated from similar trials"
    else:
        yield f"about {duration(seconds)} for {trials} of them, estimated from similar trials; the others are new"


# --- after the run ----------------------------------------------------------------------------------------------------


def outcome(result: Result) -> Iterator[str]:
    """How many trials were trained to an end, known and not done, and what a search found."""
    elsewhere = f" ({result.elsewhere} of them from another environment)" if result.elsewhere else ""
    yield f"trained {_with_bases(len(result.summary.trained), result.bases)}, known {result.known}{elsewhere}"
    expected = ("done",) if result.found is None else ("done", "missing")
    others = [f"{n} {status}" for status, n in sorted(result.statuses.items()) if status not in expected]
    if others:
        yield ", ".join(others)
    if result.found is not None:
        yield _search(result.found)
    if result.summary.stopped_by is not None:
        yield "stopped; what finished is kept: run again to continue"


def _search(found: Found) -> str:
    lines = "1 line" if found.lines == 1 else f"{found.lines} lines"
    if found.needed:
        return f"searched {lines}, not to the end: {found.needed} trials are needed next; run again to continue"
    parts = [f"searched {lines}: {found.edges} with an edge"]
    if found.uneven:
        named = "; ".join(found.uneven[:SHOWN]) + (" …" if len(found.uneven) > SHOWN else "")
        parts.append(f"{len(found.uneven)} not monotone ({named}: a higher value fails)")
    if none := found.lines - found.edges:
        parts.append(f"{none} where neither the ends nor the middle reach it")
    return f"{', '.join(parts)}; {found.left} trials were not needed"


def problems(result: Result) -> Iterator[str]:
    """The reasons why trials failed, each once, and conflicting records."""
    groups: dict[tuple[str, str], list[str]] = {}
    for record in result.records.values():
        if record.status in ("failed", "timeout"):
            groups.setdefault((record.status, record.reason), []).append(record.key[:10])
    for (status, reason), keys in list(groups.items())[:SHOWN]:
        which = keys[0] if len(keys) == 1 else f"{len(keys)} of them" if len(groups) > 1 else f"all {len(keys)}"
        yield f"  {which} {status}: {reason} (`qsweep why {keys[0]}`)"
    if len(groups) > SHOWN:
        left = len(groups) - SHOWN
        yield f"  and {left} more reason{'s' * (left > 1)} (the column `reason` of trials.csv)"
    yield from map(conflict, result.summary.conflicts)


def conflict(key: str) -> str:
    """The message about a trial with two different records."""
    short = key[:10]
    return (
        f"{short}: two records of one environment differ, and the first counts: `qsweep why {short}` shows both, "
        f"`qsweep store forget {short}` deletes them, and the next run retrains it"
    )
