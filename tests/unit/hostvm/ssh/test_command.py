import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.errors import ForwardError
from hostvm.ssh.command import LONGEST_TEXT, command_text


def test_whole_text():
    text = command_text(
        ["printf", "a b", "it's", "$HOME", ""],
        {"A": "1 2", "x-y": "q", "UID": "7"},
        "/srv/my code",
    )
    assert text == (
        b"cd -- '/srv/my code' 2>/dev/null || cd; export A='1 2'; "
        b"""exec env x-y=q UID=7 printf 'a b' 'it'"'"'s' '$HOME' ''"""
    )


def test_plain_program():
    assert command_text(["true"]) == b"exec true"


def test_bytes_and_surrogates_are_the_same():
    assert command_text([b"x", b"\xff"]) == command_text(["x", os.fsdecode(b"\xff")]) == b"exec x '\xff'"


@pytest.mark.parametrize("argv", [[], [""], ["x", "a\0b"], ["x", "y" * LONGEST_TEXT]])
def test_refused(argv):
    with pytest.raises(ForwardError) as caught:
        command_text(argv)
    assert caught.value.resolution


def _unquote(text: bytes) -> list[bytes]:
    """What POSIX says a shell makes of words that hold only plain and quoted parts."""
    words, word, quote, started = [], bytearray(), 0, False
    for byte in text:
        if quote:
            if byte == quote:
                quote = 0
            else:
                word.append(byte)
        elif byte in b"'\"":
            quote, started = byte, True
        elif byte == 0x20:
            if started:
                words.append(bytes(word))
            word, started = bytearray(), False
        else:
            word.append(byte)
            started = True
    return [*words, bytes(word)] if started else words


@given(st.lists(st.binary().filter(lambda word: b"\0" not in word), max_size=6))
def test_any_argv_comes_back(words):
    assert _unquote(command_text([b"p", *words])) == [b"exec", b"p", *words]
