"""The home folder, which is shared to be read and written at its own path unless told otherwise."""

from __future__ import annotations

import json
import os
import random
import signal
from typing import TYPE_CHECKING

import pytest
from machines import console, eventually, folders_of, hostvm, interrupt, processes_of, running_machine, started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.vm, pytest.mark.slow]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One of this module's own, with what people have there; hostvm's commands take it for the user's."""
    folder = tmp_path_factory.mktemp("home")
    for name in (".ssh", "src/app", "Pictures and such", "empty"):
        (folder / name).mkdir(parents=True)
    (folder / ".ssh").chmod(0o700)
    (folder / ".ssh" / "id_ed25519").write_text("secret")
    (folder / ".ssh" / "id_ed25519").chmod(0o600)
    (folder / "src" / "app" / "run").write_text("#!/bin/sh\necho ran\n")
    (folder / "src" / "app" / "run").chmod(0o755)
    (folder / "src" / "link").symlink_to("app/run")
    (folder / "nowhere").symlink_to("/no/such/file")
    (folder / "Pictures and such" / "big.jpg").write_bytes(random.Random(1).randbytes(3_000_000))
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_234_567_890), follow_symlinks=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        yield folder


def whole(home: Path) -> dict[str, tuple[object, ...]]:
    """All that is there: mode, owner, time, where a link leads, what a file holds."""
    found = {}
    for path in home.rglob("*"):
        facts = path.lstat()
        held: object = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(home))] = (facts.st_mode, facts.st_uid, facts.st_mtime_ns, held)
    return found


def test_a_container_has_it_and_a_start_that_is_broken_off_leaves_it_whole(home):
    """By Ctrl-C: while the guest boots, when its services begin, and when a container writes there as it did before."""
    name, before = f"home-{os.getpid()}", whole(home)
    options = ("--cpus", "1", "--memory", "1GiB", "--names", "off")
    try:
        for mark in (b"hostvm-guest: mark root", b"hostvm-guest: mark services"):
            broken_off(name, options, lambda: mark in console(folders_of(name)[0]))  # noqa: B023
            options = ()
            assert whole(home) == before, f"broken off at {mark!r}"

        with running_machine(name) as machine:
            (row,) = json.loads(machine.hostvm("mount", "ls", "--json"))
            assert (row["source"], row["target"], row["readonly"], row["state"]) == (*[str(home)] * 2, False, "mounted")
            machine.hostvm("image", "base", "busybox:latest")
            app = home / "src" / "app"
            script = "./run; cat ../../.ssh/id_ed25519; echo written > new; echo more >> run"
            words = ("-v", f"{app.parent.parent}:{home}", "-w", str(app), "busybox", "sh", "-c", script)
            assert machine.docker("run", "--rm", *words) == "ran\nsecret"
            assert (app / "new").read_text() == "written\n"
            assert (app / "run").read_text() == "#!/bin/sh\necho ran\nmore\n"
            assert machine.shell("cat", f"{app}/new") == "written"
            (app / "new").unlink()

            lines, before = home / "src" / "lines", whole(home)
            writes = f"while echo line >> {lines}; do sleep 0.1; done"
            words = ("--restart", "always", "-v", f"{home}:{home}", "busybox", "sh", "-c", writes)
            machine.docker("run", "-d", "--name", "writer", *words)
            eventually(lines.exists, "it writes")
            machine.hostvm("stop", name)
            size = lines.stat().st_size
            with started("start", name) as start:
                eventually(lambda: lines.stat().st_size > size, "it writes again", 60)
                os.killpg(start.pid, signal.SIGINT)
                assert start.wait(60) in (130, 0), "0: it was over a moment before"
            machine.hostvm("stop", name)
            assert set(lines.read_text().splitlines()) == {"line"}
            lines.unlink()
            after = whole(home)
            assert after == {**before, "src": after["src"]}
    finally:
        hostvm("rm", "--force", name)


def broken_off(name: str, options: tuple[str, ...], look: Callable[[], bool]) -> None:
    """A start, by Ctrl-C as soon as `look()` is true; nothing of the machine runs then."""
    (folders_of(name)[0] / "console.log").unlink(missing_ok=True)  # the last start's
    with started("start", name, *options) as start:
        eventually(look, "it has come so far", 60)
        interrupt(start)
    eventually(lambda: not processes_of(name), "QEMU and the agent are gone", 20)
