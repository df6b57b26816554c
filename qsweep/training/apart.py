"""Calls in a separate process: users' code runs there and leaves nothing behind.

A server process imports what the calls need, and runs no user code. It forks a child for each call, so that each
starts from the same clean state at once, waits for its result, and then ends all processes that the child has started.
So a call that crashes, exits, hangs or changes a global setting does not affect any other call, nor the caller.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import json
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import qsweep
from qsweep.models.imports import search_path

LENGTH = struct.Struct("!Q")
"""The header of each message: its length in bytes."""
PIECE = 1 << 20
LOOK_SECONDS = 0.1
"""How often the server checks whether a child has ended but left its pipe open."""
STOP_SECONDS = 5.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl.h
PROGRAM = """import sys, json; sys.path[:] = json.loads(sys.argv[1])
from qsweep.training.apart import serve; serve(int(sys.argv[2]), *sys.argv[3:])"""


class LostError(Exception):
    """A call returned no result: its process ended first, or the call raised an exception."""


class OutOfTimeError(Exception):
    """A call exceeded its time limit."""


# --- the caller -------------------------------------------------------------------------------------------------------


def call(function: Callable[..., Any], *given: Any, prepare: Callable[[], None], limit: float | None = None) -> Any:
    """Call a function in a separate process and return its result.

    Args:
        prepare: called once by the server, for all calls, to import what takes long. It must not start threads or run
            user code.
        limit: wall seconds, from when the server is ready.

    Raises:
        LostError: the process ended without a result.
        OutOfTimeError: it took longer than `limit`; it has been ended.
    """
    server = _server(prepare)
    is_over = False
    try:
        found = server.ask(pickle.dumps((function, given)), limit)
        is_over = True
    except (OSError, EOFError):
        raise LostError("the process that should run it has ended") from None
    finally:  # also when a signal's handler raises: the server ends what it has started
        if not is_over:
            _server.cache_clear()
            server.stop()
    is_good, value = pickle.loads(found)  # noqa: S301  # from our own child, through our own pipe
    if not is_good:
        raise LostError(value)
    return value


class _Server:
    def __init__(self, prepare: Callable[[], None]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = start_server(theirs.fileno(), prepare)
        self._is_ready = False

    def ask(self, request: bytes, limit: float | None) -> bytes:
        if not self._is_ready:
            _receive(self._socket, None)
            self._is_ready = True
        self._socket.settimeout(None)
        self._socket.sendall(LENGTH.pack(len(request)) + request)
        return _receive(self._socket, None if limit is None else time.monotonic() + limit)

    def stop(self) -> None:
        """End the server, which ends all that it has started."""
        self._socket.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start_server(descriptor: int, prepare: Callable[[], None]) -> subprocess.Popen[bytes]:
    """A new interpreter that serves, with the other end of a socket."""
    path = json.dumps([*search_path(), str(Path(qsweep.__file__).parent.parent)])
    command = [sys.executable, "-P", "-c", PROGRAM, path, str(descriptor), prepare.__module__, prepare.__name__]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[descriptor])


@cache
def _server(prepare: Callable[[], None]) -> _Server:
    """The server of this process, kept for later calls because it takes long to start."""
    server = _Server(prepare)
    atexit.register(server.stop)
    return server


def _receive(connection: socket.socket, deadline: float | None) -> bytes:
    """A whole message.

    Raises:
        EOFError: the other side has ended.
        OutOfTimeError: it did not come in time.
    """
    content = bytearray()
    wanted = LENGTH.size
    while len(content) < wanted:
        connection.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
        try:
            piece = connection.recv(PIECE)
        except TimeoutError:
            raise OutOfTimeError from None
        if not piece:
            raise EOFError
        content += piece
        if wanted == LENGTH.size and len(content) >= wanted:
            wanted += LENGTH.unpack_from(content)[0]
    return bytes(content[LENGTH.size :])


# --- the server -------------------------------------------------------------------------------------------------------


def serve(descriptor: int, module: str, prepare: str) -> None:
    """Answer calls until the caller has ended. It runs on one thread, so that it may fork."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal; the driver decides what is kept
    with suppress(OSError):
        os.dup2(2, 1)  # user code's output is not the command's output
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    getattr(importlib.import_module(module), prepare)()
    with socket.socket(fileno=descriptor) as connection, suppress(EOFError, OSError):
        connection.sendall(LENGTH.pack(0))  # ready
        while True:
            answer = _answer(connection, _receive(connection, None))
            connection.sendall(LENGTH.pack(len(answer)) + answer)


def _answer(connection: socket.socket, request: bytes) -> bytes:
    """A child's result, or how it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run(request, writing, connection)
    os.close(writing)
    ended = None
    try:
        found, ended = _collect(child, reading, connection)
    finally:
        os.close(reading)
        _end_family(child, is_reaped=ended is not None)
    if found is not None:
        return found
    return pickle.dumps((False, f"its process {_how(ended)}"))


def _collect(child: int, reading: int, connection: socket.socket) -> tuple[bytes | None, int | None]:
    """A child's whole result, None if there is none; and its wait status if it has ended.

    Raises:
        EOFError: the caller has ended.
    """
    os.set_blocking(reading, False)
    content = bytearray()
    status, is_open = None, True
    while status is None and not _is_whole(content):
        watched = [connection.fileno(), *([reading] if is_open else [])]
        ready, _, _ = select.select(watched, [], [], LOOK_SECONDS)
        if connection.fileno() in ready:
            raise EOFError  # a waiting caller sends nothing
        if not ready:
            status = _status(child)
        if is_open:
            is_open = _read_into(content, reading)
    return (bytes(content[LENGTH.size :]) if _is_whole(content) else None), status


def _status(child: int) -> int | None:
    """The wait status of a child; None while it runs."""
    found, status = os.waitpid(child, os.WNOHANG)
    return status if found else None


def _read_into(content: bytearray, reading: int) -> bool:
    """Read all that is in a pipe; returns whether more may come."""
    try:
        while piece := os.read(reading, PIECE):
            content += piece
    except BlockingIOError:
        return True
    return False


def _is_whole(content: bytearray) -> bool:
    return len(content) >= LENGTH.size and len(content) >= LENGTH.size + LENGTH.unpack_from(content)[0]


def _how(status: int | None) -> str:
    if status is None:
        return "ended"
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _end_family(child: int, *, is_reaped: bool) -> None:
    """End a child and all that it has started, including processes that have left its session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    if not is_reaped:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    while orphans := list(_children()):
        for orphan in orphans:
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(orphan, 0)


def _children() -> Iterator[int]:
    """This process's children; none on systems that do not list them."""
    with suppress(OSError):
        for path in Path("/proc/self/task").glob("*/children"):
            yield from map(int, path.read_text(encoding="ascii").split())


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


# --- the child --------------------------------------------------------------------------------------------------------


def _run(request: bytes, writing: int, connection: socket.socket) -> NoReturn:
    """Run one call and exit, whatever threads there are; forks of the call exit here too, without a result."""
    own = os.getpid()
    try:
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(connection.detach())
        answer = _called(request)
        if os.getpid() == own:
            _write(writing, LENGTH.pack(len(answer)) + answer)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # user code may have closed or replaced them
                stream.flush()
        os._exit(0)


def _called(request: bytes) -> bytes:
    try:
        function, given = pickle.loads(request)  # noqa: S301  # the caller's
        return pickle.dumps((True, function(*given)))
    except BaseException as error:  # user code may call sys.exit, which ends its process
        return pickle.dumps((False, f"{type(error).__name__}: {error}".removesuffix(": ")))


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
