"""Watching that fails: nothing of it stays in the guest, it is tried again, and the log says what to do."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import watchfiles
from waiting import until  # a helper of all unit tests

from hostvm.engines import AS_ENGINE
from hostvm.errors import SshError
from hostvm.shares.events import EventCarrier, Watched, escaped, helper_prefix, helpers_of
from hostvm.shares.known import Known

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")

# What watchfiles 1.3.0 says with /proc/sys/user/max_inotify_watches at 1, and with max_inotify_instances at 0.
WATCHES = OSError('OS file watch limit reached. about ["/w/c"] (Error { kind: MaxFilesWatch, paths: ["/w/c"] })')
INSTANCES = RuntimeError("Error creating recommended watcher: Too many open files (os error 24)")


class Helper:
    def __init__(self):
        self.lines, self.ended, self.closed = b"", threading.Event(), threading.Event()

    def write_stdin(self, data):
        self.lines += data

    def close_stdin(self):
        self.ended.set()

    def read_stdout(self, size):
        self.ended.wait()
        return b""

    def wait(self):
        return 0

    def close(self):
        self.ended.set()
        self.closed.set()


class Guest:
    def __init__(self):
        self.helpers, self.fault = [], None

    def stream(self, argv):
        if self.fault:
            raise self.fault
        self.helpers.append(Helper())
        return self.helpers[-1]


@pytest.fixture
def log():
    return []


@pytest.fixture
def carrier(log):
    made = EventCarrier(log.append)
    yield made
    made.end()


def no_worker():
    return "events" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def folder(tmp_path):
    return Watched(str(tmp_path), "/w", Known(), served_here=True)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (WATCHES, "sudo sysctl fs.inotify.max_user_watches=1048576"),
        (INSTANCES, "sudo sysctl fs.inotify.max_user_instances=1024"),
        (OSError("another fault"), "another fault"),
    ],
)
def test_a_watcher_that_fails(carrier, log, folder, monkeypatch, error, told):
    guest, real = Guest(), watchfiles.watch

    def fail(*paths, **options):
        raise error

    monkeypatch.setattr(watchfiles, "watch", fail)
    carrier.carry(guest, [folder])
    until(no_worker)
    assert log[-1].endswith(told)
    assert guest.helpers[0].closed.is_set()
    monkeypatch.setattr(watchfiles, "watch", real)
    carrier.carry(guest, [folder])
    until(lambda: len(guest.helpers) == 2)

    def change():
        Path(folder.source, f"file{time.monotonic()}").touch()
        return guest.helpers[1].lines

    until(change)


def test_a_guest_that_starts_no_helper(carrier, log, folder):
    guest = Guest()
    guest.fault = SshError("the guest did not start a program", None, None)
    carrier.carry(guest, [folder])
    until(no_worker)
    assert "did not start a program" in log[-1]
    guest.fault = None
    carrier.carry(guest, [folder])
    until(lambda: guest.helpers)


def test_what_is_watched_already_is_left_as_it_is(carrier, folder):
    guest = Guest()
    carrier.carry(guest, [folder])
    until(lambda: guest.helpers)
    carrier.carry(guest, [folder])
    carrier.end()
    until(no_worker)
    assert guest.helpers[0].closed.is_set()
    assert len(guest.helpers) == 1


def test_changes_are_told_by_the_folders_own_name_where_a_link_leads_there(carrier, tmp_path):
    """As in node_modules: watchfiles tells them by the link's name alone, by which no server knows them."""
    share, outside = tmp_path / "share", tmp_path / "outside"
    for folder in (share / "packages" / "x", share / "modules", outside):
        folder.mkdir(parents=True)
    (share / "modules" / "x").symlink_to("../packages/x")
    (share / "out").symlink_to(outside)
    file = share / "packages" / "x" / "file"
    file.touch()
    guest, known = Guest(), Known()
    carrier.carry(guest, [Watched(str(share), "/w", known, served_here=True)])

    def told(*acts):
        return all(f"{act} {escaped(path)}\n".encode() in guest.helpers[0].lines for act, path in acts)

    def change():
        file.write_text(str(time.monotonic()))
        (outside / "file").write_text(str(time.monotonic()))
        (share / "last").write_text(str(time.monotonic()))
        return told(("M", "/w/packages/x/file"), ("M", "/w/last"))

    until(lambda: guest.helpers)
    until(change)
    # What the guest itself does there is no news to it.
    with known.acting(str(file), removes=True):
        file.unlink()
    (share / "last").unlink()
    until(lambda: told(("D", "/w/last")))
    names = {line.split()[1] for line in guest.helpers[0].lines.decode().splitlines()}
    assert names == {escaped(path) for path in ("/w/packages/x/file", "/w/last")}
    assert not told(("D", "/w/packages/x/file"))
    guest.helpers[0].close()  # or its deletion is waited for


def test_what_is_shared_of_the_whole_computer_is_told_where_it_is_in_the_guest(carrier, tmp_path):
    known, file = Known(), tmp_path / "file"
    file.touch()
    told: list[tuple[str, str, tuple[Known, str]]] = []
    helper = SimpleNamespace(tell=told.extend)
    carrier._act({True: helper}, [("modified", str(file))], [Watched("/", "/w", known, served_here=True)])
    assert told == [("M", f"/w{file}", (known, str(file)))]


def test_the_helper_has_a_group_of_its_own():
    """By it a server of ours knows who may see what is gone."""
    assert helper_prefix()[-1] == "--groups=64007"
    assert helper_prefix(AS_ENGINE) == ("setpriv", "--reuid=1000", "--regid=1000", "--groups=64007")


@pytest.mark.parametrize("as_user", [(), AS_ENGINE])
def test_each_way_of_sharing_has_a_helper_with_the_rights_that_it_needs(as_user):
    """As root only what opens files and sets modes to what they are, in what others serve."""
    ours, others = (Watched("/s", "/t", Known(), served) for served in (True, False))
    assert helpers_of([ours, ours], as_user) == {True: helper_prefix(as_user)}
    assert helpers_of([others], as_user) == {False: tuple(as_user)}
    assert helpers_of([others, ours], as_user) == {True: helper_prefix(as_user), False: tuple(as_user)}
    uid = next(word for word in helper_prefix(as_user) if word.startswith("--reuid="))
    assert uid != "--reuid=0"
