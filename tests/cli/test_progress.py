"""The progress of a run, its estimates of time, and the tables that it refreshes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsweep.cli import progress
from qsweep.cli.progress import LOG_SECONDS, Display, duration
from qsweep.cli.table import trials_table
from qsweep.errors import UserError
from qsweep.results.tables import read_trials
from qsweep.runner import refresh, schedule, sweep
from qsweep.runner.outlook import Options
from qsweep.runner.pace import Pace
from qsweep.trial.checks import check
from qsweep.trial.key import Trial
from qsweep.trial.resolve import resolve

Make = Callable[..., Trial]
ONE = resolve({name: check(name, value) for name, value in {"data": "digits", "model": "softmax", "lr": 1}.items()}, 0)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(progress, "time", own)
    return own


def record(trial: Trial, seconds: float) -> dict[str, Any]:
    return {"key": trial.key, "trial": trial.settings, "status": "done", "run": {"seconds": seconds, "stack": 1}}


def stack(make: Make, count: int, **changed: Any) -> schedule.Stack:
    return tuple(make(seed, **changed) for seed in range(count))


# --- pace -------------------------------------------------------------------------------------------------------------


def test_pace_without_a_measurement_has_no_estimate(trial: Make) -> None:
    assert Pace(2).left([(stack(trial, 3), 5.0)], []) is None


def test_pace_uses_the_mean_of_similar_trials_and_the_speed_of_others(trial: Make) -> None:
    pace = Pace(1, [(trial(0).settings, 2.0), (trial(1).settings, 4.0)])
    assert pace.of(stack(trial, 5)) == pytest.approx(15.0)
    assert pace.has_like(stack(trial, 5, lr=0.125))  # lr can be stacked, so it does not change the duration
    assert not pace.has_like(stack(trial, 5, epochs=4))
    assert pace.of(stack(trial, 5, epochs=4)) == pytest.approx(30.0)


def test_time_left_decreases_with_time_and_divides_stacks_among_workers(trial: Make) -> None:
    pace = Pace(2, [(trial(0).settings, 1.0)])
    four = stack(trial, 4)
    assert pace.left([(four, 0.0), (four, 0.0)], [four, four]) == pytest.approx(8.0)
    assert pace.left([(four, 3.0), (four, 1.0)], [four, four]) == pytest.approx(6.0)
    assert pace.left([(four, 1.0)], []) == pytest.approx(3.0)  # the other worker has nothing to do
    assert pace.left([(four, 99.0)], []) == 0.0


@given(st.lists(st.tuples(st.integers(1, 16), st.floats(0, 100)), max_size=4), st.lists(st.integers(1, 16), max_size=9))
def test_time_left_is_between_an_even_share_and_one_worker_for_all(
    flights: list[tuple[int, float]], waiting: list[int]
) -> None:
    own = Pace(4, [(ONE.settings, 2.0)])
    left = own.left([((ONE,) * n, elapsed) for n, elapsed in flights], [(ONE,) * n for n in waiting])
    work = sum(max(2.0 * n - elapsed, 0.0) for n, elapsed in flights) + sum(2.0 * n for n in waiting)
    assert left is not None
    assert work / 4 - 1e-6 <= left <= work + 1e-6


# --- display ----------------------------------------------------------------------------------------------------------


def test_log_gets_a_line_every_half_minute_while_one_long_stack_trains(
    trial: Make, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    long = stack(trial, 16)
    with Display() as display:
        display.start(16, Pace(1))
        for second in range(100):
            clock.now = 1000.0 + second
            display.working([(long, float(second))], [])
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"0 of 16 trained: training a stack (of 16) for {duration(s)}" for s in (30, 60, 90)]


def test_time_left_is_shown_before_the_first_stack_ends_if_similar_trials_are_known(
    trial: Make, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    long = stack(trial, 16)
    with Display() as display:
        display.start(48, Pace(2, [(trial(0).settings, 10.0)]))
        clock.now += LOG_SECONDS
        display.working([(long, 30.0), (long, 20.0)], [long])
    assert capsys.readouterr().err == ("0 of 48 trained: training 2 stacks (of 16, 16) for 30 s, about 4 min left\n")


def test_time_left_comes_from_this_run_if_nothing_is_known(
    trial: Make, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = stack(trial, 2), stack(trial, 2, lr=0.5)
    with Display() as display:
        display.start(4, Pace(1))
        display.finished([record(own, 20.0) for own in first])
        clock.now += LOG_SECONDS
        display.working([(second, 10.0)], [])
    assert capsys.readouterr().err == "2 of 4 trained: 2 done, training a stack (of 2) for 10 s, about 30 s left\n"


def test_preparing_is_shown_until_a_stack_trains(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as display:
        display.start(4, Pace(1))
        clock.now += LOG_SECONDS
        display.working([], [])
    assert capsys.readouterr().err == "0 of 4 trained: preparing\n"


def test_bar_shows_preparing_then_what_trains_and_the_time_left(
    trial: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Display() as display:
        display.start(4, Pace(1, [(trial(0).settings, 10.0)]))
        bar = display._bar
        assert bar is not None
        assert bar.tasks[0].description == "preparing"
        clock.now += 1
        display.working([(stack(trial, 4), 1.0)], [])
        assert bar.tasks[0].description == "training a stack (of 4) for 1 s, about 39 s left"
        display.finished([record(own, 9.0) for own in stack(trial, 4)])
        assert bar.tasks[0].completed == 4


# --- tables during a run ----------------------------------------------------------------------------------------------

SPEC = "trial: {data: digits, model: softmax, epochs: 1, batch_size: 500}\ngrid: {lr: [0.5, 0.25, 0.125]}\n"


@pytest.fixture
def own_folder(tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("QSWEEP_DATA", str(data_folder))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(SPEC, encoding="utf-8")
    return tmp_path


class Watching(Display):
    """Reads the tables after each stack."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[list[str]] = []

    def working(self, flights: Any, waiting: Any) -> None:
        self.statuses.append(list(read_trials(Path("results/s"))["status"]))
        assert "missing" in trials_table(Path("results/s")) or "missing" not in self.statuses[-1]


