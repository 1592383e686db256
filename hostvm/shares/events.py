"""Changes on this computer, made known to programs that watch files in the guest (inotify).

No kind of share carries events. So the folders that running containers have are watched here, and each change is
acted out in the guest by a small program there: what a program does there raises events there. What that means by
kind is told in docs/adr/0051-file-events.md.
"""

from __future__ import annotations

import os
import posixpath
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hostvm.shares.known import CHANGED, DELETED, Known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hostvm.guest import Guest, GuestProcess

# Reads "ACT PATH" lines, PATH in printf's octal escapes. unlink and mkdir are single system calls on the very name;
# `touch -m` sets nothing but the modification time, to what it is, which inotify calls a modification. On shares that
# others serve that would cut the time to a whole second (9p): there a file is opened for writing and closed
# (CLOSE_WRITE), and the mode is set to what it is (ATTRIB). By 9p the guest keeps what was read of a file while any
# program has it open, so that `tail -f` would read zeros where a line was added: that is dropped before all else.
HELPER = r"""
while read -r act text; do
	path=$(printf '%bx' "$text"); path=${path%x}
	case $act in
	CF) : 2>/dev/null >> "$path"; touch -m -c -h -r "$path" "$path" ;;
	CD) mkdir "$path" || touch -m -c -r "$path" "$path" ;;
	M) touch -m -c -r "$path" "$path" ;;
	A)
		[ -f "$path" ] && dd if=/dev/null of="$path" count=0 oflag=nocache conv=notrunc,nocreat
		chmod --reference="$path" "$path"
		;;
	D) unlink "$path" || rmdir "$path" ;;
	esac
done > /dev/null 2>&1
"""
MOST = 500
"""Changes acted out of one batch; a checkout of another branch is not told file by file."""

OTHERS_PER_SECOND = 20
"""Acts on shares that others serve: there a container's own changes cannot be told from ours, and acting out each
file of its build once more would keep an emulated guest busy. Beyond it whole folders are told."""

_STEP_MS = 50
_IGNORED = frozenset({".git", ".hg", ".svn"})


def escaped(path: str) -> str:
    """A path as the helper reads it."""
    return "".join(f"\\0{byte:03o}" for byte in os.fsencode(path))


def act_of(change: str, path: str, inside: str, known: Known, *, served_here: bool) -> tuple[str, str] | None:
    """What the guest must do for a change of `path`, which is `inside` there; None: nothing.

    :param change: added, modified or deleted.
    :param served_here: our own server answers the guest, so that creation and deletion can be acted out. Elsewhere
        (QEMU's 9p, virtiofsd) acting out a deletion would have to make the name again on this computer for a moment,
        in the way of whoever uses it next; there the folder that held it is told as changed.
    """
    known_there = known.has(path)
    if not known.learn(path):
        return None
    there = os.path.lexists(path)
    if not served_here:
        return ("A", inside if there else posixpath.dirname(inside))
    if not there:
        known.begin(path, DELETED)
        return ("D", inside)
    # A creation too: hiding the new file for a moment, so that it could be made, would be in the way of its users.
    known.begin(path, CHANGED)
    if change != "added" or known_there:
        return ("M", inside)
    return ("CD" if os.path.isdir(path) else "CF", inside)  # noqa: PTH112 - text throughout


class Watched(NamedTuple):
    """A folder or file of this computer that a container has.

    :param target: where it is in the guest.
    """

    source: str
    target: str
    known: Known
    served_here: bool


class Budget:
    """Keeps acts on shares that others serve below `OTHERS_PER_SECOND`; our own server's are never held back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = 0
        self._spent = 0

    def within(self, acts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those to be made, each once: files as long as there is room, then their folders, then nothing."""
        if (second := int(self._clock())) != self._second:
            self._second, self._spent = second, 0
        own = [act for act in acts if act[0] != "A"]
        others = list(dict.fromkeys(act for act in acts if act[0] == "A"))
        room = OTHERS_PER_SECOND - self._spent
        if len(others) > room:
            others = list(dict.fromkeys(("A", posixpath.dirname(path)) for _, path in others))[: max(room, 0)]
        self._spent += len(others)
        return [*dict.fromkeys(own), *others]


class EventCarrier:
    """Watches folders here and has their changes acted out in the guest; one for a machine."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._budget = Budget()
        self._watched: list[Watched] = []
        self._stop = threading.Event()

    def carry(self, guest: Guest, watched: Sequence[Watched]) -> None:
        """From now on these, and no others; an empty list ends all watching."""
        with self._lock:
            wanted = sorted(watched, key=lambda one: -len(one.source))
            if wanted == self._watched and not self._stop.is_set():
                return
            self._stop.set()
            self._watched, self._stop = wanted, threading.Event()
            if wanted:
                worker = threading.Thread(
                    target=self._run, args=(guest, wanted, self._stop), name="events", daemon=True
                )
                worker.start()

    def end(self) -> None:
        """Stop watching; `carry` begins anew."""
        self._stop.set()

    def _run(self, guest: Guest, watched: list[Watched], stop: threading.Event) -> None:
        try:
            import watchfiles

            helper = guest.stream(["/bin/sh", "-c", HELPER])
            for source in {one.source for one in watched}:
                self._log(f"events: watching {source}")
            changes = watchfiles.watch(
                *{one.source for one in watched},
                watch_filter=None,
                step=_STEP_MS,
                stop_event=stop,
                rust_timeout=1000,
                ignore_permission_denied=True,
                raise_interrupt=False,
            )
            for batch in changes:
                self._act(helper, [(change.name, path) for change, path in batch], watched)
        except Exception as error:  # noqa: BLE001 - without events everything else still works
            if not stop.is_set():
                self._log(f"events: files are not watched: {type(error).__name__}: {error}")
        else:
            helper.close()

    def _act(self, helper: GuestProcess, batch: list[tuple[str, str]], watched: list[Watched]) -> None:
        batch = [one for one in batch if not _IGNORED.intersection(Path(one[1]).parts)]
        # What is gone first, inner before outer; then what is there, outer before inner.
        gone = sorted((one for one in batch if one[0] == "deleted"), key=lambda one: one[1], reverse=True)
        there = sorted((one for one in batch if one[0] != "deleted"), key=lambda one: one[1])
        if len(batch) > MOST:
            self._log(f"events: {len(batch)} changes at once; {MOST} are told")
        acts: list[tuple[str, str]] = []
        for change, path in [*gone, *there][:MOST]:
            for one in watched:
                if path == one.source or path.startswith(one.source.rstrip(os.sep) + os.sep):
                    inside = one.target + path[len(one.source) :].replace(os.sep, "/")
                    act = act_of(change, path, inside, one.known, served_here=one.served_here)
                    if act is not None:
                        acts.append(act)
                    break
        lines = [f"{kind} {escaped(path)}\n" for kind, path in self._budget.within(acts)]
        if lines:
            helper.write_stdin("".join(lines).encode("ascii"))
