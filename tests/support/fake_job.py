"""A job without torch: a trial's settings define its outcome, and every call is logged to a file.

It is a separate module, so that worker processes can import it, with few imports, so that they start fast.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qsweep.trial.key import Trial

ENVIRONMENT = "a fake machine"


def trial(number: int, do: str = "ok", **settings: Any) -> Trial:
    """A trial whose outcome is `do`; trials with the same `do` and settings stack."""
    from qsweep.trial.key import Trial

    given = {"optimizer": {"name": "sgd", "lr": number}, "seed": 0, "do": do, **settings}
    return Trial(given, {"lr": number}, key_of(given))


def key_of(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def run(trials: Sequence[Mapping[str, Any]], inputs: Sequence[bytes] = (), *, folder: str) -> list[dict[str, Any]]:
    """The job."""
    log(folder, "calls", str(len(trials)))
    for settings in trials:
        log(folder, "ran", key_of(settings))
    for settings in trials:
        BEFORE.get(settings.get("do", "ok"), nothing)(settings, trials, Path(folder))
    return [record(settings, stack=len(trials)) for settings in trials]


def record(settings: Mapping[str, Any], stack: int = 1, **changed: Any) -> dict[str, Any]:
    """The record of a trial, with numbers of many digits that depend only on its settings."""
    status = STATUSES.get(settings.get("do", "ok"), "done")
    number = int(key_of(settings)[:8], 16) / 2**32 + 0.001
    metrics = {"test_accuracy": number, "test_loss": number / 3, "train_accuracy": number / 7, "train_loss": None}
    return {
        "key": key_of(settings),
        "environment": ENVIRONMENT,
        "trial": settings,
        "status": status,
        "reason": "" if status == "done" else f"{status} on purpose",
        "result": metrics if status == "done" else {},
        "history": [{"stage": 0, "epoch": epoch, **metrics} for epoch in (1, 2)] if status == "done" else [],
        "run": {"seconds": 0.25, "stack": stack, "threads": 1, "device": "cpu"},
        **changed,
    }


STATUSES = {"fail": "failed", "time out": "timeout", "diverge": "diverged"}


def nothing(settings: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], folder: Path) -> None:
    time.sleep(settings.get("seconds", 0))


def do_raise(settings: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], folder: Path) -> None:
    raise ValueError("broken on purpose")


def do_exit(settings: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], folder: Path) -> None:
    sys.exit(7)


def do_kill(settings: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], folder: Path) -> None:
    time.sleep(0.05)  # others are in flight by now
    os.kill(os.getpid(), signal.SIGKILL)


def do_kill_in_stack(settings: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], folder: Path) -> None:
    if len(trials) > 1:
        do_kill(settings, trials, folder)


def do_kill_once(settings: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], folder: Path) -> None:
    seen = folder / f"killed {key_of(settings)}"
    if not seen.exists():
        seen.touch()
        do_kill(settings, trials, folder)


def do_wait(settings: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Wait until the test creates the file `go`."""
    while not (folder / "go").exists():
        time.sleep(0.01)


BEFORE: dict[str, Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]], Path], None]] = {
    "raise": do_raise,
    "exit": do_exit,
    "kill": do_kill,
    "kill in stack": do_kill_in_stack,
    "kill once": do_kill_once,
    "wait": do_wait,
}


def log(folder: str, name: str, line: str) -> None:
    """Append a line in one write, so that lines of concurrent processes don't mix."""
    file = os.open(Path(folder) / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, f"{line} {os.getpid()}\n".encode())
    finally:
        os.close(file)


def lines(folder: Path, name: str) -> list[str]:
    """The logged lines, without process ids."""
    path = folder / name
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


# --- for tests of executors -------------------------------------------------------------------------------------------


def most_memory() -> float:
    """The memory growth that loky allows a worker."""
    from joblib.externals.loky import process_executor

    return float(process_executor._MAX_MEMORY_LEAK_SIZE)


def double(number: int) -> int:
    return 2 * number


def fail(error: type[BaseException]) -> None:
    raise error("on purpose")


def kill_yourself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
