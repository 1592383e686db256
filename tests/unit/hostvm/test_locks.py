"""Who is told to hold a machine's lock."""

from __future__ import annotations

import sys

import pytest

from hostvm.errors import MachineError
from hostvm.locks import machine_lock
from hostvm.paths import MachinePaths


def told_of(paths: MachinePaths) -> str:
    with pytest.raises(MachineError, match="machine box is busy") as caught, machine_lock(paths, 0.01):
        pytest.fail("both have it")
    return caught.value.details


@pytest.mark.parametrize(
    ("words", "told"),
    [(["stop", "box"], ": stop box has"), (["cp", "\udcff", "box:/"], r": cp \udcff box:/ has"), ([], ": hostvm has")],
)
def test_who_waits_is_told_the_words_of_who_has_it_be_they_utf_8_or_not(monkeypatch, words, told):
    monkeypatch.setattr(sys, "argv", ["hostvm", *words])
    with machine_lock(MachinePaths.of("box")):
        assert told in told_of(MachinePaths.of("box"))


def test_a_holder_who_is_not_written_yet_or_left_a_moment_ago_is_another_process(monkeypatch):
    paths = MachinePaths.of("box")
    holder = paths.lock.with_suffix(".holder")
    with machine_lock(paths):
        holder.write_bytes(b"")
        assert told_of(paths).startswith("another process has")
        holder.write_bytes(b"process 1: \xff")
        assert told_of(paths).startswith("process 1: \ufffd has")
        holder.unlink()
        monkeypatch.setattr(type(holder), "exists", lambda _: True)
        assert told_of(paths).startswith("another process has")
