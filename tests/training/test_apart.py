"""Calls in processes of their own: nothing that one does reaches another, or the caller."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import guest
import pytest

from qsweep.training import apart

pytestmark = pytest.mark.slow


def call(text: str, limit: float | None = None) -> Any:
    """The variable `found` that a text leaves, run as a guest."""
    return apart.call(guest.run, text, prepare=guest.prepare, limit=limit)


@pytest.fixture(scope="module")
def clean() -> dict[str, str]:
    found: dict[str, str] = apart.call(guest.state, prepare=guest.prepare)
    return found


def test_call_gives_what_the_function_gives(clean: dict[str, str]) -> None:
    assert call("found = {'a': [1.5, None], 'b': b'x' * 3_000_000}") == {"a": [1.5, None], "b": b"x" * 3_000_000}


SETTINGS = [
    "torch.set_default_dtype(torch.float64)",
    "torch.set_float32_matmul_precision('medium')",
    "torch.autograd.set_detect_anomaly(True)",
    "torch.use_deterministic_algorithms(True)",
    "torch.set_num_threads(3)",
    "torch.set_default_device('meta')",
    "torch.set_grad_enabled(False)",
    "torch._C._set_grad_enabled(False)",
    "torch.set_flush_denormal(True)",
    "torch.backends.mkldnn.enabled = False",
    "torch.manual_seed(12345)",
    "np.seterr(all='raise')",
    "np.set_printoptions(precision=2)",
    "warnings.simplefilter('error')",
    "os.environ['MKL_CBWR'] = 'SSE4_2'",
    "sys.path.insert(0, '/nowhere')",
    "sys.modules['json'] = None",
    "F.relu = lambda x: x",
    "torch.relu = None",
    "torch.nn.Linear.forward = None",
    "torch.nn.Module.zero_grad = None",
    "builtins.sum = max",
    "signal.signal(signal.SIGALRM, signal.SIG_IGN)",
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "os.umask(0o777)",
    "os.chdir('/')",
    "locale.setlocale(locale.LC_ALL, 'C')",
    "decimal.getcontext().prec = 3",
    "sys.setrecursionlimit(77_777)",
    "gc.disable()",
    "sys.stdout = None",
    "threading.settrace(print)",
    "resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))",
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_call_leaves_no_setting_to_the_next(setting: str, clean: dict[str, str]) -> None:
    changed = call(f"{setting}\nfound = guest.state()")
    assert changed != clean, "the test does not see this setting"
    assert apart.call(guest.state, prepare=guest.prepare) == clean


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("os._exit(7)", "ended with exit code 7"),
        ("os._exit(0)", "ended with exit code 0"),
        ("ctypes.string_at(0)", "was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("os.abort()", "was killed by SIGABRT"),
        ("os.closerange(3, 999); os._exit(3)", "ended with exit code 3"),
        ("sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class E(BaseException): ...\nraise E('so')", "E: so"),
        ("os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)", "has ended"),
    ],
)
def test_call_that_ends_its_process_is_lost_and_the_next_is_not(text: str, said: str) -> None:
    with pytest.raises(apart.LostError, match=said):
        call(text)
    assert call("found = 3") == 3


@pytest.mark.parametrize(
    "text", ["while True: pass", "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(10**6)"]
)
def test_call_that_does_not_end_is_ended(text: str) -> None:
    with pytest.raises(apart.OutOfTimeError):
        call(text, limit=0.5)
    assert call("found = 3") == 3


LEFT = {
    "a thread": "threading.Thread(target=time.sleep, args=(600,)).start()\nfound = os.getpid()",
    "a child": "found = subprocess.Popen(['sleep', '600']).pid",
    "a fork": "found = os.fork() or time.sleep(600)",
    "a daemon": "found = subprocess.Popen(['sleep', '600'], start_new_session=True).pid",
    "an orphan in a session of its own": """
r, w = os.pipe()
if not os.fork():
    os.setsid()
    pid = os.fork()
    if not pid:
        os.write(w, str(os.getpid()).encode())
        time.sleep(600)
    os._exit(0)
found = int(os.read(r, 20))
""",
}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not list children")
@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT)
def test_call_leaves_nothing_running(text: str) -> None:
    pid = call(text, limit=60)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_call_whose_fork_goes_on_gives_one_result() -> None:
    assert call("pid = os.fork()\ntime.sleep(0.3 if pid else 0)\nfound = 'child' if not pid else 'parent'") == "parent"
    assert call("found = 3") == 3


PROGRAM = """
import os, sys
sys.path[:] = {path!r}
import guest
from qsweep.training import apart
print("before", apart.call(guest.run, {text!r}, prepare=guest.prepare), flush=True)
"""


def start(text: str) -> subprocess.Popen[str]:
    program = PROGRAM.format(path=sys.path, text=text)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True)


def test_call_prints_on_stderr() -> None:
    process = start("print('hello', flush=True); os.write(1, b'raw'); os.system('echo shell'); found = 5")
    out, err = process.communicate(timeout=60)
    assert out == "before 5\n"
    assert all(word in err for word in ("hello", "raw", "shell"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no word for it")
def test_call_ends_with_its_caller(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    process = start(f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{os.getppid()}} ')\ntime.sleep(600)")
    while not (note.exists() and note.read_text().endswith(" ")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in note.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
