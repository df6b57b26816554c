"""The scheduler with a fake job: stacks, failures, interrupts, and that nothing is lost or done twice."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import fake_job
import pytest
from fake_driver import Driver

from qsweep.errors import UserError
from qsweep.results.records import Record
from qsweep.results.store import Store
from qsweep.results.tables import history_csv, trials_csv
from qsweep.runner import backends, schedule
from qsweep.runner.backends import BACKENDS, Backend
from qsweep.runner.schedule import Summary, form_stacks, halves
from qsweep.spec.file import read
from qsweep.spec.plan import expand
from qsweep.trial.key import Trial

pytestmark = pytest.mark.slow

# --- stacks -----------------------------------------------------------------------------------------------------------


def stacks_of(trials: Sequence[Trial], limit: int = 16, workers: int = 1, fits: int = 100, **given: Any) -> list[int]:
    stacks = form_stacks(trials, limit, workers, lambda trial: fits, given.get("work", lambda trial: 1.0))
    assert sorted(t.key for stack in stacks for t in stack) == sorted(t.key for t in trials)
    return [len(stack) for stack in stacks]


def test_form_stacks_cuts_at_the_limit() -> None:
    assert stacks_of([fake_job.trial(n) for n in range(40)], limit=7) == [7, 7, 7, 7, 7, 5]


def test_form_stacks_shares_trials_among_workers() -> None:
    assert stacks_of([fake_job.trial(n) for n in range(40)], workers=4) == [5] * 8
    assert stacks_of([fake_job.trial(n) for n in range(3)], workers=4) == [1, 1, 1]


def test_form_stacks_respects_memory() -> None:
    assert stacks_of([fake_job.trial(n) for n in range(8)], fits=3) == [3, 3, 2]
    assert stacks_of([fake_job.trial(n) for n in range(2)], fits=0) == [1, 1]


def test_form_stacks_does_not_mix_signatures() -> None:
    trials = [fake_job.trial(n, width=n % 2) for n in range(8)]
    for stack in form_stacks(trials, 16, 1, lambda trial: 16, lambda trial: 1.0):
        assert len({trial.settings["width"] for trial in stack}) == 1


def test_form_stacks_puts_the_longest_first() -> None:
    trials = [fake_job.trial(n, width=width) for width in (1, 5, 3) for n in range(4)]
    stacks = form_stacks(trials, 2, 1, lambda trial: 16, lambda trial: trial.settings["width"])
    assert [stack[0].settings["width"] for stack in stacks] == [5, 5, 3, 3, 1, 1]


def test_form_stacks_without_trials_is_empty() -> None:
    assert stacks_of([]) == []


def test_halves_of_an_odd_stack_has_all_trials_in_order() -> None:
    stack = tuple(fake_job.trial(n) for n in range(5))
    first, second = halves(stack)
    assert (len(first), first + second) == (3, stack)


# --- running ----------------------------------------------------------------------------------------------------------


class Progress:
    """Collects notes."""

    def __init__(self) -> None:
        self.groups: list[list[Mapping[str, Any]]] = []
        self.notes: list[str] = []
        self.seen: list[tuple[list[schedule.Flight], list[schedule.Stack]]] = []

    def finished(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.groups.append(list(records))

    def working(self, flights: Sequence[schedule.Flight], waiting: Sequence[schedule.Stack]) -> None:
        self.seen.append((list(flights), list(waiting)))

    def note(self, text: str) -> None:
        self.notes.append(text)


class Lab:
    """A results folder, a store, a backend, and the fake job."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        self.folder = folder
        self.backend = backend
        self.progress = Progress()
        self.store = Store.open(folder / "store.db")

    def run(self, *stacks: Sequence[Trial], **how: Any) -> Summary:
        job = partial(fake_job.run, folder=str(self.folder))
        commit = how.pop("commit", lambda records: self.store.add(records, 1))
        return schedule.run([tuple(s) for s in stacks], job, self.backend, commit, self.progress, **how)

    def found(self, *trials: Trial) -> dict[str, Record]:
        found, damaged = self.store.look_up([t.key for t in trials], fake_job.ENVIRONMENT)
        assert not damaged
        return found

    def statuses(self, *trials: Trial) -> list[str]:
        return self.store.statuses([t.key for t in trials])

    @property
    def calls(self) -> list[int]:
        """The sizes of the stacks that the job was called with."""
        return [int(line) for line in fake_job.lines(self.folder, "calls")]

    @property
    def runs(self) -> Counter[str]:
        """How often each key was computed."""
        return Counter(fake_job.lines(self.folder, "ran"))


