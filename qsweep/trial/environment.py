"""The environment: all besides the trial that determines its bits. Detected without importing torch."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

from qsweep.errors import UserError

AVX512 = {"avx512f", "avx512vl", "avx512bw", "avx512dq", "fma"}
AVX2 = {"avx2", "fma"}
CAPABILITIES = {"default": "DEFAULT", "avx2": "AVX2", "avx512": "AVX512"}
"""Values of ATEN_CPU_CAPABILITY that torch accepts, in exactly this spelling."""

DEVICES = ("auto", "cpu", "cuda")

MKL_MODE = "MKL_CBWR"
"""The variable that chooses MKL's code path; MKL reads it once, at its first matrix product."""
ALIGNMENT_FREE = "AUTO,STRICT"
"""The fastest path whose bits do not depend on where operands lie in memory. By default they do on some CPUs (AMD Zen
5): trial i of a stack starts at i × rows × columns × 4 bytes, so results would depend on its position in the stack. See
qsweep.training.matrix_products for vectors."""


def fix_products() -> None:
    """Make MKL's products independent of alignment, in this process and in those that it starts.

    Call it before torch is imported: afterwards it has no effect, and `describe` shows this. A value set by the user is
    kept, and makes another environment.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(MKL_MODE, ALIGNMENT_FREE)


@contextmanager
def as_in_workers(backend: str) -> Iterator[None]:
    """Describe, and pass on, MKL's mode in the processes in which a backend trains.

    In a program that has already imported torch, the mode can no longer be set for trials that train in this process
    (`serial`), which then have another environment. Workers always have it.
    """
    fix_products()
    before = os.environ.get(MKL_MODE)
    if backend != "serial":
        os.environ.setdefault(MKL_MODE, ALIGNMENT_FREE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(MKL_MODE, None)


def describe(device: str) -> str:
    """The environment on a device: its model, CPU capability, torch version, MKL's mode. Never host, user or path."""
    return _described(device, os.environ.get(MKL_MODE, ""))


@cache
def _described(device: str, mkl_mode: str) -> str:
    torch = f"torch {version('torch')}"
    if device == "cuda":
        return f"{_gpu_model()}; {torch}"
    return "; ".join(filter(None, (_cpu_model(), _capability(), torch, _products(mkl_mode))))


def check_variables() -> None:
    """Refuse a variable under which kernels would run in Python, slowly and with other bits.

    Raises:
        UserError: NUMBA_DISABLE_JIT is set.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise UserError("NUMBA_DISABLE_JIT is set, and the kernels that training needs must be compiled: unset it")


def _products(mode: str) -> str:
    """MKL's mode; nothing if torch has no MKL, as on Arm."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ""
    return f"{MKL_MODE}={_printable(mode)}"


def _printable(value: str) -> str:
    """A user's value with unusual characters replaced, for records; MKL's modes have no others."""
    return re.sub(r"[^A-Za-z0-9_,.]", "?", value)[:40]


def choose(device: str) -> str:
    """Resolve `auto`: cuda if there is a GPU, else cpu.

    Raises:
        UserError: cuda was asked for and there is none.
    """
    if device == "auto":
        return "cuda" if _has_gpu() else "cpu"
    if device == "cuda" and not _has_gpu():
        raise UserError(
            "--device cuda: no NVIDIA GPU answers here (nvidia-smi finds none), or this torch is built without CUDA; "
            "leave --device out, or use --device cpu"
        )
    return device


def _has_gpu() -> bool:
    return bool(_gpu_model()) and not version("torch").endswith("+cpu")


@cache
def _cpu_info() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in first.splitlines())}


def _cpu_model() -> str:
    info = _cpu_info()
    if "model name" in info:
        return f"{info['model name']} ({info.get('cpu family', '?')}-{info.get('model', '?')})"
    arm = [info[name] for name in ("CPU implementer", "CPU part") if name in info]
    return " ".join(filter(None, (platform.system(), platform.machine(), *arm)))


def _capability() -> str:
    """The instruction set of torch's kernels, by torch's own rule (ATEN_CPU_CAPABILITY overrides it)."""
    flags = set(_cpu_info().get("flags", "").split())
    found = "AVX512" if flags >= AVX512 else "AVX2" if flags >= AVX2 else "DEFAULT"
    return CAPABILITIES.get(os.environ.get("ATEN_CPU_CAPABILITY", ""), found)


@cache
def _gpu_model() -> str:
    """The name of the first GPU that this process may use, or nothing."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "" or visible == "-1":
        return ""
    first = re.split(r"[,\s]", visible)[0] if visible else "0"
    command = ["nvidia-smi", f"--id={first}", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
