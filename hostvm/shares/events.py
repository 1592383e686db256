"""Changes on this computer, made known to programs that watch files in the guest (inotify).

No kind of share carries events. So the folders that running containers have are watched here, and each change is
acted out in the guest by a small program there: what a program does there raises events there. What that means by
kind is told in docs/adr/0051-file-events.md.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hostvm.errors import HostvmError
from hostvm.shares.known import is_folder
from hostvm.shares.own_names import inside_of, own_names
from hostvm.shares.unanswered import Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hostvm.guest import Guest
    from hostvm.shares.known import Known

# Reads "ACT PATH" lines, PATH in printf's octal escapes. Nothing here makes a file: one that is gone by now stays gone.
# unlink is a single system call on the very name; `touch -m` sets nothing but the modification time, to what it is,
# which inotify calls a modification. On shares that others serve that would cut the time to a whole second (9p): there
# a file is opened for writing and closed (CLOSE_WRITE), and the mode is set to what it is (ATTRIB). By 9p the guest
# keeps what was read of a file while any program has it open, so that `tail -f` would read zeros where a line was
# added: that is dropped before all else.
# N and F are of names that are new here: the server of NFS answers who makes them as if they were made now, and makes
# nothing. Where they are known in the guest already, or a link leads to them, they are told as changed.
# All is done in the very folder that is meant, to a name in it and never to what a link leads to: a container may lay
# one at any moment, which would lead elsewhere in the guest, or have a server of ours asked for the deletion of another
# file, which it cannot know for one that is only acted out. `u+u` sets a mode to what it is, read from no other file; a
# link, and a file where chmod has no -h (coreutils before 9.5), is told as a change of its folder.
# A line is printed for each D that has been made, so that the server knows how long to play along.
HELPER = r"""
exec 3>&1
enter() {
	folder=${path%/*} name=./${path##*/}
	cd -P "$folder/" && [ "$PWD" = "${folder:-/}" ]
}
make() (
	enter && exec "$1" "$name"
)
while read -r act text; do
	path=$(printf '%bx' "$text"); path=${path%x}
	case $act in
	N) make mkfifo ;;
	F) make mkdir && continue ;;
	esac
	! enter || case $act in
	C | N)
		[ -f "$name" ] && dd if=/dev/null of="$name" count=0 oflag=nofollow,nonblock conv=notrunc,nocreat
		touch -m -c -h -r "$name" "$name"
		;;
	M | F) touch -m -c -h -r "$name" "$name" ;;
	A)
		[ -f "$name" ] && dd if=/dev/null of="$name" count=0 oflag=nocache,nofollow,nonblock conv=notrunc,nocreat
		[ ! -L "$name" ] && chmod -h u+u "$name" || chmod u+u .
		;;
	D) unlink "$name" || rmdir "$name" ;;
	esac
	cd /
	[ "$act" != D ] || echo >&3