@pytest.fixture(params=BACKENDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path, backends.backend(request.param, 2))
    yield made
    made.store.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path, backends.backend("local", 2))
    yield made
    made.store.close()


def good(count: int) -> list[Trial]:
    return [fake_job.trial(n) for n in range(count)]


def test_run_reports_what_is_training_before_it_has_ended(lab: Lab) -> None:
    trials = good(5)
    lab.run(trials[:3], trials[3:])
    named = [[len(stack) for stack, _ in flights] for flights, _ in lab.progress.seen if flights]
    assert named[0][0] == 3
    assert 2 in {size for sizes in named for size in sizes}


def test_run_commits_every_record_as_the_job_returned_it(lab: Lab) -> None:
    trials = good(20)
    summary = lab.run(trials[:16], trials[16:])
    assert summary.statuses == {"done": 20}
    assert summary.stopped_by is None
    expected = {t.key: fake_job.record(t.settings) for t in trials}
    found = lab.found(*trials)
    assert {k: r.result for k, r in found.items()} == {k: r["result"] for k, r in expected.items()}
    assert {k: r.trial for k, r in found.items()} == {t.key: t.settings for t in trials}
    assert sum(len(group) for group in lab.progress.groups) == 20
    assert set(lab.runs.values()) == {1}


def test_run_trial_that_raises_in_a_stack_of_16_fails_alone(lab: Lab) -> None:
    trials = [*good(11), fake_job.trial(11, "raise"), *(fake_job.trial(n) for n in range(12, 16))]
    summary = lab.run(trials)
    assert summary.statuses == {"done": 15, "failed": 1}
    assert sorted(summary.trained) == sorted(trial.key for i, trial in enumerate(trials) if i != 11)
    assert lab.statuses(*trials).index("failed") == 11
    assert lab.found(*trials)[trials[11].key].reason == "ValueError: broken on purpose"
    assert sorted(lab.calls) == [1, 1, 2, 2, 4, 4, 8, 8, 16]


def test_run_with_only_failing_trials_needs_at_most_twice_as_many_calls_as_trials(lab: Lab) -> None:
    summary = lab.run([fake_job.trial(n, "raise") for n in range(16)])
    assert summary.statuses == {"failed": 16}
    assert summary.trained == []
    assert len(lab.calls) == 31


@pytest.mark.parametrize(("do", "status"), [("fail", "failed"), ("time out", "timeout")])
def test_run_retries_trials_that_failed_in_a_stack(lab: Lab, do: str, status: str) -> None:
    bad = [fake_job.trial(n, do) for n in (5, 6)]
    trials = good(5)
    assert lab.run([*trials, *bad]).statuses == {"done": 5, status: 2}
    assert {lab.runs[t.key] for t in trials} == {1}
    assert lab.found(*bad)[bad[0].key].reason == f"{status} on purpose"


def test_run_job_that_exits_fails_and_others_continue(lab: Lab) -> None:
    trials = [fake_job.trial(0, "exit"), *good(3)]
    assert lab.run(*([t] for t in trials)).statuses == {"done": 3, "failed": 1}
    assert lab.found(*trials)[trials[0].key].reason == "SystemExit: 7"


def test_run_does_not_retry_diverged_trials(lab: Lab) -> None:
    trials = [fake_job.trial(0, "diverge"), *good(3)]
    assert lab.run(trials).statuses == {"done": 3, "diverged": 1}
    assert lab.calls == [4]


def test_run_exit_first_submits_nothing_after_a_failure(lab: Lab) -> None:
    trials = [fake_job.trial(0, "fail"), *good(40)]
    summary = lab.run(*([t] for t in trials), exit_first=True)
    assert summary.statuses["failed"] == 1
    assert summary.statuses.total() < 20
    assert lab.statuses(*trials).count("missing") == 41 - summary.statuses.total()


def test_run_reports_keys_with_conflicting_records(lab: Lab) -> None:
    trials = good(2)
    lab.store.add([fake_job.record(trials[0].settings, result={"test_accuracy": 0.5})], 1)
    assert lab.run(trials).conflicts == [trials[0].key]


def test_run_ends_if_the_store_fails_and_restores_signal_handlers(lab: Lab) -> None:
    before = signal.getsignal(signal.SIGINT)

    def refuse(records: object) -> list[str]:
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        lab.run(*([t] for t in good(8)), commit=refuse)
    assert signal.getsignal(signal.SIGINT) == before
    assert lab.run(good(8)).statuses == {"done": 8}  # the backend is usable again


# --- workers that die -------------------------------------------------------------------------------------------------


