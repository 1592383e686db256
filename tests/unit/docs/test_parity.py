"""docs/parity.md names tests: each must exist, or the page tells of checks that nobody makes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_test_named_there_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/parity.md").read_text(encoding="utf-8")))
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) > 50
    assert sorted(named - defined) == []
