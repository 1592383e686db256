"""An agent keeps the console of its guest short."""

from __future__ import annotations

import os

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.agent import console as module
from hostvm.agent.console import ConsoleKeeper
from hostvm.drivers.consoles import CONSOLE_MOST, previous_console


@pytest.fixture
def console(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.01)
    return tmp_path / "console.log"


@pytest.fixture
def log(console):
    lines = []
    keeper = ConsoleKeeper(console, lines.append)
    yield lines
    keeper.close()


def test_a_guest_that_says_much_does_not_fill_the_disk(console, log):
    with console.open("ab", buffering=0) as guest:
        for number in range(1, 4):
            os.truncate(console, CONSOLE_MOST)  # sparse
            guest.write(b"words\n")
            until(lambda wanted=number: len(log) == wanted)
            assert console.stat().st_size < 200
            assert previous_console(console).read_bytes().endswith(b"\0words\n")


def test_one_that_cannot_be_cut_is_told_once_and_tried_again(console, log, monkeypatch):
    tried = []

    def refuse(path):
        tried.append(path)
        raise PermissionError(13, "The process cannot access the file")

    monkeypatch.setattr(module, "cut_console", refuse)
    until(lambda: len(tried) > 2)
    assert log == ["the guest's console cannot be cut: [Errno 13] The process cannot access the file"]
