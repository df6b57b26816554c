"""The scheduler: forms stacks of missing trials, runs them on a backend, commits what comes back, finds who is to blame.

It is given the job as an argument and knows nothing of training.
"""

from __future__ import annotations

import math
import re
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

from qsweep.backends import Backend
from qsweep.store import FINAL
from qsweep.trial import Trial, stack_signature

Job = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
"""Settings of the trials of one stack → their records, in order. Never raises for a trial's sake."""

Stack = tuple[Trial, ...]

STRIKES = 2
"""A single trial that has killed its worker this often has failed."""

POLL_SECONDS = 0.2


class Progress(Protocol):
    """What the scheduler tells while it runs."""

    def finished(self, records: Sequence[Mapping[str, Any]]) -> None:
        """These records were committed."""

    def note(self, text: str) -> None:
        """Something worth a line."""


@dataclass
class Summary:
    """How a run ended: statuses of what was trained, keys whose records differ, and the signal that stopped it, if any."""

    statuses: Counter[str] = field(default_factory=Counter)
    conflicts: list[str] = field(default_factory=list)
    stopped_by: signal.Signals | None = None


# --- stacks -----------------------------------------------------------------------------------------------------------


def form_stacks(
    trials: Sequence[Trial],
    limit: int,
    workers: int,
    fits: Callable[[Trial], int],
    work: Callable[[Trial], float],
) -> list[Stack]:
    """Stacks of trials that share a signature, longest first.

    Args:
        limit: trials a stack at most.
        fits: how many trials like this one a worker's memory holds.
        work: how long a trial takes, in any unit.
    """
    share = math.ceil(len(trials) / (2 * workers))  # so that every worker gets some, and no one waits long for the last
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(stack_signature(trial.settings), []).append(trial)
    stacks = [stack for group in groups.values() for stack in _cut(group, max(1, min(limit, share, fits(group[0]))))]
    return sorted(stacks, key=lambda stack: -work(stack[0]) * len(stack))


def _cut(trials: Sequence[Trial], size: int) -> Iterator[Stack]:
    for start in range(0, len(trials), size):
        yield tuple(trials[start : start + size])


def halves(stack: Stack) -> list[Stack]:
    """A stack in two, to find who is to blame."""
    middle = (len(stack) + 1) // 2
    return [part for part in (stack[:middle], stack[middle:]) if part]


# --- running ----------------------------------------------------------------------------------------------------------


def run(
    stacks: Sequence[Stack],
    job: Job,
    backend: Backend,
    commit: Callable[[list[dict[str, Any]]], list[str]],
    progress: Progress,
    exit_first: bool = False,
) -> Summary:
    """Run all stacks; what finished is committed when this returns, also after an interrupt.

    Args:
        commit: puts records into the store, all or none; returns the keys whose record differs from an earlier one.
        exit_first: submit no more after the first trial that fails.

    Raises:
        UserError: the store can't be written; what was committed before is safe.
    """
    return _Run(job, backend, commit, progress, exit_first, deque(stacks)).all()


