"""The store: exact, durable and robust."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from io import UnsupportedOperation
from pathlib import Path
from typing import Any

import fake_job
import pytest
from paths import RECORDED, SUPPORT

from qsweep.errors import UserError
from qsweep.results.database import VERSION
from qsweep.results.records import COLUMNS, checksum
from qsweep.results.store import Store

HERE = fake_job.ENVIRONMENT
GROUP = 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with closing(Store.open(path)) as opened:
        yield opened


def record(number: int = 0, **changed: Any) -> dict[str, Any]:
    return fake_job.record(fake_job.trial(number).settings, **changed)


def key(number: int = 0) -> str:
    return fake_job.trial(number).key


def keys(count: int) -> list[str]:
    return [key(n) for n in range(count)]


@contextmanager
def sql(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the file that bypasses the store."""
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def count(path: Path) -> int:
    with sql(path) as connection:
        return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])


def bits(number: float) -> bytes:
    return struct.pack("<d", number)


# --- round trips ------------------------------------------------------------------------------------------------------

FLOATS = [0.1 + 0.2, 1 / 3, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -0.0, 1e22, 123456789.123456789]


def test_record_is_read_back_unchanged(store: Store) -> None:
    run_id = store.begin_run({"qsweep": "1", "note": "größer"})
    given = record(3)
    assert store.add([given], run_id) == []
    found, damaged = store.look_up([key(3)], HERE)
    back = found[key(3)]
    assert damaged == []
    assert (back.key, back.environment, back.status, back.reason) == (key(3), HERE, "done", "")
    assert (back.trial, back.result, back.run) == (given["trial"], given["result"], given["run"])
    assert back.history["epoch"] == [1, 2]
    assert back.history["test_loss"] == [row["test_loss"] for row in given["history"]]
    assert (back.run_id, back.seconds) == (run_id, 0.25)
    assert store.provenance(run_id) == {"qsweep": "1", "note": "größer"}
    assert store.provenance(run_id + 1) == {}


@pytest.mark.parametrize("number", FLOATS)
def test_floats_are_read_back_bit_for_bit(store: Store, path: Path, number: float) -> None:
    settings = {**fake_job.trial(0).settings, "lr": number or 1.0}  # a trial has no -0.0: it would be another key
    given = fake_job.record(settings, result={"m": number}, history=[{"epoch": 1, "m": number}])
    given["run"]["seconds"] = abs(number)
    store.add([given], 1)
    with closing(Store.view(path)) as again:
        back = again.look_up([given["key"]], HERE)[0][given["key"]]
    assert bits(back.result["m"]) == bits(back.history["m"][0]) == bits(number)
    assert bits(back.seconds) == bits(abs(number))
    assert bits(back.trial["lr"]) == bits(number or 1.0)


def test_integers_booleans_texts_and_none_keep_their_types(store: Store) -> None:
    values = {"a": 1, "b": 1.0, "c": True, "d": None, "e": "1", "f": [1, 1.0], "g": "Ω \u2028 \0 🙂"}
    given = fake_job.record({**fake_job.trial(0).settings, "more": values})
    store.add([given], 1)
    back = store.look_up([given["key"]], HERE)[0][given["key"]].trial["more"]
    assert {k: (type(v), v) for k, v in back.items()} == {k: (type(v), v) for k, v in values.items()}


def test_history_with_different_metrics_per_epoch_keeps_all(store: Store) -> None:
    store.add([record(history=[{"epoch": 1, "a": 0.5}, {"epoch": 2, "b": 0.25}])], 1)
    history = store.look_up(keys(1), HERE)[0][key()].history
    assert history == {"epoch": [1, 2], "a": [0.5, None], "b": [None, 0.25]}


@pytest.mark.parametrize("reason", ["no such file: '\udcff.py'", "two\nlines", "zero \0 byte", "x" * 10_000])
def test_reason_can_be_any_text(store: Store, reason: str) -> None:
    store.add([record(status="failed", reason=reason)], 1)
    back = store.look_up(keys(1), HERE)[0][key()].reason
    assert back.isprintable()
    assert back.split()[0] == reason.split()[0]


# --- what is committed ------------------------------------------------------------------------------------------------


