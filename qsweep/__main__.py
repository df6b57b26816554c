"""`python -m qsweep` is `qsweep`."""

from qsweep.cli import main

main()
