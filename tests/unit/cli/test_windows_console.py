"""Windows' console, with its functions replaced: what it is set to, and how it is read."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from types import SimpleNamespace

import pytest

from cli import session, stdin, terminal
from hostvm.agent import protocol

LINE, OUTPUT, VT = 0x2, 0x3, 0x4
ABORTED = 995


class Console:
    """kernel32 of a computer in the West: descriptors 0 to 2 are consoles, 3 is a file."""

    def __init__(self):
        self.modes = {0: LINE, 1: OUTPUT, 2: OUTPUT}
        self.page = 437
        self.typed = []  # UTF-16 as it comes; an empty one is Ctrl-C
        self.fault = 0
        self.GetConsoleMode, self.SetConsoleMode, self.ReadConsoleW = self.get_mode, self.set_mode, self.read
        self.GetConsoleOutputCP, self.SetConsoleOutputCP = self.get_page, self.set_page

    def get_mode(self, handle, place):
        place._obj.value = self.modes.get(handle.value or 0, 0)
        return (handle.value or 0) in self.modes

    def set_mode(self, handle, mode):
        self.modes[handle.value or 0] = mode
        return 1

    def get_page(self):
        return self.page

    def set_page(self, page):
        self.page = page
        return 1

    def read(self, handle, buffer, size, count, _):
        units = self.typed.pop(0)
        self.fault = 0 if units else ABORTED
        assert len(units) <= 2 * size
        ctypes.memmove(buffer, units, len(units))
        count._obj.value = len(units) // 2
        return 1


@pytest.fixture
def console(monkeypatch):
    fake = Console()
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: fake, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: fake.fault, raising=False)
    monkeypatch.setattr(ctypes, "set_last_error", lambda _: None, raising=False)
    monkeypatch.setitem(
        sys.modules, "msvcrt", SimpleNamespace(get_osfhandle=lambda number: number, setmode=lambda *_: None)
    )
    made = importlib.util.spec_from_file_location("cli.terminal", terminal.__file__)
    module = importlib.util.module_from_spec(made)
    with monkeypatch.context() as there:
        there.setattr(sys, "platform", "win32")
        there.setattr("os.O_BINARY", 0x8000, raising=False)
        made.loader.exec_module(module)
    monkeypatch.setattr("os.O_BINARY", 0x8000, raising=False)
    monkeypatch.setitem(sys.modules, "cli.terminal", module)
    for user in (session, stdin):
        monkeypatch.setattr(user, "sys", SimpleNamespace(platform="win32"))
    return fake


def test_what_the_guest_writes_is_utf8_and_in_colour_without_a_terminal_in_the_guest_too(console):
    """`docker ps` has an ellipsis in it, and nobody asked for a terminal."""
    undo = []
    session.Session(SimpleNamespace(read_ahead=lambda: None), None, tty=False)._take_terminal(undo)
    assert (console.page, console.modes) == (65001, {0: LINE, 1: OUTPUT | VT, 2: OUTPUT | VT})
    for step in reversed(undo):
        step()
    assert (console.page, console.modes) == (437, {0: LINE, 1: OUTPUT, 2: OUTPUT})


def test_output_that_goes_to_files_leaves_the_console_alone(console):
    console.modes = {0: LINE}
    undo = []
    session.Session(SimpleNamespace(read_ahead=lambda: None), None, tty=False)._take_terminal(undo)
    assert (console.page, console.modes) == (437, {0: LINE})


def pumped(monkeypatch, descriptor=0):
    """What the pump sends of keys; read as bytes the console would give zeros for letters beyond ASCII."""
    sent, zeros = [], [b"", b"\0\n"]
    monkeypatch.setattr(stdin.os, "read", lambda *_: zeros.pop())
    monkeypatch.setattr(stdin.os, "isatty", lambda _: True)
    stdin.InputPump(descriptor, sent.append)._pump()
    assert sent.pop() == protocol.frame(protocol.STDIN_END)
    return sent


def stdin_frames(*texts):
    return [protocol.frame(protocol.STDIN, text.encode()) for text in texts]


def test_letters_beyond_ascii_are_read_as_they_were_typed(console, monkeypatch):
    whole = "\U0001f40b".encode("utf-16-le")
    console.typed = ["\u00e9\n".encode("utf-16-le"), whole[:2], whole[2:], b"", b"\x1a\0\r\0\n\0"]
    assert pumped(monkeypatch) == stdin_frames("\u00e9\n", "\U0001f40b")


def test_ctrl_z_is_a_key_where_keys_come_one_by_one(console, monkeypatch):
    console.modes[0] = 0x200
    console.typed = [b"\x1a\0", b"q\0"]
    read = sys.modules["cli.terminal"].console_reader(0)
    assert [read(64), read(64)] == [b"\x1a", b"q"]


def test_no_more_is_given_than_there_is_room_for(console):
    console.typed = ["\u20ac".encode("utf-16-le")]
    read = sys.modules["cli.terminal"].console_reader(0)
    assert [read(1), read(1), read(1)] == [b"\xe2", b"\x82", b"\xac"]


def test_a_file_is_read_as_bytes(console, monkeypatch):
    assert pumped(monkeypatch, 3) == stdin_frames("\0\n")
