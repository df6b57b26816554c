"""Looked at by `make` before anything is installed: is there what the installation needs, and how big will it be?

Runs as a file, on any Python, with nothing installed; imports nothing of qsweep.
"""

import importlib.util
import os
import shutil
import sys

OLDEST = (3, 11)
DISK_GB = 7.0
SIZE = "6 GB" if sys.platform == "linux" else "1.5 GB"


def problems(folder: str) -> "list[str]":
    """What is missing, each with the command that mends it."""
    found = []
    if sys.version_info < OLDEST:
        here = ".".join(map(str, sys.version_info[:2]))
        found.append("this is Python %s, qsweep needs 3.11 or newer: make run PYTHON=python3.12" % here)
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        found.append("this Python can't make virtual environments: sudo apt-get install python3-venv")
    free = shutil.disk_usage(folder).free / 1e9
    if free < DISK_GB:
        message = "%.1f GB are free in %s, %.0f are needed: free some, or use an environment that has torch"
        found.append((message + " (make run PYTHON=path/to/its/python)") % (free, os.path.abspath(folder), DISK_GB))
    return found


def main() -> None:
    """Say what will be installed, or what keeps it from being installed."""
    found = problems(".")
    if found:
        sys.exit("\n".join(found))
    print("installing qsweep with PyTorch into .venv: about %s on disk, a few minutes" % SIZE, flush=True)


if __name__ == "__main__":
    main()
