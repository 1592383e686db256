"""What a guest says on its serial console about its own boot."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from hostvm.errors import HostvmError
from hostvm.files import tail
from hostvm.growing import PIECE, Growing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_Error = TypeVar("_Error", bound=HostvmError)

LAST_LINES = 20
"""Of the console, in an error of a machine that did not start."""

# The guest's log services (images/files/guest/usr/lib/hostvm/services/*/log/run) pass these lines of sshd and
# dockerd on to the console.
SSH_MARK = b"Server listening on 0.0.0.0"
ENGINE_MARK = b"API listen on "
# The guest's own, images/files/guest/usr/lib/hostvm/late: the data disk is where it belongs.
DATA_MARK = b"mark services"
# The guest's own, images/files/guest/usr/lib/hostvm/services/dockerd/finish.
ENGINE_GAVE_UP = b"hostvm-guest: fail engine "
PANIC_MARK = "Kernel panic - not syncing"
FAULT_MARK = "hostvm-guest: fail "
# The guest's own: the first words of a boot, and a stop before and after its engine's part.
BOOT_MARK = b"hostvm-guest: mark root "
STOPPING_MARK = b"hostvm-guest: mark stopping "
ENGINE_STOPPED_MARK = b"hostvm-guest: mark engine-stopped "

_BEGINS = (PANIC_MARK.encode(), BOOT_MARK)
"""Of the boot that follows: what was said before is another's. The guest takes seconds from the first to the second."""

MARKS = (SSH_MARK, ENGINE_MARK, DATA_MARK)
_LOOKED_FOR = (*MARKS, PANIC_MARK.encode(), b"hostvm-guest: ")
_LINE_MOST = 4096
_STAYS_MOST = 64 * 1024


class ConsoleMark:
    """Whether a mark has appeared in this boot on a console, read on from where the last look ended."""

    def __init__(self, console: Path, mark: bytes) -> None:
        self._places = LastPlaces(console, mark, *_BEGINS)
        self._seen = False

    def seen(self) -> bool:
        """Look again; once seen it stays seen, unless the guest panics. A console that was begun anew is read so.

        True where there is no console to read: nobody could announce anything there.
        """
        try:
            mark, *begins = self._places.find()
        except OSError:
            return True
        if mark != max(begins):  # with neither, it is as it was
            self._seen = mark > max(begins)
        return self._seen


class EngineTrouble:
    """Why the engine does not come up in this boot, read on from where the last look ended."""

    def __init__(self, console: Path) -> None:
        self._console = console
        self._places = LastPlaces(console, ENGINE_GAVE_UP, ENGINE_MARK, *_BEGINS)

    def __call__(self) -> str:
        """Look again; "" as long as nothing is known. An engine that came up after all is in no trouble."""
        down, *others = self._places.look()
        if down <= max(others):
            return ""
        faults: list[str] = []
        for line in lines_with(self._console, FAULT_MARK.encode(), *_BEGINS):
            if any(begin in line for begin in _BEGINS):
                faults.clear()
            elif line.startswith(FAULT_MARK.encode()):
                faults.append(line.decode(errors="replace").strip().removeprefix(FAULT_MARK))
        return "\n".join(faults)


class WayDown:
    """How far a guest's stop is. Where there is no console to read, nothing is known of it."""

    def __init__(self, console: Path) -> None:
        self._console = console
        self._places = LastPlaces(console, STOPPING_MARK, ENGINE_STOPPED_MARK, *_BEGINS)
        self._told = len(self._faults())

    def engine_stops(self) -> bool:
        """Look again: whether the engine still lets its containers end. A stop that a panic broke off is over."""
        stopping, *others = self._places.look()
        return stopping > max(others)

    def begun(self) -> bool:
        """Look again: whether this boot is on its way down."""
        stopping, _, *begins = self._places.look()
        return stopping > max(begins)

    def faults(self) -> list[str]:
        """What went wrong since this began, as `engine: what`; each is told once."""
        found = self._faults()
        new, self._told = found[self._told :], len(found)
        return [line.replace(" ", ": ", 1) for line in new]

    def _faults(self) -> list[str]:
        begin = f"{FAULT_MARK}stop-".encode()
        try:
            lines = [line for line in lines_with(self._console, begin) if line.endswith(b"\n")]
        except OSError:
            return []
        return [line.removeprefix(begin).decode(errors="replace").strip() for line in lines if line.startswith(begin)]