def test_run_trial_that_kills_its_worker_fails_with_the_signal_and_others_succeed(local: Lab) -> None:
    killer = fake_job.trial(99, "kill")
    others = [fake_job.trial(n, seconds=0.05) for n in range(4)]
    assert local.run([killer], others).statuses == {"done": 4, "failed": 1}
    found = local.found(killer, *others)
    assert {found[t.key].status for t in others} == {"done"}
    assert found[killer.key].reason == "killed its worker 2 times: SIGKILL(-9)"
    assert local.runs[killer.key] == 3  # once beside others, so that it could have been their fault, and twice alone


def test_run_stack_in_flight_when_another_worker_died_succeeds_undivided(local: Lab) -> None:
    once = fake_job.trial(99, "kill once")
    others = [fake_job.trial(n, seconds=0.05) for n in range(4)]
    assert local.run([once], others).statuses == {"done": 5}
    assert sorted(local.calls) == [1, 1, 4, 4]
    assert local.progress.notes == ["a worker died (SIGKILL(-9)): 2 stacks are retried, one at a time"]


def test_run_trial_that_kills_its_worker_only_in_a_stack_is_done(local: Lab) -> None:
    trials = [fake_job.trial(0, "kill in stack"), *good(1)]
    assert local.run(trials).statuses == {"done": 2}
    assert local.calls[-2:] == [1, 1]
    assert local.progress.notes == ["a worker died (SIGKILL(-9)) with a stack of 2: it is retried in halves"]


class Scripted(Executor):
    """An executor without processes; a script defines the outcome of each stack."""

    def __init__(self, script: Iterator[str]) -> None:
        self.script = script
        self.broken = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.broken:
            raise BrokenProcessPool("SIGSEGV(-11)")
        future: Future[Any] = Future()
        answer = next(self.script)
        if answer in ("done", "done, then breaks"):
            future.set_result(fn(*args, **kwargs))
        if answer == "dies":
            future.set_exception(BrokenProcessPool("SIGSEGV(-11)"))
        self.broken = answer == "done, then breaks"
        return future


def scripted(folder: Path, *script: str) -> Lab:
    """A lab with slots for three stacks. Its script continues over all executors; further stacks are done."""
    answers = itertools.chain(script, itertools.repeat("done"))
    return Lab(folder, Backend("scripted", 3, 3, False, lambda: Scripted(answers), lambda executor: None))


def test_run_results_from_before_a_death_count(tmp_path: Path) -> None:
    lab = scripted(tmp_path, "done", "dies", "done")
    with closing(lab.store):
        assert lab.run(*([t] for t in good(3))).statuses == {"done": 3}
        assert sorted(lab.runs.values()) == [1, 1, 1]  # the one that died had not begun, in this script


def test_run_results_from_before_submit_detected_the_death_count(tmp_path: Path) -> None:
    lab = scripted(tmp_path, "done, then breaks")
    with closing(lab.store):
        assert lab.run(*([t] for t in good(3))).statuses == {"done": 3}
        assert sorted(lab.runs.values()) == [1, 1, 1]


def test_run_suspects_run_one_at_a_time_until_all_have_succeeded(tmp_path: Path) -> None:
    lab = scripted(tmp_path, "hangs", "hangs", "dies")
    groups = [[fake_job.trial(10 * size + n) for n in range(size)] for size in (1, 2, 3, 4, 5)]
    with closing(lab.store):
        assert lab.run(*groups).statuses == {"done": 15}
    assert lab.calls == [1, 2, 3, 4, 5]
    assert [len(group) for group in lab.progress.groups] == [1, 2, 3, 9]  # each alone, then the rest together


def test_run_trial_that_kills_workers_in_a_stack_of_16_costs_a_bounded_number_of_workers(tmp_path: Path) -> None:
    deaths = 0

    class Mortal(Scripted):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            nonlocal deaths
            killed = any(settings["do"] == "kill" for settings in args[0])
            deaths += killed
            self.script = iter(["dies" if killed else "done"])
            return super().submit(fn, *args, **kwargs)

    killer = fake_job.trial(99, "kill")
    lab = scripted(tmp_path)
    lab.backend = Backend("mortal", 3, 3, False, lambda: Mortal(iter(())), lambda executor: None)
    with closing(lab.store):
        assert lab.run([*good(9), killer, *(fake_job.trial(n) for n in range(9, 15))]).statuses == {
            "done": 15,
            "failed": 1,
        }
        assert lab.statuses(killer) == ["failed"]
    assert deaths == 1 + 4 + 1  # 16, then 8, 4, 2, 1, and 1 once more
    assert set(lab.runs.values()) == {1}


# --- stopping ---------------------------------------------------------------------------------------------------------


