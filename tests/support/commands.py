"""Runs `qsweep` commands without start-up time: a server that has imported torch forks a process for each."""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from paths import ROOT

from qsweep.models.imports import search_path
from qsweep.training import apart

LIMIT = 300.0
"""Timeout of a command in seconds."""


READ_LATE = {"QSWEEP_DATA", "QSWEEP_OFFLINE", "COLUMNS", "PYTEST_CURRENT_TEST"}
"""Environment variables that libraries do not read during import."""


def qsweep(folder: Path, environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, like `python -m qsweep`, and wait for it.

    Other environment variables need a new interpreter, as do tests of signals or closed streams.
    """
    if {name for name, _ in environment.items() ^ os.environ.items()} - READ_LATE:
        return subprocess.run(
            [sys.executable, "-m", "qsweep", *words], cwd=folder, env=environment, capture_output=True, text=True,
            timeout=LIMIT, check=False,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        streams = [Path(scratch, name) for name in ("out", "err")]
        code = apart.call(_run, folder, dict(environment), words, *streams, prepare=prepare, limit=LIMIT)
        out, err = (path.read_text(encoding="utf-8") for path in streams)
    return subprocess.CompletedProcess(words, code, out, err)


PRELOADED = (
    *("pandas", "matplotlib.pyplot", "torchvision", "qsweep.cli.main", "qsweep.cli.report", "qsweep.cli.table"),
    *("qsweep.runner.export", "qsweep.training.stages"),
)


def prepare() -> None:
    for name in PRELOADED:
        importlib.import_module(name)


class Server:
    """A server of users' code that is forked here, since a new interpreter would import torch again."""

    def __init__(self, descriptor: int, prepare: Callable[[], None]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.closerange(3, descriptor)
            os.closerange(descriptor + 1, 256)
            sys.path[:] = [*search_path(), str(ROOT)]
            sys.argv = ["-c"]
            try:
                apart.serve(descriptor, prepare.__module__, prepare.__name__)
            finally:
                os._exit(0)

    def wait(self, timeout: float | None = None) -> None:
        deadline = time.monotonic() + (timeout or LIMIT)
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("server", timeout or LIMIT)
            time.sleep(0.01)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _run(folder: Path, environment: dict[str, str], words: tuple[str, ...], out: Path, err: Path) -> int:
    import qsweep.cli.main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    sys.path[:] = [
        str(folder),
        *(place for place in sys.path if ROOT not in Path(place).parents or "site-packages" in place),
    ]
    sys.argv = [str(Path(qsweep.__file__).with_name("__main__.py")), *words]
    apart.start_server = Server
    try:
        qsweep.cli.main.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:  # like an interpreter at exit
        threading._shutdown()
        atexit._run_exitfuncs()