def test_tables_of_a_running_sweep_show_finished_trials_and_are_complete_at_the_end(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(refresh, "REST", 0)
    options = Options(backend="serial", stack=1, plot=False)
    watching = Watching()
    sweep.run(Path("s.yaml"), options, watching, lambda ahead: None)
    counts = [statuses.count("done") for statuses in watching.statuses]
    assert {len(statuses) for statuses in watching.statuses} == {3}
    assert {0, 1} <= set(counts)
    assert counts == sorted(counts)
    refreshed = {name: Path("results/s", name).read_bytes() for name in ("trials.csv", "history.csv", "spec.yaml")}
    monkeypatch.setattr(refresh, "REFRESH_SECONDS", 1e9)
    quiet = Options(results=Path("other"), backend="serial", stack=1, plot=False)
    sweep.run(Path("s.yaml"), quiet, Display(), lambda ahead: None)
    assert {name: Path("other/s", name).read_bytes() for name in refreshed} == refreshed


def test_tables_exist_before_the_first_trial_with_all_rows_missing(own_folder: Path) -> None:
    seen: list[str] = []

    class Reading(Display):
        def finished(self, records: Any) -> None:
            seen.extend(read_trials(Path("results/s"))["status"])

    sweep.run(Path("s.yaml"), Options(backend="serial", plot=False), Reading(), lambda ahead: None)
    assert seen[:3] == ["missing"] * 3


def test_failed_refresh_is_reported_and_does_not_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise UserError("no space")

    own = refresh.Refreshing(Display(), full)
    own._due = 0.0
    own.finished([{"status": "done", "run": {"seconds": 0.0}}])
    assert capsys.readouterr().err == "the tables could not be updated: no space\n"
