"""Programs in containers that watch a shared folder: what happens to its files here raises events there."""

from __future__ import annotations

import os
import queue
import shutil
import statistics
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from machines import eventually
from sharing import SERVED, TOOLS, Share, end, in_full  # helpers beside this file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker.models.containers import Container

pytestmark = pytest.mark.vm

# Starts another program anew whenever something changes below a folder: each with a watcher of its own.
RELOADERS = {
    "watchfiles": ("-m", "watchfiles", "python3 -u /w/app.py", "/w"),
    "watchdog": ("-m", "watchdog.watchmedo", "auto-restart", "-d", "/w", "-R", "--", "python3", "-u", "/w/app.py"),
}

# Tells its own text and the names beside it, and stays.
APP = """
import os, time
print("text {number}", *sorted(os.listdir("/w")), flush=True)
time.sleep(3600)
"""

by_nfs = pytest.mark.parametrize("share", ["nfs"], indirect=True)


def is_watched(share: Share, folder: Path) -> None:
    """Wait until the agent has begun with it."""
    agent_log = Path(os.environ["HOSTVM_HOME"], "machines", share.machine.name, "agent.log")
    eventually(lambda: f"events: watching {folder}\n" in agent_log.read_text(), "the folder is watched")


@contextmanager
def watcher(share: Share, folder: Path) -> Iterator[Callable[[], list[str]]]:
    """What a program says that watches a folder, and those in it, in a container of its own; it has begun."""
    name = f"watcher-{share.kind}"
    share.machine.docker(
        "run", "-d", "--name", name, "-v", f"{folder}:/w", "-v", f"{share.folder}/checks:/checks:ro",
        TOOLS, "/checks/inotify_watch.py", "/w",
    )  # fmt: skip

    def told() -> list[str]:
        return share.machine.sdk.api.logs(name).decode().splitlines()

    try:
        eventually(lambda: "READY" in told(), "the watcher is ready")
        is_watched(share, folder)
        yield told
    finally:
        share.machine.docker("rm", "-f", name)


def raises(told: Callable[[], list[str]], act: Callable[[], object], *events: str) -> None:
    """What is done here is told there by these events at least, before anything else is done."""
    past = len(told())
    act()
    eventually(lambda: set(events) <= set(told()[past:]), f"{events} after {told()}")


@in_full
def test_changes_here_raise_events_there(share: Share):
    """By sftp and nfs each by its name; elsewhere a deletion is told as a change of its folder (docs/adr/0051)."""
    folder = share.folder / "watched"
    folder.mkdir()
    (folder / "old").write_text("old")
    served = share.kind in SERVED
    made = ["CREATE made"] if share.kind == "nfs" else []
    sub = {"nfs": "CREATE sub", "sftp": "MODIFY sub"}.get(share.kind, "ATTRIB sub")
    with watcher(share, folder) as told:
        before = (folder / "old").stat().st_mtime_ns
        for act, events in (
            (lambda: (folder / "made").write_text("new"), [*made, "CLOSE_WRITE made"] if served else ["ATTRIB made"]),
            (lambda: (folder / "made").write_text("newer"), ["MODIFY made"] if served else ["CLOSE_WRITE made"]),
            (
                lambda: (folder / "made").rename(folder / "moved"),
                ["DELETE made", "CLOSE_WRITE moved"] if served else ["ATTRIB moved"],
            ),
            ((folder / "moved").unlink, ["DELETE moved"] if served else ["ATTRIB "]),
            ((folder / "sub").mkdir, [sub]),
        ):
            raises(told, act, *events)
        assert sorted(entry.name for entry in folder.iterdir()) == ["old", "sub"], "acting it out changed something"
        assert (folder / "old").stat().st_mtime_ns == before
        # What a container does itself is not told to it a second time.
        if served:
            share.run("echo x > /w/watched/own; mkdir /w/watched/own-folder")
            raises(told, lambda: (folder / "last").write_text("x"), "CLOSE_WRITE last")
            assert told().count("CREATE own") == told().count("CLOSE_WRITE own") == 1
            assert told().count("CREATE own-folder") == 1


@by_nfs
def test_what_is_in_a_folder_that_was_made_here_is_told(share: Share):
    """To who watches a tree: such a program adds each folder that it is told of as made."""
    folder, elsewhere = share.folder / "growing", share.folder / "elsewhere"
    folder.mkdir()
    (elsewhere / "deep").mkdir(parents=True)
    with watcher(share, folder) as told:
        raises(told, (folder / "new").mkdir, "CREATE new")
        raises(told, (folder / "new" / "inner").mkdir, "CREATE new/inner")
        file = folder / "new" / "inner" / "file"
        raises(told, lambda: file.write_text("x"), "CREATE new/inner/file", "CLOSE_WRITE new/inner/file")
        raises(told, lambda: (folder / "once" / "inner").mkdir(parents=True), "CREATE once")
        file = folder / "once" / "inner" / "file"
        raises(told, lambda: file.write_text("x"), "CLOSE_WRITE once/inner/file")
        # Renamed here, from outside of what is watched and in it; each with a folder in it.
        raises(told, lambda: elsewhere.rename(folder / "moved"), "CREATE moved")
        raises(told, lambda: (folder / "moved" / "deep" / "file").write_text("x"), "CLOSE_WRITE moved/deep/file")
        raises(told, lambda: (folder / "moved").rename(folder / "renamed"), "DELETE moved", "CREATE renamed")
        raises(told, lambda: (folder / "renamed" / "deep" / "file").write_text("xx"), "MODIFY renamed/deep/file")
        raises(told, lambda: shutil.rmtree(folder / "new"), "DELETE new")
        raises(told, (folder / "new").mkdir, "CREATE new")
        raises(told, lambda: (folder / "new" / "again").write_text("x"), "CLOSE_WRITE new/again")
    # Nothing was made here by acting it out.
    found = {str(path.relative_to(folder)): path.is_dir() for path in folder.rglob("*")}
    folders = dict.fromkeys(["new", "once", "once/inner", "renamed", "renamed/deep"], True)
    assert found == folders | dict.fromkeys(["new/again", "once/inner/file", "renamed/deep/file"], False)