def slow(count: int, seconds: float) -> list[tuple[int, str, dict[str, Any]]]:
    return [(n, "ok", {"seconds": seconds}) for n in range(count)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_interrupt_once_finishes_running_stacks_and_starts_no_others(tmp_path: Path, backend: str) -> None:
    driver = Driver(tmp_path, [(n, "wait", {}) for n in range(20)], backend, stack=1)
    driver.wait_for("ran", 1)
    driver.send(signal.SIGINT)
    while "Ctrl-C again stops now" not in (line := driver.process.stderr.readline()):  # type: ignore[union-attr]
        assert line
    (tmp_path / "go").touch()
    code, summary, _ = driver.end()
    assert code == 130
    flying = len(fake_job.lines(tmp_path, "ran"))
    assert summary["statuses"] == {"done": flying}
    assert len(driver.known()) == flying == (1 if backend == "serial" else 4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_interrupt_twice_stops_now(tmp_path: Path, backend: str) -> None:
    driver = Driver(tmp_path, [(n, "wait", {}) for n in range(20)], backend, stack=1)
    driver.wait_for("ran", 1)
    driver.send(signal.SIGINT)
    while "Ctrl-C again stops now" not in (line := driver.process.stderr.readline()):  # type: ignore[union-attr]
        assert line
    driver.send(signal.SIGINT)
    code, summary, err = driver.end()
    assert (code, summary["statuses"]) == (130, {})
    assert "Traceback" not in err


def test_terminate_stops_now_and_keeps_finished_records(tmp_path: Path) -> None:
    trials = [*slow(5, 0), *((n, "wait", {}) for n in range(5, 20))]
    driver = Driver(tmp_path, trials, "local", stack=1)
    driver.wait_for_records(5)
    driver.send(signal.SIGTERM)
    code, summary, err = driver.end()
    assert (code, summary["statuses"]) == (143, {"done": 5})
    assert "Traceback" not in err
    assert driver.known() == set(driver.keys[:5])


def test_ignored_interrupt_stays_ignored(lab: Lab) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lab.progress, "finished", lambda records: os.kill(os.getpid(), signal.SIGINT))
            assert lab.run(*([t] for t in good(8))).statuses == {"done": 8}
    finally:
        signal.signal(signal.SIGINT, before)


def test_interrupt_during_a_commit_neither_aborts_nor_loses_it(lab: Lab) -> None:
    trials = good(8)

    def commit(records: list[dict[str, Any]]) -> list[str]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return lab.store.add(records, 1)

    summary = lab.run(*([t] for t in trials), commit=commit)
    assert summary.stopped_by == signal.SIGINT
    assert summary.statuses.total() == len(lab.found(*trials)) > 0


def test_killed_driver_loses_nothing_and_known_records_are_not_recomputed(tmp_path: Path) -> None:
    trials = slow(60, 0.01)
    driver = Driver(tmp_path, trials, "local", stack=4)
    driver.wait_for_records(12)
    driver.send(signal.SIGKILL)
    driver.end()
    known = driver.known()
    (tmp_path / "ran").rename(tmp_path / "ran before")
    driver = Driver(tmp_path, trials, "local", stack=4)
    code, summary, _ = driver.end()
    assert (code, summary) == (0, {"known": len(known), "statuses": {"done": 60 - len(known)}})
    assert driver.known() == set(driver.keys)
    computed = Counter(fake_job.lines(tmp_path, "ran"))
    assert not known & computed.keys()
    assert set(computed.values()) == {1}


# --- the table --------------------------------------------------------------------------------------------------------

SPEC = """
trial: {data: digits, model: softmax, batch_size: 64, rounding: stochastic, scale: 2, quantize: {weight: range}}
grid: {lr: {pow2: [0, -7]}, bitwidth: [8, 4, 2]}
also: [{trial: {quantize: {}}, grid: {lr: {pow2: [0, -7]}}}]
seeds: 2
"""


def test_order_stacks_and_backend_do_not_change_the_bytes_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SPEC)
    plan = expand(read(tmp_path / "tiny.yaml"))
    found = set()
    for name, limit, reverse in (("serial", 1, False), ("local", 16, False), ("local", 5, True), ("serial", 7, True)):
        folder = tmp_path / f"{name} {limit}"
        folder.mkdir()
        lab = Lab(folder, backends.backend(name, 2))
        trials = sorted(plan.trials, key=lambda t: t.key) if reverse else plan.trials
        with closing(lab.store):
            lab.run(*form_stacks(trials, limit, 2, lambda trial: 16, lambda trial: 1.0))
            records = lab.found(*plan.trials)
        found.add((trials_csv(plan, records), history_csv(plan, records)))
    assert len(plan.trials) == 64
    ((trials_table, _),) = found
    assert trials_table.count(",done,") == 64