done > /dev/null 2>&1
"""
HELPER_GROUP = 64007
"""The group that the helper has besides its own, so that a server of ours that is told it (NFS) shows nobody else what
is gone. Nobody has it: Debian gives numbers from 60000 to 64999 by request only (its policy, 9.2.2)."""

MOST = 500
"""Changes acted out of one batch; a checkout of another branch is not told file by file."""

OTHERS_PER_SECOND = 20
"""Acts on shares that others serve: there a container's own changes cannot be told from ours, and acting out each
file of its build once more would keep an emulated guest busy. Beyond it whole folders are told."""

_AS_NOBODY = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
]
_STEP_MS = 50
_LIMITS = (
    ("file watch limit", "fs.inotify.max_user_watches", 1048576),  # one for each folder
    ("(os error 24)", "fs.inotify.max_user_instances", 1024),
)
_IGNORED = frozenset({".git", ".hg", ".svn"})


def escaped(path: str) -> str:
    """A path as the helper reads it."""
    return "".join(f"\\0{byte:03o}" for byte in os.fsencode(path))


def act_of(
    change: str, path: str, inside: str, known: Known, *, served_here: bool, creates: bool = False
) -> tuple[str, str] | None:
    """What the guest must do for a change of `path`, which is `inside` there; None: nothing.

    :param change: added, modified or deleted.
    :param served_here: our own server answers the guest, so that a deletion can be acted out. Elsewhere (QEMU's 9p,
        virtiofsd) that would have to make the name again on this computer for a moment, in the way of whoever uses it
        next; there the folder that held it is told as changed.
    :param creates: as of `Watched`.
    """
    writing = known.writing(path)
    news = known.hear(path)
    if news is None:
        return None
    if not served_here:
        return ("A", inside if news.there else posixpath.dirname(inside))
    if not news.there:
        return ("D", inside)
    if writing or known.writing(path):
        return None
    new = change != "modified" and not news.known
    if is_folder(path):
        # Whoever watches the folder that had the name before sees nothing of what is in this one.
        return ("F" if creates and (new or news.known) else "M", inside)
    return ("M" if not new else "N" if creates else "C", inside)


def in_order(batch: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Changes in the order in which they are told, `MOST` at most.

    What is gone first, inner before outer; then folders, outer before inner, and what else is there. Folders are never
    what is left out: whoever has not heard of one does not watch what is in it. One that was deleted and is there again
    (`rm -r dist; mkdir dist`) is new; what was in it went with it: who looked for that would find the new one first.
    """
    again = {path for change, path in batch if change == "deleted" and os.path.lexists(path)}
    remade = tuple(path + os.sep for path in again if is_folder(path))
    told = (("added" if path in again else change, path) for change, path in batch)
    batch = list(dict.fromkeys(one for one in told if one[0] != "deleted" or not one[1].startswith(remade)))
    gone = sorted((one for one in batch if one[0] == "deleted"), key=lambda one: one[1], reverse=True)
    there = sorted((one for one in batch if one[0] != "deleted"), key=lambda one: (one[1], one[0]))
    folders = [one for one in there if is_folder(one[1])]
    first = set(folders)
    files = [one for one in there if one not in first]
    room = MOST - len(folders[:MOST])
    return [*gone[:room], *folders[:MOST], *files[: max(room - len(gone), 0)]]


class Watched(NamedTuple):
    """A folder or file of this computer that a container has.

    :param target: where it is in the guest.
    :param creates: that names are made can be acted out: its server knows the helper, and makes nothing for it (NFS).
    :param others: where in it other folders are mounted in the guest: what is there is not of `source`.
    """

    source: str
    target: str
    known: Known
    served_here: bool
    creates: bool = False
    others: tuple[str, ...] = ()


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


def helper_prefix(as_user: Sequence[str] = ()) -> tuple[str, ...]:
    """Words before the helper of folders that we serve, where rights are the user's, whoever asks in the guest.

    As nobody: a container that swaps a folder for a link in that moment leads it elsewhere in the guest, where it then
    can change nothing. It passes folders that are closed to others, such as /root.

    :param as_user: a command of setpriv(1) that makes it another user, who is not root either.
    """
    words = [word for word in as_user if word != "--clear-groups"] or _AS_NOBODY
    return (*words, f"--groups={HELPER_GROUP}")


def helpers_of(watched: Sequence[Watched], as_user: Sequence[str]) -> dict[bool, tuple[str, ...]]:
    """The words before each helper that these folders need, by whether we serve them.

    What others serve is reached by who may do it there: root, or the engine's user. That helper opens files and closes
    them, and sets modes to what they are; nothing else.
    """
    kinds = {one.served_here for one in watched}
    return {served: helper_prefix(as_user) if served else tuple(as_user) for served in kinds}


