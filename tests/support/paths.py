"""Paths in the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
RECORDED = ROOT / "tests" / "recorded"
"""Recorded output of other programs, and a store of an older version."""
SUPPORT = ROOT / "tests" / "support"
