"""Run by `make` before it installs anything: checks that the installation can succeed, and prints its size.

Runs as a script on any Python with nothing installed, so it imports nothing from qsweep.
"""

import importlib.util
import os
import shutil
import sys

OLDEST = (3, 11)
DISK_GB = 7.0
SIZE = "6 GB" if sys.platform == "linux" else "1.5 GB"


def problems(folder: str) -> "list[str]":
    """The missing requirements, each with the command that fixes it."""
    found = []
    if sys.version_info < OLDEST:
        here = ".".join(map(str, sys.version_info[:2]))
        found.append("this is Python %s, qsweep needs 3.11 or newer: make run PYTHON=python3.12" % here)
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        found.append("this Python can't make virtual environments: sudo apt-get install python3-venv")
    free = shutil.disk_usage(folder).free / 1e9
    if free < DISK_GB:
        message = "%.1f GB are free in %s, %.0f are needed: free some space, or use an environment that has torch"
        found.append((message + " (make run PYTHON=path/to/its/python)") % (free, os.path.abspath(folder), DISK_GB))
    return found


def main() -> None:
    """Print what will be installed, or exit with what prevents it."""
    found = problems(".")
    if found:
        sys.exit("\n".join(found))
    print("installing qsweep with PyTorch into .venv: about %s on disk, a few minutes" % SIZE, flush=True)


if __name__ == "__main__":
    main()
