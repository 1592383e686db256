"""The agent's log: what it keeps, and that a disk that takes nothing ends nobody who logs."""

from __future__ import annotations

import contextlib
import os
import stat
import sys

import pytest

from hostvm.agent.log import AgentLog
from hostvm.agent.loop import Loop


def test_lines_and_turning_over(tmp_path):
    path = tmp_path / "agent.log"
    log = AgentLog(str(path), most=200)
    log("one")
    log("two\nlines")
    assert "two\n    lines\n" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    log("x" * 300)
    log("after")
    assert "after" in path.read_text()
    assert "one" not in path.read_text()
    assert "one" in (tmp_path / "agent.log.1").read_text()


def test_what_is_no_text_of_utf8_is_written_all_the_same(tmp_path):
    path = tmp_path / "agent.log"
    AgentLog(str(path))("caf\udce9 é")
    assert path.read_text(encoding="utf-8").endswith(" caf? é\n")


@contextlib.contextmanager
def no_file_beyond(size):
    """Stands for a full disk: the kernel writes up to there, then refuses."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit to set")
def test_a_full_disk_is_no_error_and_what_is_missing_is_told(tmp_path):
    path = tmp_path / "agent.log"
    log = AgentLog(str(path))
    log("before")
    begun = path.read_bytes()
    with no_file_beyond(len(begun) + 10):
        for number in range(3):
            log(f"meanwhile {number}")
    log("after")
    lines = path.read_text().splitlines()
    assert lines[0].endswith("before")
    assert len(lines[1]) == 10, "half a line is not gone on with"
    assert lines[2].endswith(" lines that could not be written here: 3")
    assert lines[3].endswith(" after")
    assert len(lines) == 4, "nothing was kept in a buffer"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")  # noqa: PTH110
def test_a_full_disk_does_not_end_the_ports_thread():
    loop = Loop("ports", AgentLog("/dev/full"))
    done = []
    loop.call(lambda: 1 / 0)
    loop.call_and_wait(lambda: done.append(True))
    loop.close()
    assert done == [True]


def test_a_file_that_cannot_be_turned_over_is_opened_again(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "agent.log"
    log = AgentLog(str(path), most=200)
    path.unlink()
    folder.rmdir()
    log("x" * 300)
    log("its folder is gone")
    folder.mkdir()
    log("it is back")
    assert path.read_text().endswith(" it is back\n")
    assert "could not be written here: 1" in path.read_text()
