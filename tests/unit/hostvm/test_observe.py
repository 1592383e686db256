"""What `hostvm status` says of what a machine's agent tells."""

from __future__ import annotations

import pytest

from hostvm.machines.observe import Observation
from hostvm.paths import MachinePaths


@pytest.mark.parametrize("why", ["none of arm64: the mirror is not reached", ""])
def test_an_emulator_that_could_not_be_brought_is_told(why):
    seen = Observation(MachinePaths.of("box"), agent={"services": {"emulators": {"arch": "arm64", "why": why}}})
    assert dict(seen.lines()).get("emulators", "") == why
