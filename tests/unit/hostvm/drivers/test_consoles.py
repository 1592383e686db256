from __future__ import annotations

import errno
import re
import tracemalloc
from pathlib import Path

import pytest

from hostvm import files
from hostvm.console import BOOT_MARK, ENGINE_MARK, SSH_MARK, ConsoleMark, EngineTrouble, WayDown, ended_in_panic, panics
from hostvm.console import MARKS as LOOKED_FOR
from hostvm.drivers.consoles import cut_console, previous_console, rotate_console


def test_the_boot_before_is_kept(tmp_path):
    console = tmp_path / "console.log"
    for text in ("first", "second"):
        rotate_console(console)
        console.write_text(text)
    rotate_console(console)
    assert console.read_text() == ""
    assert console.stat().st_mode & 0o777 == 0o600
    assert previous_console(console) == tmp_path / "console.log.1"
    assert previous_console(console).read_text() == "second"


def test_a_console_that_somebody_reads_at_this_moment_is_moved_when_he_has_done(tmp_path, monkeypatch):
    """Windows renames no file that another process has open."""
    console = tmp_path / "console.log"
    console.write_text("first")
    replace, refused = Path.replace, []

    def read_by_somebody(self, target):
        if self == console and not refused:
            refused.append(target)
            raise PermissionError(13, "it is used by another process")
        return replace(self, target)

    monkeypatch.setattr(files.sys, "platform", "win32")
    monkeypatch.setattr(Path, "replace", read_by_somebody)
    rotate_console(console)
    assert refused
    assert previous_console(console).read_text() == "first"
    assert console.read_text() == ""


def test_a_boot_that_said_nothing_does_not_push_out_the_one_before(tmp_path):
    console = tmp_path / "console.log"
    console.write_text("text")
    rotate_console(console)
    rotate_console(console)
    assert previous_console(console).read_text() == "text"


MARKS = b"hostvm-guest: mark root 1.5\r\nServer listening on 0.0.0.0 port 22.\r\nhostvm-guest: mark services 2\r\n"
NOISE = b"[    9.1] noise of a driver that is not well\r\n" * 100


@pytest.fixture
def console(tmp_path):
    made = tmp_path / "console.log"
    made.write_bytes(MARKS)
    return made


@pytest.fixture
def guest(console):
    """Appends, as QEMU does, through a file that stays open."""
    with console.open("ab", buffering=0) as file:
        yield file.write


def test_a_console_within_its_limit_is_left_alone(console):
    assert not cut_console(console, len(MARKS))
    assert console.read_bytes() == MARKS
    assert not cut_console(console.with_name("none"))


def test_a_console_past_its_limit_is_cut_and_goes_on(console, guest):
    guest(NOISE + b"half a li")
    whole = console.read_bytes()
    number = console.stat().st_ino
    assert cut_console(console, 4000)
    guest(b"ne\r\n")
    assert previous_console(console).read_bytes() == whole
    assert previous_console(console).stat().st_mode & 0o777 == 0o600
    first, _, rest = console.read_bytes().partition(b"\n")
    assert re.fullmatch(rb"hostvm: [-\d]+ [:\d]+ grown past 4000 bytes and cut; what was here: console.log.1", first)
    assert rest == MARKS + b"half a line\r\n", "what is looked for here stays, in its order"
    assert console.stat().st_ino == number, "the file that the hypervisor has open"
    guest(NOISE)
    assert cut_console(console, 4000)
    assert console.read_bytes().endswith(b"\n" + MARKS), "again, too"


def test_of_a_very_large_console_the_end_is_kept(console, guest):
    guest(NOISE * 3)
    assert cut_console(console, 4000)
    assert previous_console(console).read_bytes() == (MARKS + NOISE * 3)[-4000:]


def test_what_stays_has_a_limit_too(console, guest):
    guest(b"hostvm-guest: fail again\r\n" * 10_000)
    assert cut_console(console, 4000)
    assert console.stat().st_size < 70_000
    marks, lines = console.read_bytes().split(b"\n")[1:3], console.read_bytes().split(b"\n")[3:-1]
    assert all(mark in LOOKED_FOR for mark in marks), "none is pushed out"
    assert set(lines) == {b"hostvm-guest: fail again\r"}, "whole lines"


