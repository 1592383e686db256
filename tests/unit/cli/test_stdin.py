"""The thin client's input that breaks off."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from cli import stdin
from hostvm.agent import protocol


@pytest.mark.parametrize(
    ("fault", "terminal", "told"),
    [
        (errno.EIO, False, "hostvm: the input broke off: Input/output error\n"),
        (errno.EIO, True, ""),
        (errno.EBADF, False, ""),
    ],
    ids=["a file on a disk that fails", "a terminal that went away", "closed"],
)
@pytest.mark.skipif(sys.platform == "win32", reason="errors are in Windows' own words")
def test_what_could_not_be_read_to_its_end_is_told(monkeypatch, capsys, fault, terminal, told):
    sent, pieces = [], [b"first"]

    def read(descriptor, size):
        if pieces:
            return pieces.pop()
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(stdin.os, "read", read)
    monkeypatch.setattr(stdin.os, "isatty", lambda _: terminal)
    monkeypatch.setattr(stdin, "_wait_foreground", lambda _: None)
    stdin.InputPump(0, sent.append)._pump()
    assert sent == [protocol.frame(protocol.STDIN, b"first"), protocol.frame(protocol.STDIN_END)]
    assert capsys.readouterr().err == told


def test_a_terminal_that_cannot_be_told_either_still_ends_the_input(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "gone")

    sent = []
    monkeypatch.setattr(stdin.os, "read", refuse)
    monkeypatch.setattr(stdin, "_wait_foreground", lambda _: None)
    monkeypatch.setattr(stdin.sys, "stderr", type("Gone", (), {"write": refuse})())
    stdin.InputPump(0, sent.append)._pump()
    assert sent == [protocol.frame(protocol.STDIN_END)]