def test_add_is_one_transaction_for_all_records(store: Store) -> None:
    statements: list[str] = []
    store._connection.set_trace_callback(statements.append)
    store.add([record(n) for n in range(GROUP)], 1)
    assert [statements.count(word) for word in ("BEGIN IMMEDIATE", "COMMIT")] == [1, 1]


def test_add_commits_all_records_or_none(store: Store, path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.add([record(0), record(1), record(2, result={"m": float("nan")})], 1)
    assert count(path) == 0
    assert store.add([record(0)], 1) == []  # no transaction was left open
    assert count(path) == 1


def test_interrupted_add_leaves_no_transaction_open(store: Store, path: Path) -> None:
    def interrupted() -> Iterator[Mapping[str, Any]]:
        yield record(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add(interrupted(), 1)
    assert store.add([record(1)], 1) == []
    assert store.statuses(keys(2)) == ["missing", "done"]
    assert count(path) == 1


WRITER = """
import os, signal, sys
from pathlib import Path
import fake_job
from qsweep.results.store import Store

def group(first, size, die_after=None):
    for n in range(first, first + size):
        if n - first == die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        yield fake_job.record(fake_job.trial(n).settings)

store = Store.open(Path(sys.argv[1]))
size, die_in, die_after = map(int, sys.argv[2:])
print("open", flush=True)
for number in range(10_000):
    store.add(group(number * size, size, die_after if number == die_in else None), 1)
    print(number, flush=True)
"""


def writer(path: Path, size: int, die_in: int = -1, die_after: int = 0) -> subprocess.Popen[str]:
    """A process that commits groups of records one after the other, and prints which it has committed."""
    command = [sys.executable, "-c", WRITER, str(path), str(size), str(die_in), str(die_after)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=SUPPORT)


def test_writer_killed_during_a_commit_leaves_exactly_the_earlier_commits(path: Path) -> None:
    process = writer(path, GROUP, die_in=3, die_after=9)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out.split()) == (-signal.SIGKILL, ["open", "0", "1", "2"])
    with closing(Store.open(path)) as store:
        assert store.statuses(keys(4 * GROUP)) == ["done"] * 3 * GROUP + ["missing"] * GROUP
        assert store.check().sound == 3 * GROUP


@pytest.mark.parametrize("seconds", [0.0, 0.013, 0.041])
def test_writer_killed_at_any_time_leaves_its_reported_commits_and_no_partial_one(path: Path, seconds: float) -> None:
    process = writer(path, GROUP)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    time.sleep(seconds)
    process.kill()
    committed = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    with closing(Store.open(path)) as store:
        sound = store.check().sound
        assert sound % GROUP == 0
        assert len(committed) <= sound // GROUP <= len(committed) + 1
        assert store.statuses(keys(sound)) == ["done"] * sound


def test_a_torn_write_leaves_a_prefix_of_the_commits(store: Store, path: Path, tmp_path: Path) -> None:
    for first in range(0, 5 * GROUP, GROUP):
        store.add([record(n) for n in range(first, first + GROUP)], 1)
    log = path.with_name("store.db-wal")
    size = log.stat().st_size
    found = []
    for number, cut in enumerate(range(0, size, size // 40)):
        torn = tmp_path / str(number) / "store.db"
        torn.parent.mkdir()
        shutil.copy(path, torn)
        torn.with_name(log.name).write_bytes(log.read_bytes()[:cut])
        if not log.stat().st_size:
            continue
        with closing(Store.open(torn)) as opened:
            sound = opened.check().sound
            assert opened.statuses(keys(sound)) == ["done"] * sound
        found.append(sound)
    assert found == sorted(found)
    assert set(found) >= {GROUP * n for n in range(5)}
    assert all(sound % GROUP == 0 for sound in found)


@pytest.mark.parametrize("left", ["nothing", "an empty file", "a header"])
def test_open_creates_a_store_where_a_process_was_killed_while_creating_one(path: Path, left: str) -> None:
    path.parent.mkdir()
    if left == "an empty file":
        path.touch()
    if left == "a header":
        with sql(path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    with closing(Store.open(path)) as store:
        store.add([record()], 1)
    assert count(path) == 1


# --- two records of one trial -----------------------------------------------------------------------------------------


def test_equal_second_record_is_not_kept(store: Store, path: Path) -> None:
    store.add([record()], 1)
    again = record()
    again["run"] = {"seconds": 99.0, "stack": 7}  # how it was run is never compared
    assert store.add([again], 2) == []
    assert count(path) == 1
    assert store.look_up(keys(1), HERE)[0][key()].seconds == 0.25


@pytest.mark.parametrize(
    "changed",
    [
        {"result": {"test_accuracy": 0.5}},
        {"history": [{"stage": 0, "epoch": 1}]},
        {"status": "diverged", "result": {}, "history": [], "reason": "NaN"},
    ],
)
def test_conflicting_records_are_both_kept_and_reported_and_the_first_counts(
    store: Store, path: Path, changed: dict[str, Any]
) -> None:
    first = record()
    store.add([first], 1)
    assert store.add([record(1), record(**changed)], 2) == [key()]
    assert count(path) == 3
    assert store.look_up(keys(1), HERE)[0][key()].result == first["result"]
    assert store.check().conflicts == [key()]
    assert store.add([record(**changed), first], 3) == []  # neither is new
    assert count(path) == 3


def test_records_of_two_environments_may_differ(store: Store) -> None:
    store.add([record(), record(environment="another", result={"test_accuracy": 0.5})], 1)
    assert store.check().conflicts == []


def test_look_up_prefers_records_of_the_own_environment(store: Store) -> None:
    store.add([record(environment="another", result={"m": 1.0}), record(result={"m": 2.0})], 1)
    for environment, expected in (("another", 1.0), (HERE, 2.0), ("a third", 1.0)):
        assert store.look_up(keys(1), environment)[0][key()].result == {"m": expected}


def test_look_up_prefers_a_result_of_another_environment_to_a_failure_of_the_own(store: Store) -> None:
    store.add([record(status="failed"), record(environment="another")], 1)
    assert store.look_up(keys(1), HERE)[0][key()].status == "done"


@pytest.mark.parametrize("environment", [HERE, ""])
@pytest.mark.parametrize("status", ["failed", "timeout"])
def test_failure_is_replaced_by_the_next_record(store: Store, path: Path, environment: str, status: str) -> None:
    store.add([record(environment=environment, status=status, reason="once")], 1)
    store.add([record(status="failed", reason="twice")], 1)
    assert [r.reason for r in store.like(key())] == ["twice"]
    assert store.add([record()], 1) == []
    assert [r.status for r in store.like(key())] == ["done"]
    assert count(path) == 1


def test_failure_never_replaces_a_result(store: Store) -> None:
    store.add([record()], 1)
    assert store.add([record(status="failed"), record(status="failed", environment="")], 1) == []
    assert store.statuses(keys(1)) == ["done"]
    assert store.look_up(keys(1), HERE)[0][key()].status == "done"
    assert store.look_up(keys(1), "")[0][key()].status == "done"


# --- damage -----------------------------------------------------------------------------------------------------------

DAMAGE = {
    "a digit of a result": "result = replace(result, '0.', '1.')",
    "a metric of the history": "history = replace(history, 'loss', 'lost')",
    "the status": "status = 'diverged'",
    "the trial": "trial = replace(trial, '\"seed\":0', '\"seed\":1')",
    "invalid JSON": "result = '{'",
    "how it ran": "run = '{}'",
    "the time": "seconds = seconds + 1",
    "the environment": "environment = 'another'",
    "the checksum": "checksum = 'x'",
    "bytes that are not text": "history = CAST(x'7bff00fe' AS TEXT)",
    "another type": "result = x'00'",
    "not a number": "seconds = 'soon'",
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_row_is_set_aside_reported_once_and_missing(store: Store, path: Path, change: str) -> None:
    store.add([record(n) for n in range(3)], 1)
    with sql(path) as connection:
        connection.execute(f"UPDATE records SET {change} WHERE key = ?", (key(1),))
    found, damaged = store.look_up(keys(3), HERE)
    assert set(found) == {key(0), key(2)}
    assert damaged == [key(1)]
    assert store.look_up(keys(3), HERE) == (found, [])
    assert store.statuses(keys(3)) == ["done", "missing", "done"]
    with sql(path) as connection:
        assert connection.execute("SELECT count(*) FROM damaged").fetchone() == (1,)
    assert store.add([record(1)], 1) == []  # trained again
    assert store.look_up(keys(3), HERE)[0][key(1)].result == record(1)["result"]


def test_row_with_the_key_of_another_trial_is_damaged_even_if_its_checksum_is_right(store: Store, path: Path) -> None:
    store.add([record(0)], 1)
    with sql(path) as connection:
        connection.execute("UPDATE records SET key = ?", (key(1),))
        values = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM records").fetchone()
        connection.execute("UPDATE records SET checksum = ?", (checksum(dict(zip(COLUMNS, values, strict=True))),))
    assert store.look_up(keys(2), HERE) == ({}, [key(1)])


def test_damaged_row_is_not_a_conflict(store: Store, path: Path) -> None:
    store.add([record()], 1)
    with sql(path) as connection:
        connection.execute("UPDATE records SET result = '{}'")
    assert store.add([record()], 1) == []
    found, damaged = store.look_up(keys(1), HERE)
    assert (found[key()].result, damaged) == (record()["result"], [key()])


def test_damaged_row_is_ignored_by_all_readers(store: Store, path: Path) -> None:
    store.add([record(0), record(1)], 1)
    with sql(path) as connection:
        connection.execute("UPDATE records SET trial = '{' WHERE key = ?", (key(0),))
    assert [r.key for r in store.like("")] == [key(1)]
    assert store.timings(HERE) == [(record(1)["trial"], 0.25)]


@pytest.mark.parametrize(
    "history",
    ["", "[]", "{", '{"epoch": 1}', '{"epoch": [1], "m": [1, 2]}', "[" * 100_000, '{"epoch": [' + "9" * 5000 + "]}"],
)
def test_unreadable_history_is_reported_and_check_sets_it_aside(store: Store, path: Path, history: str) -> None:
    store.add([record(0), record(1)], 1)
    with sql(path) as connection:
        connection.execute("UPDATE records SET history = ? WHERE key = ?", (history, key(0)))
        values = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM records WHERE key = ?", (key(0),)).fetchone()
        sealed = checksum(dict(zip(COLUMNS, values, strict=True)))
        connection.execute("UPDATE records SET checksum = ? WHERE key = ?", (sealed, key(0)))
    with pytest.raises(UserError, match=f"trial {key(0)[:10]} has no readable history: `qsweep store check`"):
        _ = store.look_up(keys(2), HERE)[0][key(0)].history
    assert store.check().damaged == [key(0)]
    assert [*store.look_up(keys(2), HERE)[0]] == [key(1)]


def test_check_sets_damaged_rows_aside_and_counts_sound_ones(store: Store, path: Path) -> None:
    store.add([record(n) for n in range(4)], 1)
    with sql(path) as connection:
        connection.execute("UPDATE records SET result = '{}' WHERE key IN (?, ?)", (key(1), key(3)))
    found = store.check()
    assert (found.sound, set(found.damaged), found.conflicts) == (2, {key(1), key(3)}, [])
    assert store.check().damaged == []


READERS = {
    "open": lambda store: store.look_up(keys(200), HERE),
    "like": lambda store: store.like(""),
    "statuses": lambda store: store.statuses(keys(200)),
    "timings": lambda store: store.timings(HERE),
    "check": lambda store: store.check(),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_damaged_file_is_reported_with_what_to_do(store: Store, path: Path, read: Any) -> None:
    store.add([record(n) for n in range(200)], 1)
    store.close()
    data = bytearray(path.read_bytes())
    for page in range(8 * 4096, len(data), 4096):
        data[page : page + 512] = b"\xff" * 512
    path.write_bytes(data)
    with closing(Store.open(path)) as opened, pytest.raises(UserError, match="Move it away"):
        read(opened)


@pytest.mark.parametrize("content", [b"hello " * 1000, b"SQLite format 3\0" + b"\xff" * 5000, b"x"])
@pytest.mark.parametrize("opens", [Store.open, Store.view])
def test_file_that_is_not_a_database_is_refused_and_unchanged(path: Path, content: bytes, opens: Any) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged or not a store"):
        opens(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("opens", [Store.open, Store.view])
def test_database_of_another_program_is_refused_and_unchanged(path: Path, opens: Any) -> None:
    path.parent.mkdir()
    with sql(path) as connection:
        connection.executescript("CREATE TABLE bookmarks (url); PRAGMA user_version=70;")
    before = path.read_bytes()
    with pytest.raises(UserError, match="is not a store of qsweep"):
        opens(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("opens", [Store.open, Store.view])
@pytest.mark.parametrize("killed", [False, True], ids=["closed", "with a log"])
def test_store_of_a_newer_version_is_refused_and_unchanged(
    path: Path, tmp_path: Path, opens: Any, killed: bool
) -> None:
    with closing(Store.open(path)) as store:
        store.add([record()], 1)
        store._connection.execute(f"PRAGMA user_version={VERSION + 1}")
        copy = tmp_path / "copy"  # of files as a killed writer leaves them
        shutil.copytree(path.parent, copy)
    newer = copy / path.name if killed else path
    before = digest(newer)
    with pytest.raises(UserError, match=f"store version {VERSION + 1}, this one reads {VERSION}"):
        opens(newer)
    assert digest(newer) == before


def digest(path: Path) -> list[str]:
    """Digests of a store's file and of its write-ahead log."""
    log = path.with_name(f"{path.name}-wal")
    contents = [path.read_bytes(), log.read_bytes() if log.exists() else b""]
    return [hashlib.sha256(content).hexdigest() for content in contents]


# --- folders that can't be written ------------------------------------------------------------------------------------


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only for this process, which gives up root for it."""
    user = os.geteuid()
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


@pytest.fixture
def guarded() -> Iterator[Path]:
    """A read-only folder with a store in it."""
    folder = Path(tempfile.mkdtemp())  # other users can't read tmp_path
    with closing(Store.open(folder / "store.db")) as store:
        store.add([record(0), record(1)], 1)
    with read_only(folder):
        yield folder
    shutil.rmtree(folder)


def test_folder_that_can_not_be_written_is_reported(guarded: Path) -> None:
    with pytest.raises(UserError, match="can't write the results folder"):
        Store.open(guarded / "results" / "store.db")
    with pytest.raises(UserError, match="can't open or write"):
        Store.open(guarded / "another.db")
    with pytest.raises(UserError, match="can't open or write"):
        Store.open(guarded / "store.db").begin_run({})


def test_view_reads_in_a_read_only_folder(guarded: Path) -> None:
    with closing(Store.view(guarded / "store.db")) as store:
        assert set(store.look_up(keys(2), HERE)[0]) == set(keys(2))
        assert store.check().sound == 2


def test_view_reads_in_a_read_only_folder_what_a_killed_writer_left(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    with closing(Store.open(tmp_path / "store.db")) as store:
        store.add([record(0)], 1)
        shutil.copytree(tmp_path, folder, dirs_exist_ok=True)
    try:
        with read_only(folder), closing(Store.view(folder / "store.db")) as viewed:
            assert set(viewed.look_up(keys(1), HERE)[0]) == set(keys(1))
    finally:
        shutil.rmtree(folder)


def test_path_through_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't write the results folder"):
        Store.open(tmp_path / "file" / "store.db")


def test_path_with_special_characters_of_uris_works(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory#%41 ü" / "store.db"
    with closing(Store.open(path)) as store:
        store.add([record()], 1)
    assert path.is_file()
    with closing(Store.view(path)) as store:
        assert store.statuses(keys(1)) == ["done"]


def fill(store: Store, groups: range) -> int:
    """Add groups until the store refuses one; return how many it accepted."""
    for done, number in enumerate(groups):
        try:
            store.add([record(n) for n in range(number * GROUP, (number + 1) * GROUP)], 1)
        except UserError as error:
            assert "the disk is full" in str(error)  # noqa: PT017
            assert "What was committed is safe" in str(error)  # noqa: PT017
            return done
    raise AssertionError("it was never full")


@contextmanager
def no_more_pages(store: Store) -> Iterator[None]:
    """SQLite's own limit, which raises the error of a full disk."""
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages + 40}")
    yield
    store._connection.execute("PRAGMA max_page_count=1073741823")


@contextmanager
def no_longer_files(store: Store) -> Iterator[None]:
    """A limit on file size, at which writes fail during a transaction, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("full", [no_more_pages, no_longer_files])
def test_full_disk_is_reported_and_the_store_continues_when_there_is_space(store: Store, path: Path, full: Any) -> None:
    store.add([record(n) for n in range(GROUP)], 1)
    with full(store):
        taken = fill(store, range(1, 200))
        with closing(Store.view(path)) as reader:  # others can still read
            assert set(reader.statuses(keys((1 + taken) * GROUP))) == {"done"}
    assert taken > 0
    sound = (1 + taken) * GROUP
    assert store.statuses(keys(sound + GROUP)) == ["done"] * sound + ["missing"] * GROUP
    assert store.add([record(n) for n in range(sound, sound + GROUP)], 1) == []
    store.close()
    with closing(Store.open(path)) as again:
        assert again.check().sound == sound + GROUP


def test_store_locked_by_another_program_is_reported(store: Store, path: Path) -> None:
    store._connection.execute("PRAGMA busy_timeout=10")
    with sql(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match="another program keeps writing"):
            store.add([record()], 1)
    assert store.add([record()], 1) == []


# --- reading ----------------------------------------------------------------------------------------------------------


def test_readers_see_only_complete_commits_while_a_writer_writes(path: Path) -> None:
    process = writer(path, GROUP)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    wanted, seen = keys(20_000), []
    while len(set(seen)) < 4:
        with closing(Store.view(path)) as store:
            found, damaged = store.look_up(wanted, HERE)
        assert damaged == []
        assert len(found) % GROUP == 0
        assert process.poll() is None
        seen.append(len(found))
    process.kill()
    process.communicate()
    assert seen == sorted(seen)


def test_view_changes_nothing_and_sets_nothing_aside(store: Store, path: Path) -> None:
    store.add([record(n) for n in range(3)], 1)
    with sql(path) as connection:
        connection.execute("UPDATE records SET result = '{}' WHERE key = ?", (key(1),))
    store.close()
    before = digest(path)
    with closing(Store.view(path)) as viewed:
        assert viewed.look_up(keys(3), HERE)[1] == [key(1)]
        assert viewed.check().damaged == [key(1)]
        with pytest.raises(UnsupportedOperation):
            viewed.add([record(5)], 1)
    assert digest(path) == before
    assert count(path) == 3


@pytest.mark.parametrize("opens", [Store.view, lambda path: Store.open(path, create=False)])
def test_missing_store_is_reported_and_not_created(path: Path, opens: Any) -> None:
    with pytest.raises(UserError, match="nothing has been run there yet"):
        opens(path)
    assert not path.parent.exists()


def test_look_up_of_very_many_keys(store: Store) -> None:
    store.add([record(n) for n in range(3)], 1)
    found, _ = store.look_up([*keys(3), *(f"{n:064x}" for n in range(40_000)), *keys(3)], HERE)
    assert set(found) == set(keys(3))
    assert store.look_up([], HERE) == ({}, [])


def test_statuses_are_in_the_order_of_the_keys(store: Store) -> None:
    store.add([record(0), record(1, status="failed"), record(3, status="diverged")], 1)
    assert store.statuses([key(3), key(2), key(1), key(0)]) == ["diverged", "missing", "failed", "done"]


def test_like_finds_records_by_the_first_digits(store: Store) -> None:
    store.add([record(n) for n in range(30)], 1)
    prefix = key(7)[:3]
    assert {r.key for r in store.like(prefix)} == {k for k in keys(30) if k.startswith(prefix)}
    assert len(store.like("")) == 30
    assert store.like(key(31)) == []


def test_plans_are_replaced_by_name(store: Store) -> None:
    store.set_plan("b", "x", keys(2))
    store.set_plan("a", "x", [])
    store.set_plan("b", "y", keys(3))
    assert store.plans() == {"a": [], "b": keys(3)}


def test_timings_are_those_of_finished_trials_in_one_environment(store: Store) -> None:
    others = [record(1, environment="another"), record(2, status="failed"), record(3, status="diverged")]
    store.add([record(0), *others], 1)
    assert [trial for trial, _ in store.timings(HERE)] == [record(0)["trial"], record(3)["trial"]]


# --- earlier versions -------------------------------------------------------------------------------------------------

V1 = {
    "2e7237c448959cab60568c04d8305049d81208b92d1822a6503afa6b087c3d35": ("done", 0.1824303258433938),
    "679f0fb0ccef391f69fe3c178025c4aa5ee8ca5ecb1b5cdd979687629938610c": ("done", 0.4057708325088024),
    "7edf3638ebe144e2c18aef4f7c7b896d44ed9f4e41cfa4f7ba766e9d1dda74a2": ("diverged", None),
    "c8a74d5f0a41d749933018faa35a51e7a474ff6749a541678e7bb96f9b766891": ("failed", None),
    "383c1d42426d202a9aa65595bcbeac4746d304356c6cb6943c2a3b53072a8bca": ("timeout", None),
}
"""Status and test accuracy by key in stores/v1.db, made once by fake_driver.py and never regenerated."""


def test_store_of_version_1_is_read_and_continued(tmp_path: Path) -> None:
    copy = Path(shutil.copy(RECORDED / "v1.db", tmp_path / "store.db"))
    with closing(Store.open(copy)) as store:
        found, damaged = store.look_up(V1, "a fake machine")
        assert {k: (r.status, r.result.get("test_accuracy")) for k, r in found.items()} == V1
        assert damaged == []
        done = found[next(iter(V1))]
        assert done.trial == {"optimizer": {"name": "sgd", "lr": 0}, "seed": 0, "do": "ok"}
        assert done.history["test_loss"] == [0.0608101086144646] * 2
        assert (done.seconds, done.run["stack"], store.provenance(done.run_id)) == (0.25, 1, {"qsweep": "0.1.0"})
        assert store.plans() == {"fake": list(V1)}
        assert store.add([record(9)], 1) == []
        assert store.check().sound == len(V1) + 1


# --- a store from elsewhere -------------------------------------------------------------------------------------------

ELSEWHERE = {
    "an endless view": "DROP TABLE plans; CREATE VIEW plans(name, digest, keys) AS WITH RECURSIVE a(x) AS "
    "(SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT 'x', x, 'k' FROM a WHERE x < 0",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON records BEGIN DELETE FROM records WHERE id < NEW.id; END",
    "another table": "CREATE TABLE more (a)",
    "another column": "ALTER TABLE runs ADD COLUMN more TEXT",
    "an index with a function": "CREATE INDEX odd ON records (lower(key))",
}


@pytest.mark.parametrize("change", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_store_with_another_schema_is_refused_before_it_is_read(tmp_path: Path, change: str) -> None:
    path = tmp_path / "store.db"
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(change)
    for way in (Store.open, Store.view):
        with pytest.raises(UserError, match="is not a store of qsweep"):
            way(path)


def test_plans_that_are_not_text_and_provenance_that_is_not_a_mapping_are_handled(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(Store.open(path)) as store:
        run = store.begin_run({"a": 1})
        store.set_plan("x", "d", ["k"])
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("UPDATE plans SET keys = x'00'; UPDATE runs SET provenance = '[1]'")
    with closing(Store.view(path)) as store:
        assert store.provenance(run) == {}
        with pytest.raises(UserError, match="a plan is not text"):
            store.plans()


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
def test_store_that_is_a_symbolic_link_is_refused(tmp_path: Path, end: str) -> None:
    (tmp_path / f"store.db{end}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a symbolic link"):
        Store.open(tmp_path / "store.db")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("replaced", [False, True])
def test_store_deleted_while_it_is_open_accepts_no_more_records(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "store.db"
    with closing(Store.open(path)) as store:
        path.unlink()
        if replaced:
            path.write_bytes(b"")
        with pytest.raises(UserError, match="was deleted or replaced during this run"):
            store.begin_run({})
