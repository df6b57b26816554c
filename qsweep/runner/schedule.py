"""The scheduler: forms stacks of missing trials, runs them on a backend, commits records, and isolates failing trials.

The job is an argument: the scheduler does not depend on training.
"""

from __future__ import annotations

import math
import re
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

from qsweep.results.records import FINAL
from qsweep.runner.backends import Backend
from qsweep.trial.key import Trial, stack_signature

Job = Callable[[list[dict[str, Any]], list[bytes]], list[dict[str, Any]]]
"""Settings of the trials of a stack, and the weights that each starts from → their records, in order. Never raises
because of a trial."""

Stack = tuple[Trial, ...]
Flight = tuple[Stack, float]
"""A stack in training, and the seconds since its start."""
Inputs = Callable[[Trial], bytes | None]
"""The weights that a trial starts from; None if it starts with training."""

STRIKES = 2
"""A trial that alone has killed its worker so often has failed."""

POLL_SECONDS = 0.2

AT_ONCE = (signal.SIGTERM, signal.SIGHUP)
"""Signals of batch systems and of closing terminals, after which running stacks are not awaited."""


class Progress(Protocol):
    """Receives reports from the scheduler."""

    def more(self, count: int) -> None:
        """`count` more trials will be trained."""

    def finished(self, records: Sequence[Mapping[str, Any]]) -> None:
        """These records were committed."""

    def working(self, flights: Sequence[Flight], waiting: Sequence[Stack]) -> None:
        """Called several times per second with the stacks that are training and waiting."""

    def note(self, text: str) -> None:
        """A message for the user."""