def test_what_stays_of_the_boot_before_a_panic_are_no_marks(console, guest):
    guest(b"Kernel panic - not syncing: one\r\n" + ENGINE_MARK + b"x\r\n" + b"hostvm-guest: fail again\r\n" * 10_000)
    assert cut_console(console, 4000)
    assert ConsoleMark(console, ENGINE_MARK).seen()
    assert not ConsoleMark(console, SSH_MARK).seen()


def test_without_room_for_what_was_there_it_is_cut_all_the_same(console, guest, monkeypatch):
    def no_room(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hostvm.drivers.consoles.write_atomic", no_room)
    guest(NOISE)
    assert cut_console(console, 4000)
    assert console.stat().st_size < 300
    assert not previous_console(console).exists()


def test_readers_go_on_over_a_cut(console, guest):
    way, trouble = WayDown(console), EngineTrouble(console)
    guest(b"hostvm-guest: mark stopping 3\r\n" + NOISE)
    assert way.engine_stops()
    assert cut_console(console, 4000)
    assert way.engine_stops()
    guest(NOISE + b"hostvm-guest: fail stop-dockerd it was killed\r\nhostvm-guest: fail engine dockerd ended\r\n")
    assert (way.faults(), trouble().splitlines()[-1]) == (["dockerd: it was killed"], "engine dockerd ended")
    guest(b"hostvm-guest: mark engine-stopped 9\r\nKernel panic - not syncing: one\r\n" + NOISE)
    assert cut_console(console, 4000)
    assert not way.engine_stops()
    assert way.faults() == [], "each is told once"
    assert panics(console) == ["one"]


def test_a_mark_that_came_just_before_a_cut_is_seen(console, guest):
    mark = ConsoleMark(console, ENGINE_MARK)
    guest(NOISE)
    assert not mark.seen()
    guest(b'msg="API listen on /run/docker.sock"\r\n')
    assert cut_console(console, 4000)
    assert mark.seen()
    assert ConsoleMark(console, SSH_MARK).seen(), "an agent that comes later waits for none of them"


def test_a_large_console_is_read_in_pieces(console, guest, monkeypatch):
    """Without an agent nobody cuts it."""
    guest(NOISE * 100 + b"x" * 200_000 + b"\r\nKernel panic - not syncing: one\r\n" + NOISE * 100 + ENGINE_MARK)
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda _: pytest.fail("it is read whole"))
    tracemalloc.start()
    try:
        assert panics(console) == ["one"]
        assert ConsoleMark(console, ENGINE_MARK).seen()
        assert tracemalloc.get_traced_memory()[1] < 500_000 < console.stat().st_size
    finally:
        tracemalloc.stop()


def test_marks_alone_on_their_lines_stay_however_much_else_is_looked_for(console, guest):
    """As ephemeral machines have them, whose guests were booted under another name."""
    console.write_bytes(b"".join(mark + b"\n" for mark in LOOKED_FOR))
    guest(b"hostvm-guest: something to look at\r\n" * 3000)
    assert cut_console(console, 1000)
    assert all(ConsoleMark(console, mark).seen() for mark in LOOKED_FOR)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (BOOT_MARK + b"1\r\n", ""),
        (BOOT_MARK + b"1\r\nKernel panic - not syncing: one\r\n", "one"),
        (b"Kernel panic - not syncing: one\r\n---[ end Kernel panic - not syncing: one ]---\r\n", "one"),
        (b"Kernel panic - not syncing: one\r\n" + BOOT_MARK + b"2\r\n", ""),
        (b"Kernel panic - not syncing: one\r\n" + BOOT_MARK + b"2\r\nKernel panic - not syncing: two\r\n", "two"),
    ],
)
def test_a_console_that_ends_in_a_panic(tmp_path, said, found):
    (tmp_path / "console").write_bytes(said)
    assert ended_in_panic(tmp_path / "console") == found
    assert ended_in_panic(tmp_path / "none") == ""
