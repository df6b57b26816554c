"""A whole run compared with its training alone: trials × (118 stacked steps + one test evaluation) ÷ cores.

Workers have imported torch before the clock starts; everything else is included: planning, data, stacks, commits,
tables. Part of configs/lr_bitwidth.yaml (two learning rates: 34 trials) runs in an empty folder each time; `--whole`
runs all 255 trials once.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from measure import as_a_worker, seconds, spread
from step import course

from qsweep.cli.progress import Display
from qsweep.runner import sweep
from qsweep.runner.backends import default_workers
from qsweep.runner.outlook import Options
from qsweep.training.course import Totals

CONFIG = Path(__file__).parent.parent / "configs" / "lr_bitwidth.yaml"
STEPS, N = 8, 5


def floor_seconds() -> float:
    """Seconds per trial of 118 stacked steps and a test evaluation, in a stack of 16 on one core."""
    running = course(16, 512)
    batches, totals = list(running.batches(1)), Totals(16)

    def steps() -> None:
        for chosen in batches[:STEPS]:
            running.train_step(chosen, totals)

    steps()
    step = statistics.median(seconds(steps) for _ in range(N)) / STEPS
    evaluation = statistics.median(seconds(running.evaluate) for _ in range(N))
    return (118 * step + evaluation) / 16


def run(overrides: tuple[str, ...]) -> tuple[float, int]:
    """Wall seconds and number of trials of one run in an empty folder."""
    with tempfile.TemporaryDirectory() as name, Display() as display:
        options = Options(results=Path(name), workers=default_workers(), overrides=overrides, plot=False)
        trained: list[int] = []
        spent = seconds(lambda: trained.append(_trained(options, display)))
    return spent, trained[0]


def _trained(options: Options, display: Display) -> int:
    return sum(sweep.run(CONFIG, options, display, lambda ahead: None).summary.statuses.values())


def main() -> None:
    """Start the workers, then run n times, with the floor measured before each."""
    as_a_worker()
    whole = "--whole" in sys.argv
    run(("lr=[1]", "bitwidth=[8, 4]", "data=digits"))
    ratios = []
    for _ in range(1 if whole else N):
        floor = floor_seconds()
        spent, trials = run(() if whole else ("lr=[1, 0.0625]",))
        ratios.append(spent / (trials * floor / default_workers()))
        print(f"{trials} trials in {spent:.1f} s; training alone takes {floor:.3f} s per trial", flush=True)
    print(f"the whole run ÷ its training on {default_workers()} cores: {spread(ratios)}")


if __name__ == "__main__":
    main()