@dataclass
class _Run:
    job: Job
    backend: Backend
    commit: Callable[[list[dict[str, Any]]], list[str]]
    progress: Progress
    exit_first: bool
    queue: deque[Stack]
    suspects: deque[Stack] = field(default_factory=deque)
    flying: dict[Future[Any], Stack] = field(default_factory=dict)
    strikes: Counter[str] = field(default_factory=Counter)
    summary: Summary = field(default_factory=Summary)
    executor: Executor | None = None
    closing: bool = False
    slowest: float = 0.0

    def all(self) -> Summary:
        with self._signals():
            try:
                while self.flying or (not self.closing and (self.queue or self.suspects)):
                    self._submit()
                    self._collect()
            except _StopNow:
                self._keep(self._take_finished())
                self._kill()
            except BaseException:
                self._kill()
                raise
        return self.summary

    # submitting

    def _submit(self) -> None:
        """Fill the slots; after a lost worker, what was in flight goes one at a time until it has passed."""
        while not self.closing and len(self.flying) < (1 if self.suspects else self.backend.slots):
            source = self.suspects or self.queue
            if not source:
                return
            self._start(source.popleft())
            if self.backend.slots == 1:
                return

    def _start(self, stack: Stack) -> None:
        self.executor = self.executor or self.backend.open()
        try:
            self.flying[self.executor.submit(self.job, [trial.settings for trial in stack])] = stack
        except BrokenExecutor:  # it broke between two looks: this stack never ran
            self.queue.appendleft(stack)
            self._keep(self._break_up(""))

    # collecting

    def _collect(self) -> None:
        """Wait for something to finish, and commit all that has, in one transaction."""
        if self.flying:
            wait(self.flying, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        self._keep(self._take_finished())

    def _take_finished(self) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        broken = ""
        for future in [f for f in self.flying if f.done()]:
            error = future.exception()
            if isinstance(error, BrokenExecutor):
                broken = str(error) or type(error).__name__
            elif error is not None:
                raise error
            else:
                records += self._accepted(self.flying.pop(future), future.result())
        if broken:
            records += self._break_up(broken)
        return records

    def _accepted(self, stack: Stack, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Records that count. Only a stack of one can fail: what failed in a larger one is tried again in halves."""
        if len(stack) == 1:
            return records
        bad = tuple(trial for trial, record in zip(stack, records, strict=True) if record["status"] not in FINAL)
        if bad:
            again = halves(bad) if len(bad) == len(stack) else [bad]
            self.queue.extendleft(reversed(again))
        return [record for record in records if record["status"] in FINAL]

    def _break_up(self, reason: str) -> list[dict[str, Any]]:
        """A worker died, and every stack in flight with it; whose fault it was is found by running them one at a time."""
        lost = list(self.flying.values())
        self.flying.clear()
        self._kill()
        if len(lost) > 1:
            self.progress.note(
                f"a worker died ({_last_words(reason)}): {len(lost)} stacks are run again, one at a time"
            )
            self.suspects.extend(lost)
            return []
        return self._blame(lost[0], reason) if lost else []

    def _blame(self, stack: Stack, reason: str) -> list[dict[str, Any]]:
        if len(stack) > 1:
            self.progress.note(
                f"a worker died ({_last_words(reason)}) with a stack of {len(stack)}: halved and run again"
            )
            self.suspects.extendleft(reversed(halves(stack)))
            return []
        key = stack[0].key
        self.strikes[key] += 1
        if self.strikes[key] < STRIKES:
            self.suspects.appendleft(stack)
            return []
        return [lost_record(stack[0], f"killed its worker {STRIKES} times: {_last_words(reason)}")]

    def _keep(self, records: list[dict[str, Any]]) -> None:
        if not records:
            return
        self.summary.conflicts += self.commit(records)
        self.summary.statuses.update(record["status"] for record in records)
        self.slowest = max(self.slowest, *(r["run"]["seconds"] * r["run"]["stack"] for r in records))
        self.progress.finished(records)
        if self.exit_first and any(record["status"] not in FINAL for record in records):
            self.closing = True

    # stopping

    def _kill(self) -> None:
        if self.executor is not None:
            self.backend.kill(self.executor)
        self.executor = None

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C once: submit no more and keep what is running; twice, or a SIGTERM: stop now."""

        def stop(number: int, frame: FrameType | None) -> None:
            again = self.closing and self.summary.stopped_by is not None
            self.summary.stopped_by = signal.Signals(number)
            self.closing = True
            if again or number == signal.SIGTERM:
                raise _StopNow
            self.progress.note(f"stopping: {self._running()}; Ctrl-C again stops now")

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _running(self) -> str:
        count = min(len(self.flying) or 1, self.backend.workers)
        longest = f", at most about {self.slowest:.0f} s more" if self.slowest else ""
        return f"keeping the {count} stack{'s' if count > 1 else ''} that run now{longest}"


class _StopNow(BaseException):
    """Leave the loop from inside a signal handler."""


def lost_record(trial: Trial, reason: str) -> dict[str, Any]:
    """The record of a trial whose worker never came back."""
    return {
        "key": trial.key,
        "environment": "",  # the machine that it died on did not live to tell
        "trial": trial.settings,
        "status": "failed",
        "reason": reason,
        "result": {},
        "history": [],
        "run": {"seconds": 0.0, "stack": 1},
    }


def _last_words(reason: str) -> str:
    """What an executor says of a dead worker, as short as it can be: `SIGKILL(-9)`."""
    codes = re.findall(r"SIG[A-Z]+\(-\d+\)|EXIT\(\d+\)", reason)
    return ", ".join(dict.fromkeys(codes)) or " ".join(reason.split())[:120] or "no word"


def missing(trials: Iterable[Trial], known: Mapping[str, Any]) -> list[Trial]:
    """The trials without a final record."""
    return [t for t in trials if t.key not in known or known[t.key].status not in FINAL]
