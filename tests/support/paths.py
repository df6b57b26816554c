"""Where the tests find what lies in the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
RECORDED = ROOT / "tests" / "recorded"
"""What other programs gave, and a store of an older version."""
SUPPORT = ROOT / "tests" / "support"
