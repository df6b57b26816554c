"""Peak memory of a worker with a full stack of 16 on MNIST, including evaluation."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from qsweep.data.catalog import DATASETS
from qsweep.data.files import data_folder, ensure
from qsweep.spec.file import read
from qsweep.spec.plan import expand
from qsweep.training.job import Job

SCALE = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    """Train one stack and print the peak memory of this process."""
    ensure(DATASETS["mnist"], data_folder(), print)
    spec = read(Path(__file__).parent.parent / "configs" / "lr_bitwidth.yaml")
    trials = [trial.settings for trial in expand(spec).trials[:16]]
    records = Job({}, data_folder(), "cpu")(trials)
    assert all(record["status"] == "done" for record in records)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * SCALE
    print(f"a worker with MNIST and a stack of {len(trials)}: {peak / 1e6:.0f} MB at most")


if __name__ == "__main__":
    main()
