"""The guest's script that sets its clock, with a `date` that sets none."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import pytest

from hostvm.clock.reading import _SCRIPT

LATE_DATE = """#!/bin/bash
# Begins late, as in a guest without memory; what it would set is told, and when.
/bin/sleep 0.5
before=$EPOCHREALTIME there=$(/bin/date -d "$2" +%s.%N)
echo "$1 $before $there $EPOCHREALTIME" > told
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the guest is Linux")
@pytest.mark.parametrize("shift", [5_250_000, -5_250_000, 30_001, -21_000, -86_400_000_000, 31_536_000_000_007])
def test_a_date_that_begins_late_sets_the_clock_by_what_was_asked_for(tmp_path, shift):
    (tmp_path / "date").write_text(LATE_DATE)
    (tmp_path / "date").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/bin", "LC_ALL": "C", "TZ": "UTC0"}
    words = ["/bin/bash", "-c", _SCRIPT]
    done = subprocess.run(
        words, check=False, input=f"shift {shift}\n".encode(), env=env, cwd=tmp_path, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    word, before, there, after = (tmp_path / "told").read_text().split()
    assert word == "-s"
    assert Decimal(before) <= Decimal(there) - Decimal(shift) / 1_000_000 <= Decimal(after)
