"""Compiled kernels: how they come to be. What they compute is compared in test_rounding and training/test_optimizers."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
from numba import njit

from qsweep import kernels
from qsweep.kernels.compiled import compiled


def function() -> Any:
    """A function whose source lies in no file, so that numba finds no folder to keep its code in."""
    scope: dict[str, Any] = {}
    exec("def function(w):\n    w[0] = w[0] + w[1]\n", scope)  # noqa: S102  # a text of our own
    return scope["function"]


def test_compiled_works_where_no_folder_can_keep_the_code() -> None:
    with pytest.raises(RuntimeError):
        njit(function(), cache=True)
    w = np.array([1, 2], dtype=np.float32)
    compiled(function())(w)
    assert w.tolist() == [3, 2]


def test_kernels_are_not_compiled_with_fast_math() -> None:
    """It would let the compiler reorder sums and take NaN and the sign of 0 for impossible."""
    modules = [importlib.import_module(f"qsweep.kernels.{each.name}") for each in iter_modules(kernels.__path__)]
    found = [value for module in modules for value in vars(module).values() if hasattr(value, "targetoptions")]
    assert len(found) >= 20
    assert not any(kernel.targetoptions.get("fastmath") for kernel in found)


def test_code_that_is_kept_is_compiled_anew_when_what_it_calls_has_changed(tmp_path: Path) -> None:
    """Though the size and date of its own file are as before; else another process finds it, also under a NamedTuple."""
    package = tmp_path / "qsweep"
    ours = Path(kernels.__file__).parent
    shutil.copytree(ours, package / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").write_text("")
    code = "\n".join(
        (
            "import numpy as np, qsweep.kernels.activations as a, qsweep.kernels.qtorch as q",
            "x, one = np.zeros(3, np.float32), np.ones(1, np.int64)",
            "a.relu(x, np.zeros(3, bool))",
            "q.to_floating(x[None], x[:0], 0, q.Floatings(one, one, one))",
            "print(sum(sum(kernel.stats.cache_hits.values()) for kernel in (a.relu, q.to_floating)))",
        )
    )

    def hits() -> int:
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert [hits(), hits()] == [0, 2]
    with (package / "kernels" / "rounding.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert [hits(), hits()] == [0, 2]
