"""What `run` says: of what lies ahead, and of how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from qsweep.cli.progress import Display, duration
from qsweep.runner.inspection import names_places, rounds_flows
from qsweep.runner.outlook import Outlook
from qsweep.runner.search import Found
from qsweep.runner.sweep import Result

SHOWN = 3
"""Of places and of failed trials, those that are named."""


# --- what lies ahead --------------------------------------------------------------------------------------------------


def begin(ahead: Outlook, display: Display) -> None:
    """Say what a run is about to do, and start its display."""
    for line in (counts(ahead), *failing(ahead), *not_rounded(ahead, SHOWN)):
        display.note(line)
    if ahead.stacks:
        for line in time(ahead) if ahead.time.trials else ():
            display.note(line)
        display.start(ahead.missing, ahead.pace)


def counts(ahead: Outlook) -> str:
    """How many trials there are, how many are known and how many are to be trained."""
    rows, trials = len(ahead.plan.rows), len(ahead.plan.trials)
    shared = f" in {rows} rows" if rows != trials else ""
    first = " first, then what the search asks for" if ahead.plan.spec.search else ""
    to_train = _with_bases(ahead.missing, ahead.bases)
    return f"{ahead.folder_name}: {_trials(trials)}{shared}, known {ahead.known}, to train {to_train}{first}"


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"


def _with_bases(trained: int, bases: int) -> str:
    """How many, those apart that have no row: others start from them."""
    if not bases:
        return str(trained)
    return f"{trained - bases} and {'1 base' if bases == 1 else f'{bases} bases, each'} once"


def stack_sizes(ahead: Outlook) -> Iterator[str]:
    """The stacks by their sizes, the largest first."""
    for size, count in sorted(Counter(map(len, ahead.stacks)).items(), reverse=True):
        yield f"{count} × a stack of {size}"


def places(ahead: Outlook) -> Iterator[str]:
    """The places of each net where trials round what flows through it or name places."""
    asked = [t for t in ahead.plan.unlike if names_places(t) or rounds_flows(t)]
    for model, own in {str(t.columns["model"]): ahead.nets.of(t) for t in asked}.items():
        if own is not None and own.places:
            rounding = f"; outputs are rounded at {', '.join(own.rounding)}" if own.rounding else ""
            yield f"places of {model}: {', '.join(own.places)}{rounding}"


def not_rounded(ahead: Outlook, most: int | None = None) -> Iterator[str]:
    """What trials ask to round and nothing rounds, by model; of long lists no more than the first ones."""
    for model, lacking in ahead.not_rounded.items():
        more = len(lacking) - len(lacking[:most])
        rest = f" and {more} more (`-n` lists them)" if more else ""
        yield f"not rounded in {model}: {', '.join(lacking[:most])}{rest}"


def data(ahead: Outlook) -> Iterator[str]:
    """The data sets that are not there, where they would come from and how large they are."""
    for found in ahead.lacking:
        yield found.text


def failing(ahead: Outlook) -> Iterator[str]:
    """The trials that will fail because their nets can not be built, by reason."""
    reasons = Counter(own.failure["reason"] for t in ahead.failing if (own := ahead.nets.of(t)) and own.failure)
    for reason, count in reasons.items():
        yield f"{count} will fail: {reason}"


def time(ahead: Outlook) -> Iterator[str]:
    """How long it takes, where there is something to do."""
    seconds, trials = ahead.time
    if not ahead.stacks:
        return
    if not trials:
        yield "duration unknown: nothing similar has run here yet"
    elif trials == ahead.missing:
        yield f"about {duration(seconds)}, as long as like trials took here"
    else:
        yield f"about {duration(seconds)} for {trials} of them, as long as like trials took here; the others are new"


# --- how it ended -----------------------------------------------------------------------------------------------------


def ended(result: Result) -> Iterator[str]:
    """How many trials were trained and known, which are not done, and what a search came to."""
    elsewhere = f" ({result.elsewhere} of them from another environment)" if result.elsewhere else ""
    yield f"trained {_with_bases(len(result.summary.trained), result.bases)}, known {result.known}{elsewhere}"
    expected = ("done",) if result.found is None else ("done", "missing")
    others = [f"{n} {status}" for status, n in sorted(result.statuses.items()) if status not in expected]
    if others:
        yield ", ".join(others)
    if result.found is not None:
        yield _search(result.found)
    if result.summary.stopped_by is not None:
        yield "stopped; what finished is kept: run again to go on"


def _search(found: Found) -> str:
    lines = "1 line" if found.lines == 1 else f"{found.lines} lines"
    if found.needed:
        return f"searched {lines}, not to the end: {found.needed} trials are needed next; run again to go on"
    told = [f"searched {lines}: {found.edges} with an edge"]
    if found.uneven:
        named = "; ".join(found.uneven[:SHOWN]) + (" …" if len(found.uneven) > SHOWN else "")
        told.append(f"{len(found.uneven)} not monotone ({named}: a higher value fails)")
    if none := found.lines - found.edges:
        told.append(f"{none} where neither ends nor middle reach it")
    return f"{', '.join(told)}; {found.left} trials were not needed"


def wrong(result: Result) -> Iterator[str]:
    """Why trials failed, each reason once, and records that contradict each other."""
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
    """That a trial gave two different records, and what to do."""
    short = key[:10]
    return (
        f"{short}: two records of one environment differ, and the first counts: `qsweep why {short}` shows both, "
        f"`qsweep store forget {short}` deletes them, and the next run trains it anew"
    )