def panics(console: Path) -> list[str]:
    """What the guest's kernel said at each of its panics in this boot and those that followed by themselves."""
    try:
        lines = [line.decode(errors="replace") for line in lines_with(console, PANIC_MARK.encode())]
    except OSError:
        return []
    said = [line.partition(PANIC_MARK)[2].rstrip() for line in lines if "---[ end" not in line]
    return [words.strip(": ") for words in said]


def ended_in_panic(console: Path) -> str:
    """What the guest's kernel said when it panicked and did not boot again; "" when it did, or did not panic."""
    panic, boot = LastPlaces(console, PANIC_MARK.encode(), BOOT_MARK).look()
    return next(reversed(panics(console)), "") if panic > boot else ""


def with_last_lines(error: _Error, console: Path) -> _Error:
    """The error with the console's last lines behind its details; as it is when it has them, or there are none."""
    begin = f"the guest's console ({console}) ends with:\n"
    lines = tail(console, LAST_LINES)
    details = error.details or ""
    if not lines.strip() or begin in details:
        return error
    return type(error)(error.brief, f"{details}\n{begin}{lines}".lstrip(), error.resolution)


class LastPlaces:
    """Where in a console's file each of some marks stands last."""

    def __init__(self, console: Path, *marks: bytes) -> None:
        self._text = Growing(console)
        self._marks = marks
        self._rest = b""
        self._begun = 0
        self._found = [-1] * len(marks)

    def look(self) -> list[int]:
        """Look again; -1 for one that does not stand there."""
        with suppress(OSError):
            self.find()
        return self._found

    def find(self) -> list[int]:
        """As `look`.

        :raises OSError: there is no console to read.
        """
        for data in self._text.pieces():
            self._begin_anew()
            text = self._rest + data
            for number, mark in enumerate(self._marks):
                if (place := text.rfind(mark)) >= 0:
                    self._found[number] = self._text.place - len(text) + place
            self._rest = text[1 - max(map(len, self._marks)) :]
        self._begin_anew()
        return self._found

    def _begin_anew(self) -> None:
        if self._begun != self._text.begun:
            self._begun, self._rest, self._found = self._text.begun, b"", [-1] * len(self._marks)


def lines_with(console: Path, *marks: bytes) -> Iterator[bytes]:
    """The lines of a console's file in which one of these stands, with their ends. It may have any size.

    :raises OSError: it cannot be read.
    """
    for data in _whole_lines(console):
        yield from _lines_with(data, marks)


def what_stays(console: Path) -> bytes:
    """The lines of a console's file that anybody here looks for, and the one that is not ended yet.

    :raises OSError: it cannot be read.
    """
    lines: list[bytes] = []
    data = b""
    for data in _whole_lines(console):
        lines += _lines_with(data, _LOOKED_FOR)
    unended = data.rpartition(b"\n")[2]
    if unended and lines[-1:] == [unended]:
        lines.pop()
    text = b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines)
    if len(text) > _STAYS_MOST:
        this_boot = text[max(text.rfind(begin) for begin in _BEGINS) + 1 :]
        marks = b"".join(mark + b"\n" for mark in MARKS if mark in this_boot)
        text = marks + text[-_STAYS_MOST:].partition(b"\n")[2]
    return text + unended[-_LINE_MOST:]


def _whole_lines(console: Path) -> Iterator[bytes]:
    """A file in pieces that end where a line does, unless it is a very long one or the last."""
    with console.open("rb") as file:
        while data := file.read(PIECE):
            yield data + file.readline(_LINE_MOST)


def _lines_with(data: bytes, marks: Sequence[bytes]) -> Iterator[bytes]:
    if any(mark in data for mark in marks):
        yield from (line for line in data.splitlines(keepends=True) if any(mark in line for mark in marks))
