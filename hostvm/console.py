"""What a guest says on its serial console about its own boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

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

MARKS = (SSH_MARK, ENGINE_MARK, DATA_MARK)


class ConsoleMark:
    """Whether a mark has appeared in a console's file, read on from where the last look ended."""

    def __init__(self, console: Path, mark: bytes) -> None:
        self._console = console
        self._mark = mark
        self._place = 0
        self._rest = b""
        self._seen = False

    def seen(self) -> bool:
        """Look again; once seen it stays seen. A console that was begun anew is read from its start.

        True where there is no console to read: nobody could announce anything there.
        """
        if self._seen:
            return True
        try:
            with self._console.open("rb") as file:
                if file.seek(0, 2) < self._place:
                    self._place, self._rest = 0, b""
                file.seek(self._place)
                data = file.read()
        except OSError:
            return True
        self._place += len(data)
        text = self._rest + data
        self._seen = self._mark in text
        self._rest = text[-len(self._mark) :]
        return self._seen


class EngineTrouble:
    """Why the engine does not come up, read on from where the last look ended."""

    def __init__(self, console: Path) -> None:
        self._console = console
        self._up = LastPlace(console, ENGINE_MARK)
        self._down = LastPlace(console, ENGINE_GAVE_UP)

    def __call__(self) -> str:
        """Look again; "" as long as nothing is known. An engine that came up after all is in no trouble."""
        if self._down.look() <= self._up.look():
            return ""
        lines = self._console.read_bytes().decode(errors="replace").splitlines()
        return "\n".join(line.removeprefix(FAULT_MARK) for line in lines if line.startswith(FAULT_MARK))


class WayDown:
    """How far a guest's stop is. Where there is no console to read, nothing is known of it."""

    def __init__(self, console: Path) -> None:
        self._console = console
        self._begun, self._stopping, self._stopped = (
            LastPlace(console, mark) for mark in (BOOT_MARK, STOPPING_MARK, ENGINE_STOPPED_MARK)
        )
        self._told = len(self._faults())

    def engine_stops(self) -> bool:
        """Look again: whether the engine still lets its containers end. A stop that a panic broke off is over."""
        return self._stopping.look() > max(self._begun.look(), self._stopped.look())

    def faults(self) -> list[str]:
        """What went wrong since this began, as `engine: what`; each is told once."""
        found = self._faults()
        new, self._told = found[self._told :], len(found)
        return [line.replace(" ", ": ", 1) for line in new]

    def _faults(self) -> list[str]:
        try:
            text = self._console.read_bytes().decode(errors="replace")
        except OSError:
            return []
        whole = text.rpartition("\n")[0].splitlines()
        begin = f"{FAULT_MARK}stop-"
        return [line.removeprefix(begin).strip() for line in whole if line.startswith(begin)]


def panics(console: Path) -> list[str]:
    """What the guest's kernel said at each of its panics in this boot and those that followed by themselves."""
    try:
        lines = console.read_bytes().decode(errors="replace").splitlines()
    except OSError:
        return []
    said = [line.partition(PANIC_MARK)[2] for line in lines if PANIC_MARK in line and "---[ end" not in line]
    return [words.strip(": ") for words in said]


class LastPlace:
    """Where in a console's file a mark stands last."""

    def __init__(self, console: Path, mark: bytes) -> None:
        self._console = console
        self._mark = mark
        self._read = 0
        self._found = -1

    def look(self) -> int:
        """Look again; -1 when it does not stand there."""
        try:
            with self._console.open("rb") as file:
                if file.seek(0, 2) < self._read:
                    self._read, self._found = 0, -1
                begin = max(0, self._read - len(self._mark) + 1)
                file.seek(begin)
                data = file.read()
        except OSError:
            return self._found
        self._read = begin + len(data)
        place = data.rfind(self._mark)
        if place >= 0:
            self._found = begin + place
        return self._found
