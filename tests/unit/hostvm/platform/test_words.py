"""What users paste: the words of this system's shells."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from hostvm.platform.words import (
    delete_file,
    end_process,
    free_room,
    in_turn,
    make_folder,
    quoted,
    set_variable,
    show_file,
    show_folder,
    show_process,
)


@pytest.mark.parametrize(
    ("word", "posix", "windows"),
    [
        ("/data/a", "/data/a", "/data/a"),
        (r"C:\data\a", r"'C:\data\a'", r"C:\data\a"),
        (r"C:\Users\Jürgen\a", r"'C:\Users\Jürgen\a'", r"C:\Users\Jürgen\a"),
        (r"C:\Users\Max M\a", r"'C:\Users\Max M\a'", r'"C:\Users\Max M\a"'),
        ("C:\\a b\\", "'C:\\a b\\'", '"C:\\a b\\\\"'),
        (r"C:\a&b", r"'C:\a&b'", r'"C:\a&b"'),
        ("it's", "'it'\"'\"'s'", '"it\'s"'),
        ('a"b', "'a\"b'", r'"a\"b"'),
        (r"a\"b", r"""'a\"b'""", r'"a\\\"b"'),
        ("", "''", '""'),
        ("@file", "@file", '"@file"'),
    ],
)
def test_a_word_comes_out_as_it_was(word, posix, windows):
    assert quoted(word, "linux") == quoted(word, "darwin") == posix
    assert quoted(word, "win32") == windows


def test_a_folder_is_made_with_those_above_it():
    assert make_folder("/a b", "linux") == "mkdir -p '/a b'"
    assert make_folder("C:\\a b", "win32") == 'mkdir "C:\\a b"'


WORDS = [
    (in_turn, ("hostvm stop", "hostvm start"), "hostvm stop && hostvm start", "hostvm stop\nhostvm start"),
    (free_room, ("/a b", "/c"), "df -h '/a b' /c", 'fsutil volume diskfree "/a b"\nfsutil volume diskfree /c'),
    (free_room, ("C:\\a b", "C:\\c", "D:\\"), None, "fsutil volume diskfree C:\nfsutil volume diskfree D:"),
    (show_folder, ("/a b",), "ls -l '/a b'", 'dir "/a b"'),
    (show_folder, ("/a", "-la"), "ls -la /a", "dir /a"),
    (show_folder, ("", "-la"), "ls -la", "dir"),
    (show_file, ("/a/log",), "less /a/log", "more /a/log"),
    (delete_file, ("C:\\a b",), "rm 'C:\\a b'", 'del "C:\\a b"'),
    (set_variable, ("A", "/b"), "export A=/b", "set A=/b   (PowerShell: $Env:A = '/b')"),
    (end_process, (7,), "sudo kill -9 7", "taskkill /F /PID 7"),
    (show_process, (7,), "ps -o pid,stat,wchan -p 7", 'tasklist /V /FI "PID eq 7"'),
]


@pytest.mark.parametrize(("make", "given", "posix", "windows"), WORDS)
def test_each_system_has_its_own_commands(make, given, posix, windows):
    if posix is not None:
        assert make(*given, platform="linux") == make(*given, platform="darwin") == posix
    assert make(*given, platform="win32") == windows


def test_room_without_a_folder():
    assert free_room(platform="linux") == "df -h"
    assert free_room(platform="win32").startswith("fsutil volume diskfree ")


def test_on_windows_both_shells_read_what_is_advised():
    """PowerShell 5.1 has no `&&`, and neither knows df, ls -l, less and rm: what is advised is made by these words."""
    root = Path(__file__).parents[4]
    unix = re.compile(
        r"&& hostvm|; hostvm (?!docker)|(?<!-- )\b(?:df -h|ls -la?\b)|(?:^|: )(?:less|rm) $"
        r"|export [A-Z]+[A-Z_]*=|\bsudo kill|\bps -o",
        re.MULTILINE,
    )
    elsewhere = {
        "Look at what is wrong: ls -l /dev/kvm; then let another be chosen: --accel auto",  # of Linux
        "\nor remove it, then try again: rm ",  # of a link that Windows does not have
        "ls -l /proc/",  # in the guest
        "choose a short folder: export HOSTVM_RUN=/tmp/hostvm-",  # of Unix sockets, and so is the next
        "Use a shorter folder for sockets: export HOSTVM_RUN=/tmp/hostvm",
        "choose one of your own: export HOSTVM_RUN=/tmp/hostvm-$UID",  # where users have numbers
        "the folder above that of its -pidfile (ps -o args -p PID) is it: export HOSTVM_RUN=FOLDER",  # QEMU locks disks
        "export PATH=",  # of the shells that Windows lacks
    }
    found = set()
    for file in (path for folder in ("cli", "hostvm", "runtime") for path in (root / folder).rglob("*.py")):
        if file.name in ("words.py", "copy_options.py"):  # the latter's is a help's example
            continue
        texts = (node.value for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.Constant))
        found |= {(file.name, text) for text in texts if isinstance(text, str) and unix.search(text)}
    assert not {(name, text) for name, text in found if not any(known in text for known in elsewhere)}


def test_advice_of_a_folder_that_is_not_shared_suits_windows(monkeypatch, tmp_path):
    """cmd took the quotation marks of a Unix shell for a part of the name."""
    from hostvm.errors import ForwardError
    from hostvm.shares.named import engine_path

    with pytest.raises(ForwardError) as error:
        engine_path("D:\\My Data", [], platform="win32")
    assert error.value.resolution.startswith('hostvm mount add "D:\\My Data"\n')