@dataclass
class Summary:
    """The outcome of a run.

    Attributes:
        trained: keys of trials that are done or diverged.
        statuses: of all trials that ran, including failures.
        conflicts: keys with conflicting records.
        stopped_by: the signal that stopped it.
    """

    trained: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    conflicts: list[str] = field(default_factory=list)
    stopped_by: signal.Signals | None = None

    def __add__(self, other: Summary) -> Summary:
        """The summary of two consecutive runs."""
        stopped_by = self.stopped_by or other.stopped_by
        trained, conflicts = [*self.trained, *other.trained], [*self.conflicts, *other.conflicts]
        return Summary(trained, self.statuses + other.statuses, conflicts, stopped_by)

    def is_over(self, exit_first: bool) -> bool:
        """Whether nothing may run after this: it was interrupted, or a trial failed and `exit_first` is set."""
        return self.stopped_by is not None or (exit_first and bool(self.statuses.keys() - set(FINAL)))


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
        limit: maximum trials per stack.
        fits: how many trials like this one fit in a worker's memory.
        work: the duration of a trial, in any unit.
    """
    share = math.ceil(len(trials) / (2 * workers))  # so that every worker gets some, and the last stack is not long
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(stack_signature(trial.settings), []).append(trial)
    stacks = [stack for group in groups.values() for stack in _cut(group, max(1, min(limit, share, fits(group[0]))))]
    return sorted(stacks, key=lambda stack: -work(stack[0]) * len(stack))


def _cut(trials: Sequence[Trial], size: int) -> Iterator[Stack]:
    for start in range(0, len(trials), size):
        yield tuple(trials[start : start + size])


def halves(stack: Stack) -> list[Stack]:
    """A stack split in two, to isolate a failing trial."""
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
    inputs: Inputs = lambda trial: None,
) -> Summary:
    """Run all stacks. Finished trials have been committed when this returns, even after an interrupt.

    Args:
        commit: stores records, all or none; returns the keys of conflicting ones.
        exit_first: submit nothing after the first failed trial.

    Raises:
        UserError: the store can't be written; what was committed before is safe.
    """
    return _Run(job, backend, commit, progress, exit_first, inputs, deque(stacks)).all()


@dataclass
class _Run:
    """One run.

    Attributes:
        queue: waiting stacks.
        suspects: stacks that were in flight when a worker died: they run first, one at a time.
        alone: whether a suspect is in flight.
        flying: submitted stacks.
        since: when stacks in flight started to train.
        strikes: number of workers that a single trial has killed, by key.
        closing: submit nothing more.
        stop_now: discard what is still running.
        in_job: a job is running inside this call, on the serial backend.
    """

    job: Job
    backend: Backend
    commit: Callable[[list[dict[str, Any]]], list[str]]
    progress: Progress
    exit_first: bool
    inputs: Inputs
    queue: deque[Stack]
    suspects: deque[Stack] = field(default_factory=deque)
    alone: bool = False
    flying: dict[Future[Any], Stack] = field(default_factory=dict)
    since: dict[Future[Any], float] = field(default_factory=dict)
    strikes: Counter[str] = field(default_factory=Counter)
    summary: Summary = field(default_factory=Summary)
    executor: Executor | None = None
    closing: bool = False
    stop_now: bool = False
    in_job: bool = False
    stop_reported: bool = False
    slowest: float = 0.0

    def all(self) -> Summary:
        with self._signals():
            try:
                with suppress(_StopNow):
                    self._loop()
                self._keep(self._take_finished())
            finally:
                if self.flying:
                    self._kill()
        return self.summary

    def _loop(self) -> None:
        while not self.stop_now and (self.flying or self._more()):
            self._submit()
            flights = self._flights()
            submitted = [stack for future, stack in self.flying.items() if future not in self.since]
            self.progress.working(flights, (*submitted, *self.suspects, *self.queue))
            wait(self.flying, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            self._keep(self._take_finished())
            if self.summary.stopped_by is not None:
                self._report_stop()

    # submitting

    def _more(self) -> bool:
        return not self.closing and bool(self.suspects or self.queue)

    def _room(self) -> bool:
        """Whether another stack may be submitted. After a worker died, the stacks in flight run one at a time."""
        if self.suspects or self.alone:
            return not self.flying
        return len(self.flying) < self.backend.slots

    def _submit(self) -> None:
        while self._more() and self._room() and self._start(self.suspects or self.queue):
            pass

    def _start(self, source: deque[Stack]) -> bool:
        """Submit the first stack of a queue. If the executor has just broken, the stack stays there; returns False."""
        self.executor = executor = self.executor or self.backend.open()
        self.in_job = self.backend.in_process
        if self.in_job:  # the next report is possible only when the job has ended
            self.progress.working([(source[0], 0.0)], (*self.suspects, *self.queue)[1:])
        try:
            given = [weights for trial in source[0] if (weights := self.inputs(trial)) is not None]
            future = executor.submit(self.job, [trial.settings for trial in source[0]], given)
        except BrokenExecutor:
            if not self.flying:
                self._kill()
            return False
        finally:
            self.in_job = False
        self.alone = source is self.suspects
        self.flying[future] = source.popleft()
        return True

    def _flights(self) -> list[Flight]:
        """The stacks in training: workers take stacks in the order of submission."""
        now = time.monotonic()
        running = [future for future in self.flying if not future.done()][: self.backend.workers]
        self.since = {future: self.since.get(future, now) for future in running}
        return [(self.flying[future], now - since) for future, since in self.since.items()]

    # collecting

    def _take_finished(self) -> list[dict[str, Any]]:
        """The records of stacks that have finished since the last call."""
        deaths = [future.exception() for future in self.flying if _lost(future)]
        if deaths:
            self._kill()  # nothing changes after this: what has finished by now counts
        finished = [future for future in self.flying if future.done() and not _lost(future)]
        records = [record for future in finished for record in self._accepted(self.flying.pop(future), future)]
        if deaths:
            records += self._suspect(str(deaths[0]))
        return records

    def _accepted(self, stack: Stack, future: Future[Any]) -> list[dict[str, Any]]:
        """The records that count. Only a stack of one can fail: failed trials of a larger one are retried in halves."""
        error = future.exception()
        records = future.result() if error is None else [_failed(t, f"{type(error).__name__}: {error}") for t in stack]
        bad = tuple(trial for trial, record in zip(stack, records, strict=True) if record["status"] not in FINAL)
        if not bad or len(stack) == 1:
            return list(records)
        self.queue.extendleft(reversed(halves(bad) if len(bad) == len(stack) else [bad]))
        return [record for record in records if record["status"] in FINAL]

    def _suspect(self, reason: str) -> list[dict[str, Any]]:
        """After a worker died with all stacks in flight, run each of them alone to find the cause."""
        lost = list(self.flying.values())
        self.flying.clear()
        if len(lost) == 1:
            return self._blame(lost[0], reason)
        self.progress.note(f"a worker died ({_exit_status(reason)}): {len(lost)} stacks are retried, one at a time")
        self.suspects.extend(lost)
        return []

    def _blame(self, stack: Stack, reason: str) -> list[dict[str, Any]]:
        if len(stack) > 1:
            self.progress.note(
                f"a worker died ({_exit_status(reason)}) with a stack of {len(stack)}: it is retried in halves"
            )
            self.suspects.extendleft(reversed(halves(stack)))
            return []
        key = stack[0].key
        self.strikes[key] += 1
        if self.strikes[key] < STRIKES:
            self.suspects.appendleft(stack)
            return []
        return [_failed(stack[0], f"killed its worker {STRIKES} times: {_exit_status(reason)}")]

    def _keep(self, records: list[dict[str, Any]]) -> None:
        """Commit records in one transaction."""
        if not records:
            return
        self.summary.conflicts += self.commit(records)
        self.summary.trained += [record["key"] for record in records if record["status"] in FINAL]
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
        """The first Ctrl-C: submit nothing more and wait for running stacks. A second one, SIGTERM or SIGHUP: stop now.

        The handler only sets flags, so that no commit is interrupted and no record that has just arrived is lost; the
        loop sees them within POLL_SECONDS. Only a job in this process must be interrupted from inside.
        """

        def stop(number: int, frame: FrameType | None) -> None:
            self.stop_now = number in AT_ONCE or self.summary.stopped_by is not None
            self.summary.stopped_by = signal.Signals(number)
            self.closing = True
            if self.in_job and self.stop_now:
                raise _StopNow
            if self.in_job:
                self._report_stop()

        can_handle = threading.current_thread() is threading.main_thread()  # other threads can't handle signals
        wanted = [n for n in (signal.SIGINT, *AT_ONCE) if can_handle and signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, stop) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _report_stop(self) -> None:
        if not self.stop_reported and not self.stop_now:
            self.stop_reported = True
            self.progress.note(f"stopping: {self._running()}; Ctrl-C again stops now")

    def _running(self) -> str:
        count = min(len(self.flying) or 1, self.backend.workers)
        longest = f", at most about {self.slowest:.0f} s more" if self.slowest else ""
        stacks = "the running stack" if count == 1 else f"{count} running stacks"
        return f"waiting for {stacks}{longest}"


class _StopNow(BaseException):
    """Raised in a signal handler to interrupt a job in this process."""


def _lost(future: Future[Any]) -> bool:
    """Whether the result was lost because a worker died."""
    return future.done() and isinstance(future.exception(), BrokenExecutor)


def _failed(trial: Trial, reason: str) -> dict[str, Any]:
    """The record of a trial that failed without one."""
    return {
        "key": trial.key,
        "environment": "",  # unknown: its process died
        "trial": trial.settings,
        "status": "failed",
        "reason": reason[:300],
        "result": {},
        "history": [],
        "run": {"seconds": 0.0, "stack": 1},
    }


def _exit_status(reason: str) -> str:
    """The exit status of a dead worker from an executor's message: `SIGKILL(-9)`."""
    codes = re.findall(r"SIG[A-Z]+\(-\d+\)|EXIT\(\d+\)", reason)
    return ", ".join(dict.fromkeys(codes)) or " ".join(reason.split())[:120] or "no message"


def missing(trials: Iterable[Trial], known: Mapping[str, Any]) -> list[Trial]:
    """The trials without a final record."""
    return [t for t in trials if t.key not in known or known[t.key].status not in FINAL]
