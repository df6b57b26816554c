"""`python -m qsweep` is `qsweep`."""

from qsweep.cli.main import main

main()
