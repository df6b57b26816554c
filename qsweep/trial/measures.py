"""The measures of a trial and their columns in tables: metrics, statistics of rounding, and sizes."""

from __future__ import annotations

from collections.abc import Collection

from qsweep.trial.roles import KEPT, PLURALS, ROLES

NOT_ROUNDED = "not_rounded"
"""What a trial's roles name but nothing in its net rounds; the column is left out if empty."""
METRICS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
WHY = ("clipped", "zero", "levels", "stalled")
"""What is reported for each quantized role, in columns such as `weight_stalled`: the fraction of values out of range
before rounding; for stored values the fraction that is 0, for others the fraction of non-zero values that became 0;
the number of distinct values; and, for stored values, the fraction of non-zero updates that did not change the stored
code."""
WHY_OF_FLOWS = WHY[:3]
CLASSES = "predicted_classes"
"""How many distinct classes the net predicts on the test set."""


def why_columns(roles: Collection[str]) -> tuple[str, ...]:
    """The columns that say why trials learn or don't, for the roles that some of them quantize."""
    parts = {role: WHY if role in KEPT else WHY_OF_FLOWS for role in ROLES if role in roles}
    return (*(f"{role}_{part}" for role, own in parts.items() for part in own), CLASSES)


MODEL_BITS = "model_bits"
STORED_AS = "stored"
"""In a record's `run`: the formats, by name, of the parameters that training keeps rounded."""
SIZES = (MODEL_BITS, "compressed_bytes")
"""The size of a model: the bits of all its parameters (codes, scales and levels where they are quantized), and
the bytes of the exported file of a compressed one."""
MEASURES = (*METRICS, *SIZES, *why_columns(ROLES))
"""All measures in trials.csv."""
SECONDS = "seconds"
"""The measure in timings.csv."""
DRAWN = (*MEASURES, SECONDS)
"""All measures that can be plotted."""
SHARES = ("accuracy", "clipped", "zero", "stalled")
"""Suffixes of measures that are fractions, plotted in per cent."""


def _why_labels(role: str) -> dict[str, str]:
    return {
        f"{role}_clipped": f"{PLURALS[role]} clipped",
        f"{role}_zero": f"{PLURALS[role]} at 0",
        f"{role}_levels": f"levels that {PLURALS[role]} use",
        f"{role}_stalled": f"{role} updates lost to rounding",
    }


LABELS = {
    "test_accuracy": "test accuracy",
    "train_accuracy": "training accuracy",
    "test_loss": "test loss",
    "train_loss": "training loss",
    **{column: label for role in ROLES for column, label in _why_labels(role).items()},
    CLASSES: "classes predicted",
    MODEL_BITS: "bits of all parameters",
    "compressed_bytes": "bytes of the packed model",
    SECONDS: "seconds per trial",
}
"""Descriptions of all measures."""


def is_share(measure: str) -> bool:
    """Whether a measure is a fraction."""
    return measure.endswith(SHARES)
