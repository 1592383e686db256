"""What the agent mounts and unmounts, in which order, and what it does when that fails; in a guest that is a table."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from types import SimpleNamespace

import pytest

from hostvm.errors import AgentError, MachineError
from hostvm.guest import Completed
from hostvm.shares.device import DeviceShare, mount_table
from hostvm.shares.listener import ShareListener
from hostvm.shares.model import Mount
from hostvm.shares.service import ShareService

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")

GATEWAY = "192.168.231.2"


class Guest:
    """Programs as `hostvm.shares.mounting` runs them; what is mounted, the topmost last."""

    def __init__(self):
        self.mounts = []
        self.did = []
        self.dead = set()

    def run(self, argv, *, timeout):
        del timeout
        if argv[0] == "stat":
            return Completed(int(argv[2] in self.dead), b"", b"")
        told = argv[4] if len(argv) > 4 else ""
        if argv[3:4] == ["mount"]:
            self.did.append(f"mount {told}")
            self.mounts.append((told, "fuse.sshfs", argv[-1]))
            self.dead.discard(told)
        elif argv[3:4] == ["unmount"]:
            self.did.append(f"unmount {told}")
            # A lazy unmount takes what is inside along.
            self.mounts = [one for one in self.mounts if not f"{one[0]}/".startswith(f"{told}/")]
        return Completed(0, "".join(f"x {place} {kind} rw\n" for place, kind, _ in self.mounts).encode(), b"")

    def places(self):
        return [place for place, _, _ in self.mounts]


class Host:
    def __init__(self):
        self.said = []
        self.log = self.said.append


@pytest.fixture
def guest():
    return Guest()


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def service(tmp_path):
    made = []

    def make(*mounts):
        made.append(ShareService(mounts, tmp_path, GATEWAY))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        close(one)


def close(service):
    if service._listener is not None:
        end(service._listener._socket)


def end(listening):
    with contextlib.suppress(OSError):  # it was closed before
        listening.shutdown(socket.SHUT_RDWR)  # ends who waits there, too
    listening.close()


@pytest.fixture
def folders(tmp_path):
    made = {name: tmp_path / name for name in ("outer", "outer/inner", "other")}
    for folder in made.values():
        folder.mkdir()
    return {name.rpartition("/")[2]: str(folder) for name, folder in made.items()}


def states(service):
    return [(row["target"], row["state"]) for row in service.describe()["mounts"]]


def test_the_guest_asks_this_computer_by_the_address_of_its_own_network(service, guest, host, folders):
    service(Mount(folders["outer"], "/a")).start(guest, host)
    assert [source.partition(":")[0] for _, _, source in guest.mounts] == [GATEWAY]


def test_what_stands_and_answers_is_left_alone(service, guest, host, folders):
    made = service(Mount(folders["outer"], "/a"), Mount(folders["other"], "/b"))
    made.start(guest, host)
    assert guest.did == ["mount /a", "mount /b"]
    made.stop()
    tree = next(iter(made._listener._trees.values()))
    made.start(guest, host)
    assert guest.did == ["mount /a", "mount /b"]
    assert tree._root is not None, "requests on their way go on"
    made.stop()
    guest.dead.add("/b")
    made.start(guest, host)
    assert guest.did == ["mount /a", "mount /b", "unmount /b", "mount /b"]


def test_the_next_agent_has_the_port_before_it_reaches_the_guest(service, guest, host, folders, tmp_path):
    first = service(Mount(folders["outer"], "/a"))
    first.start(guest, host)
    port = json.loads((tmp_path / "share-server.json").read_text())["port"]
    assert 20000 <= port < 32768
    first.stop()
    close(first)
    second = service(Mount(folders["outer"], "/a"))
    second.begin(host)
    assert second._listener.port == port
    second.start(guest, host)
    assert guest.did == ["mount /a"]


def test_mounts_that_look_at_another_programs_port_are_made_anew(service, guest, host, folders, monkeypatch):
    first = service(Mount(folders["outer"], "/a"))
    first.start(guest, host)
    first.stop()
    close(first)
    monkeypatch.setattr("hostvm.shares.listener._PAUSE", 0)
    with socket.create_server(("127.0.0.1", first._listener.port)):
        second = service(Mount(folders["outer"], "/a"))
        second.begin(host)
    second.start(guest, host)
    assert guest.did == ["mount /a", "unmount /a", "mount /a"]
    assert any("another program has port" in line for line in host.said)
    second.stop()
    second.start(guest, host)
    assert len(guest.did) == 3, "they are its own now"


def test_an_outer_folder_goes_and_comes_below_inner_ones(service, guest, host, folders):
    made = service(Mount(folders["outer"], "/a"), Mount(folders["inner"], "/a/b"))
    made.start(guest, host)
    made.ask({"do": "rm", "source": folders["outer"], "target": "/a"})
    assert (guest.places(), states(made)) == (["/a/b"], [("/a/b", "mounted")])
    made.ask({"do": "add", "source": folders["outer"], "target": "/a"})
    assert guest.places() == ["/a", "/a/b"]
    assert states(made) == [("/a", "mounted"), ("/a/b", "mounted")]
    made.stop()
    guest.dead.add("/a")
    made.start(guest, host)
    assert guest.places() == ["/a", "/a/b"]


def test_what_cannot_be_shared_is_tried_again_and_does_not_stop_the_others(service, guest, host, tmp_path, folders):
    made = service(Mount(str(tmp_path / "usb"), "/a"), Mount(folders["other"], "/b"))
    made.start(guest, host)
    assert states(made) == [("/a", "failed"), ("/b", "mounted")]
    assert states_why(made.ask({"do": "again"})) == ["there is no such folder", ""]
    (tmp_path / "usb").mkdir()
    made.ask({"do": "again"})
    assert states(made) == [("/a", "mounted"), ("/b", "mounted")]
    assert guest.did == ["mount /b", "mount /a"]
    assert len([line for line in host.said if "is not shared" in line]) == 1


def states_why(answer):
    return [row["why"] for row in answer["mounts"]]


def test_a_folder_that_comes_later_is_mounted_then(service, guest, host, tmp_path, monkeypatch):
    monkeypatch.setattr("hostvm.shares.service._AGAIN_SECONDS", 0.02)
    made = service(Mount(str(tmp_path / "usb"), "/a"))
    made.start(guest, host)
    (tmp_path / "usb").mkdir()
    deadline = time.monotonic() + 10
    while states(made) != [("/a", "mounted")]:
        assert time.monotonic() < deadline


def test_without_a_guest_it_says_so(service, folders):
    made = service(Mount(folders["outer"], "/a"))
    for words in ({"do": "again"}, {"do": "release"}, {"do": "add", "source": folders["other"], "target": "/b"}):
        with pytest.raises(AgentError, match="not reached"):
            made.ask(words)


def test_a_folder_that_is_not_there_is_refused(service, guest, host, tmp_path):
    made = service()
    made.start(guest, host)
    with pytest.raises(MachineError, match="cannot be shared"):
        made.ask({"do": "add", "source": str(tmp_path / "none"), "target": "/a"})


def test_files_that_are_being_written_are_told_before_a_suspend(service, guest, host, folders):
    made = service(Mount(folders["outer"], "/a"))
    made.start(guest, host)
    known = made._listener.known(Mount(folders["outer"], "/a"))
    known.opened(f"{folders['outer']}/log")
    assert made.ask({"do": "release"}) == {"holders": [], "written": [f"{folders['outer']}/log"]}
    known.closed(f"{folders['outer']}/log")
    assert made.ask({"do": "release"})["written"] == []


def test_later_folders_have_covers_unless_something_lies_inside():
    device = DeviceShare("9p", "share0", SimpleNamespace(), "/d/e", False)
    table = mount_table((device,), ["/a", "/b", "/b/c", "/d"]).splitlines()
    assert table[:3] == ["wait", "/a", "tmpfs hostvm-missing ro,size=4k,mode=0555"]
    assert table[3] == "/d/e"
    assert table[4].startswith("9p share0 rw,")
    assert len(table) == 5
    assert mount_table((device,)).splitlines()[0] == "all"


def test_a_port_in_use_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    said = []
    first = ShareListener(tmp_path, said.append)
    blocker = first._socket
    naps = []

    def nap(seconds):
        naps.append(seconds)
        end(blocker)

    monkeypatch.setattr("hostvm.shares.listener.time.sleep", nap)
    second = ShareListener(tmp_path, said.append)
    assert (second.port, second.kept, said) == (first.port, True, [])
    assert naps
    end(second._socket)
