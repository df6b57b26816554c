"""At how many bits, at which learning rate, with which rounding does training still work, and why does it stop?

    import qsweep

    sweep = qsweep.run("first.yaml")  # what `qsweep run first.yaml` does
    sweep.trials                      # the table, a pandas DataFrame
    sweep.plot()                      # its figures

Names are imported when they are first used: `import qsweep` loads neither torch nor NumPy nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qsweep.cli.api import Figures, Sweep, list_formats, load, run
    from qsweep.errors import Error
    from qsweep.formats import parse
    from qsweep.formats.packing import load_weights
    from qsweep.rounding import quantize

__version__ = "0.1.0"

__all__ = ["Error", "Figures", "Sweep", "list_formats", "load", "load_weights", "parse", "quantize", "run"]

_MODULES = {
    "Error": "errors",
    "Figures": "cli.api",
    "Sweep": "cli.api",
    "list_formats": "cli.api",
    "load": "cli.api",
    "load_weights": "formats.packing",
    "parse": "formats",
    "quantize": "rounding",
    "run": "cli.api",
}
"""Where each name comes from."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'qsweep' has no attribute {name!r}")
    return getattr(import_module(f"qsweep.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
