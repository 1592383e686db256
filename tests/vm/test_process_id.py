"""Real processes, and their ends."""

from __future__ import annotations

import os
import sys

import pytest

from hostvm import process, process_id

pytestmark = pytest.mark.vm


def test_killing_it(tmp_path):
    started = process.spawn_detached([sys.executable, "-c", "import time; time.sleep(99)"], tmp_path / "log")
    assert process_id.is_alive(started)
    assert not process_id.wait_gone(started, 0.1)
    assert process_id.kill(started)
    assert not process_id.is_alive(started)
    assert process_id.kill(started)


@pytest.mark.skipif(sys.platform != "linux", reason="how Linux ends a process")
def test_one_whose_first_thread_is_dead_lives_while_another_holds_its_files(half_dead):
    """As for a moment after a kill, when the disk's lock is held still."""
    identity = process_id.identify(half_dead.pid)
    assert process_id.is_alive(identity)
    assert process_id.is_ending(half_dead.pid)
    assert not process_id.is_ending(os.getpid())
    assert not process_id.wait_gone(identity, 0.2)
    half_dead.communicate(b"\n")
    assert process_id.wait_gone(identity, 10)
    assert not process_id.is_alive(identity)
    assert not process_id.is_ending(half_dead.pid)