class Helper:
    """The program in the guest, and which deletion it has been told and has not made yet.

    :param prefix: words before the program: see `helper_prefix`.
    :param unanswered: has those that it may still make when the connection to it is broken.
    :raises HostvmError: it could not be started.
    """

    def __init__(self, guest: Guest, prefix: Sequence[str], unanswered: Unanswered) -> None:
        self._unanswered = unanswered
        self._process = guest.stream([*prefix, "/bin/sh", "-c", HELPER])
        self._buried: deque[tuple[Known, str]] = deque()
        self._done = threading.Condition()
        self._over = False
        self._listener = threading.Thread(target=self._listen, name="events-done", daemon=True)
        self._listener.start()

    def tell(self, acts: Sequence[tuple[str, str, tuple[Known, str] | None]]) -> None:
        """Have these acted out: kind, path in the guest, and what knows of it under which path of this computer.

        Deletions one after the other, however long a guest stands still: while one is acted out, the guest sees
        something that is not there, and one that waited in the guest could be made when nobody knows of it any more.

        :raises OSError: it is gone.
        """
        lines: list[str] = []
        for kind, inside, here in acts:
            if here is not None and kind == "D":
                self._write(lines)
                known, path = here
                known.bury(path)
                self._buried.append(here)
            elif here is not None and kind != "A":
                known, path = here
                known.begin(path)
            lines.append(f"{kind} {escaped(inside)}\n")
            if kind == "D":
                self._write(lines)
                with self._done:
                    self._done.wait_for(lambda: self._over or not self._buried)
                if self._over:
                    raise OSError(errno.EPIPE, "the program in the guest has ended")
        self._write(lines)

    def _write(self, lines: list[str]) -> None:
        if lines:
            self._process.write_stdin("".join(lines).encode("ascii"))
            lines.clear()

    def end(self) -> None:
        """Let it make what it was told, and wait for that."""
        with contextlib.suppress(OSError):
            self._process.close_stdin()
        self._listener.join()
        self._process.close()
        self._settle_all()

    def _listen(self) -> None:
        try:
            while done := self._process.read_stdout(4096):
                for _ in range(done.count(b"\n")):
                    self._settle()
            self._process.wait()
        except (HostvmError, OSError):
            while self._buried:
                self._unanswered.add(*self._buried.popleft())
        finally:
            self._settle_all()
            with self._done:
                self._over = True
                self._done.notify_all()

    def _settle_all(self) -> None:
        while self._buried:
            self._settle()

    def _settle(self) -> None:
        known, path = self._buried.popleft()
        known.settle(path)
        with self._done:
            self._done.notify_all()


class EventCarrier:
    """Watches folders here and has their changes acted out in the guest; one for a machine.

    :param as_user: as of `helper_prefix`.
    """

    def __init__(self, log: Callable[[str], None], as_user: Sequence[str] = ()) -> None:
        self._log = log
        self._as_user = as_user
        self._lock = threading.Lock()
        self._budget = Budget()
        self._watched: list[Watched] = []
        self._unanswered = Unanswered()
        self._stop = threading.Event()

    def carry(self, guest: Guest, watched: Sequence[Watched]) -> None:
        """From now on these, and no others; an empty list ends all watching. The guest is reached."""
        self._unanswered.reached()
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

            with contextlib.ExitStack() as ends:
                helpers: dict[bool, Helper] = {}
                for served, prefix in helpers_of(watched, self._as_user).items():
                    helpers[served] = Helper(guest, prefix, self._unanswered)
                    ends.callback(helpers[served].end)
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
                    self._act(helpers, [(change.name, path) for change, path in batch], watched)
        except Exception as error:  # noqa: BLE001 - without events everything else still works
            if not stop.is_set():
                self._log(f"events: files are not watched: {type(error).__name__}: {error}{_way_out(str(error))}")
        finally:
            stop.set()  # the next `carry` begins anew, though it be the same folders

    def _act(self, helpers: dict[bool, Helper], batch: list[tuple[str, str]], watched: list[Watched]) -> None:
        named = own_names(batch, {one.source for one in watched})
        batch = [one for one in named if not _IGNORED.intersection(Path(one[1]).parts)]
        if len(batch) > MOST:
            self._log(f"events: {len(batch)} changes at once; {MOST} are told")
        acts: dict[tuple[str, str], tuple[Known, str]] = {}
        for change, path in in_order(batch):
            for one in watched:
                if (rest := inside_of(path, one.source)) is not None:
                    inside = one.target + rest.replace(os.sep, "/")
                    if any(f"{inside}/".startswith(f"{other}/") for other in one.others):
                        break
                    act = act_of(change, path, inside, one.known, served_here=one.served_here, creates=one.creates)
                    if act is not None:
                        acts[act] = (one.known, path)
                    break
        # What the budget makes of others' acts is told of no path of ours.
        told = [(*act, acts.get(act)) for act in self._budget.within(list(acts))]
        for served, helper in helpers.items():
            helper.tell([act for act in told if (act[0] != "A") == served])


def _way_out(said: str) -> str:
    """How to raise the kernel's limit that is reached, in the words of watchfiles 1.3; "" for another fault."""
    for words, limit, value in _LIMITS:
        if words in said:
            return f"; raise the limit: sudo sysctl {limit}={value}"
    return ""
