"""Runs in a separate process in tests: code like that of a user's file, and a snapshot of the state it may change."""

from __future__ import annotations

import builtins
import ctypes
import decimal
import gc
import hashlib
import importlib
import locale
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["builtins", "ctypes", "importlib", "subprocess", "time"]  # names that the code uses


def prepare() -> None:
    """Called first by the server, which only has to import this module."""


def run(text: str) -> Any:
    """Run code and return its variable `found`."""
    names: dict[str, Any] = {**globals(), "guest": sys.modules[__name__]}
    exec(text, names)  # noqa: S102  # code of the tests
    return names["found"]


def state() -> dict[str, str]:
    """The global state that code can change for later code in its process."""
    tensor = torch.full((3,), 1e-40, device="cpu", dtype=torch.float32)
    texts = {
        "dtype": torch.get_default_dtype(),
        "precision": torch.get_float32_matmul_precision(),
        "anomaly": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "denormal": (tensor * 1.0).tolist() if torch.relu is not None else "",
        "mkldnn": torch.backends.mkldnn.enabled,
        "torch's generator": digest(torch.get_rng_state().tolist()),
        "numpy's errors": np.geterr(),
        "numpy's print": np.get_printoptions(),
        "warnings": warnings.filters,
        "environment": sorted(os.environ.items()),
        "path": sys.path,
        "modules": sorted(name for name, module in sys.modules.items() if module is None),
        "functions": [f"{f.__module__}.{f.__qualname__}" if f else None for f in functions()],
        "signals": [str(signal.getsignal(number)) for number in signal.valid_signals()],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "folder": os.getcwd(),
        "umask": umask(),
        "locale": locale.setlocale(locale.LC_ALL),
        "decimal": decimal.getcontext().prec,
        "recursion": sys.getrecursionlimit(),
        "collector": (gc.isenabled(), gc.get_threshold()),
        "stdout": sys.stdout is None,
        "trace": threading.gettrace(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    }
    return {name: str(value) for name, value in texts.items()}


def functions() -> list[Any]:
    return [F.relu, torch.relu, torch.nn.Linear.forward, torch.nn.Module.zero_grad, builtins.sum]


def digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before