@by_nfs
def test_what_is_new_here_is_there_for_everybody_while_it_is_acted_out(share: Share):
    """A program that has found it once finds it at each look from then on."""
    folder = share.folder / "stays"
    folder.mkdir()
    with watcher(share, folder) as told:
        with share.script("stays_there.py", "/w/stays", "0.5") as looker:
            for number in range(20):
                (folder / str(number)).touch() if number % 2 else (folder / str(number)).mkdir()
                looker.stdin.write(f"{number}\n")
                looker.stdin.flush()
                assert looker.stdout.readline() == f"{number} there\n"
            end(looker)
        eventually(lambda: any(line.startswith("CREATE ") for line in told()), "one was acted out before it was found")


class Arriving:
    """Lines of a container as they come, by this computer's clock."""

    def __init__(self, container: Container) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(container,), daemon=True).start()

    def _read(self, container: Container) -> None:
        rest = b""
        for piece in container.logs(stream=True, follow=True):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._lines.put(line.decode())

    def seconds_until(self, *wanted: str) -> float:
        """From now to the first of these lines."""
        begun = time.monotonic()
        while self._lines.get(timeout=20) not in wanted:
            pass
        return time.monotonic() - begun

    def forget(self) -> None:
        """What has come by now."""
        while not self._lines.empty():
            self._lines.get()


@pytest.mark.slow
@in_full
def test_an_event_is_there_within_a_second(share: Share):
    """Each kind of change, from the moment before it is made here until a container's line of it has arrived here."""
    folder = share.folder / "timed"
    folder.mkdir()
    files = [folder / f"file-{number}" for number in range(10)]
    gone = (lambda name: (f"DELETE {name}",)) if share.kind in SERVED else (lambda _: ("ATTRIB ",))
    new = (lambda name: (f"CREATE {name}",)) if share.kind == "nfs" else any_of
    acts = {
        "created": (lambda file: file.write_text("new"), new),
        "modified": (lambda file: file.write_text("newer"), any_of),
        "renamed": (lambda file: file.rename(f"{file}-moved"), lambda name: new(f"{name}-moved")),
        "deleted": (lambda file: Path(f"{file}-moved").unlink(), lambda name: gone(f"{name}-moved")),
    }
    taken: dict[str, list[float]] = {}
    with watcher(share, folder):
        lines = Arriving(share.machine.sdk.containers.get(f"watcher-{share.kind}"))
        lines.seconds_until("READY")
        for what, (act, expected) in acts.items():
            for file in files:
                time.sleep(0.1)  # until what the change before it raised besides has come
                lines.forget()
                begun = time.monotonic()
                act(file)
                taken.setdefault(what, []).append(time.monotonic() - begun + lines.seconds_until(*expected(file.name)))
    for what, seconds in taken.items():
        median = statistics.median(seconds)
        sys.stdout.write(f"{share.kind}: {what}: median {median:.3f} s, most {max(seconds):.3f} s\n")  # -rP shows it
    assert {what for what, seconds in taken.items() if statistics.median(seconds) > 1.0} == set(), taken


def any_of(name: str) -> tuple[str, ...]:
    return tuple(f"{word} {name}" for word in ("CREATE", "ATTRIB", "MODIFY", "CLOSE_WRITE"))


@pytest.mark.slow
@in_full
@pytest.mark.parametrize("reloader", ["watchdog", "watchfiles"])
def test_a_program_is_started_anew_when_files_change_here(share: Share, reloader):
    folder = share.folder / reloader
    folder.mkdir()
    app = folder / "app.py"
    app.write_text(APP.format(number=0))
    name = f"{reloader}-{share.kind}"
    share.machine.docker("run", "-d", "--name", name, "-v", f"{folder}:/w", TOOLS, *RELOADERS[reloader])
    container = share.machine.sdk.containers.get(name)

    def told(*words: str) -> None:
        line = " ".join(words)
        eventually(lambda: container.logs().decode().splitlines()[-1:] == [line], f"{line!r} is the last line", 60)

    try:
        told("text 0", "app.py")
        is_watched(share, folder)
        for number in (1, 2):
            app.write_text(APP.format(number=number))
            told(f"text {number}", "app.py")
        (folder / "other.py").write_text("x = 1")
        told("text 2", "app.py", "other.py")
        (folder / "other.py").unlink()
        told("text 2", "app.py")
        (folder / "new.tmp").write_text(APP.format(number=3))  # as editors save
        (folder / "new.tmp").rename(app)
        told("text 3", "app.py")
    finally:
        container.remove(force=True)
