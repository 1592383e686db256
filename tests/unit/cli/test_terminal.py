"""A raw terminal's settings."""

from __future__ import annotations

import sys

import pytest

termios = pytest.importorskip("termios")

from cli import terminal  # noqa: E402 - Windows has another one

KEYS = [b"\0"] * 32


@pytest.mark.skipif(sys.platform == "win32", reason="consoles there have other settings")
def test_a_killed_clients_terminal_is_known_again_where_the_system_keeps_a_mark_in_it():
    """macOS: PENDIN is there after any shell's prompt and gone after one key; the watchdog compared it, too."""
    before = [termios.ICRNL, termios.OPOST, termios.CS8, termios.ICANON | termios.ECHO | termios.PENDIN, 0, 0, KEYS]
    raw = terminal._raw(before)
    after_a_key = [*raw[:3], raw[3] & ~termios.PENDIN]
    assert after_a_key == raw[:4]
    assert before[3] & termios.PENDIN, "what is put back is what was there"
