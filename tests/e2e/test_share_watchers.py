"""Programs in containers that watch a shared folder: what happens to its files here raises events there."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from machines import eventually
from sharing import SERVED, TOOLS, Share, end, in_full  # helpers beside this file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.vm

by_nfs = pytest.mark.parametrize("share", ["nfs"], indirect=True)


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
        agent_log = Path(os.environ["HOSTVM_HOME"], "machines", share.machine.name, "agent.log")
        eventually(lambda: f"events: watching {folder}\n" in agent_log.read_text(), "the folder is watched")
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
