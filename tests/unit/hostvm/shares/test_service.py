"""What the agent mounts and unmounts, in which order, and what it does when that fails; in a guest that is a table."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from share_rig import GATEWAY, close, end, states  # a helper beside the tests
from waiting import until  # a helper of all unit tests

from hostvm.errors import AgentError, MachineError
from hostvm.guest import Completed
from hostvm.shares.choose import share_seed, store_devices
from hostvm.shares.device import DeviceShare, mount_table
from hostvm.shares.listener import ShareListener
from hostvm.shares.model import Mount
from hostvm.shares.mounting import mount_device, mount_nfs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")


def test_the_guest_asks_this_computer_by_the_address_of_its_own_network(service, guest, host, folders):
    service(Mount(folders["outer"], "/a")).start(guest, host)
    assert [source.partition(":")[0] for _, _, source in guest.mounts] == [GATEWAY]


def test_the_kernel_is_the_client_where_it_can_be(service, guest, host, folders):
    made = service(Mount(folders["outer"], "/a"), Mount(folders["other"], "/b", kind="sftp"))
    made.start(guest, host)
    assert [kind for _, kind, _ in guest.mounts] == ["nfs", "fuse.sshfs"]
    assert [row["kind"] for row in made.describe()["mounts"]] == ["nfs", "sftp"]


def test_a_guest_without_the_module_has_sshfs(service, guest, host, folders):
    guest.nfs = False
    made = service(Mount(folders["outer"], "/a"))
    made.start(guest, host)
    made.ask({"do": "add", "source": folders["other"], "target": "/b"})
    assert [kind for _, kind, _ in guest.mounts] == ["fuse.sshfs"] * 2
    assert [(row["kind"], row["state"]) for row in made.describe()["mounts"]] == [("sftp", "mounted")] * 2


def test_what_stands_keeps_its_kind(service, guest, host, folders, tmp_path):
    """As it is in a machine that was suspended when sftp was the default; the next mount is by the best."""
    guest.nfs = False
    first = service(Mount(folders["outer"], "/a"))
    first.start(guest, host)
    first.stop()
    close(first)
    guest.nfs = True
    second = service(Mount(folders["outer"], "/a"))
    second.begin(host)
    second.start(guest, host)
    assert guest.did == ["mount /a"]
    assert [(row["kind"], row["state"]) for row in second.describe()["mounts"]] == [("sftp", "mounted")]
    second.stop()
    guest.dead.add("/a")
    second.start(guest, host)
    assert guest.did == ["mount /a", "unmount /a", "mount /a"]
    assert [row["kind"] for row in second.describe()["mounts"]] == ["nfs"]


def test_what_stands_and_answers_is_left_alone(service, guest, host, folders):
    made = service(Mount(folders["outer"], "/a"), Mount(folders["other"], "/b"))
    made.start(guest, host)
    assert guest.did == ["mount /a", "mount /b"]
    made.stop()
    tree = next(iter(made._listener._trees.values()))
    made.start(guest, host)
    assert guest.did == ["mount /a", "mount /b"]
    assert tree._root._descriptor is not None, "requests on their way go on"
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
    assert [mount.target for mount in made.mounted()] == ["/b"]
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
    until(lambda: states(made) == [("/a", "mounted")])


@pytest.mark.parametrize("kind", ["nfs", "sftp"])
def test_what_is_taken_away_while_the_guest_is_not_reached_is_unmounted_as_soon_as_it_is(
    service, guest, host, folders, kind
):
    made = service(Mount(folders["outer"], "/a", kind=kind), Mount(folders["inner"], "/a/b", kind=kind))
    made.start(guest, host)
    made.stop()
    made.ask({"do": "rm", "source": folders["outer"], "target": "/a"})
    assert guest.places() == ["/a", "/a/b"]
    made.start(guest, host)
    assert (guest.places(), states(made)) == (["/a/b"], [("/a/b", "mounted")])
    made.stop()
    made.ask({"do": "rm", "source": folders["inner"], "target": "/a/b"})
    made.start(guest, host)
    assert (guest.places(), states(made)) == ([], [])
    done = len(guest.did)
    made.stop()
    made.start(guest, host)
    assert len(guest.did) == done, "once"


def test_a_mount_that_stays_is_tried_again_and_does_not_stop_the_others(service, guest, host, folders, monkeypatch):
    made = service(Mount(folders["outer"], "/a"), Mount(folders["other"], "/b"))
    made.start(guest, host)
    made.stop()
    made.ask({"do": "rm", "source": folders["outer"], "target": "/a"})
    plain = guest.run

    def run(argv, **options):
        return Completed(1, b"", b"it stays") if argv[3:5] == ["unmount", "/a"] else plain(argv, **options)

    with monkeypatch.context() as patch:
        patch.setattr(guest, "run", run)
        made.start(guest, host)
    assert states(made) == [("/b", "mounted")]
    assert any("it stays" in line for line in host.said)
    made.stop()
    made.start(guest, host)
    assert guest.places() == ["/b"]


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


@pytest.mark.parametrize("later", [False, True])
def test_what_is_not_shared_is_gone_as_soon_as_all_shares_are_known(service, guest, host, folders, later):
    """Before, the guest's kernel is told to ask again: an agent has yet to offer the others."""
    mount = Mount(folders["outer"], "/a")
    made = service() if later else service(mount)
    made.begin(host)
    assert made._listener is None
    made.start(guest, host)
    if later:
        made.ask({"do": "add", "source": mount.source, "target": mount.target})
    assert made._listener._server()._procedures.handles.complete


def test_a_disk_that_is_full_is_told_and_nothing_changed(service, guest, host, folders, monkeypatch):
    """What is taken away has to be noted first."""
    made = service(Mount(folders["outer"], "/a"))
    made.start(guest, host)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hostvm.shares.removed.write_atomic", fail)
    with pytest.raises(MachineError, match="did not change") as caught:
        made.ask({"do": "rm", "source": folders["outer"], "target": "/a"})
    assert "No space left" in caught.value.details
    assert (guest.did, states(made)) == (["mount /a"], [("/a", "mounted")])


def test_files_that_are_being_written_are_told_before_a_suspend(service, guest, host, folders):
    made = service(Mount(folders["outer"], "/a"))
    made.start(guest, host)
    known = made._listener.known(Mount(folders["outer"], "/a"))
    known.opened(f"{folders['outer']}/log")
    assert made.ask({"do": "release"}) == {"holders": [], "written": [f"{folders['outer']}/log"]}
    known.closed(f"{folders['outer']}/log")
    assert made.ask({"do": "release"})["written"] == []


def test_what_a_container_has_by_itself_is_known_until_it_has_it_no_more(service, guest, host, folders, monkeypatch):
    made = service(Mount(folders["outer"], "/a"), Mount(folders["other"], "/b"))
    made.start(guest, host)
    monkeypatch.setattr(made._carrier, "carry", lambda *_: None)
    known, file = made._listener.known(Mount(folders["outer"], "/a")), Path(folders["outer"], "file")
    file.touch()
    made.watch(["/a/file", "/a/inner", "/b", "/elsewhere"])
    assert known.alone == {str(file)}
    made.watch(["/a"])
    assert not known.alone


@pytest.fixture
def by_9p(service, guest, host, folders, tmp_path, monkeypatch):
    """A folder by 9p, which a container has, and the one beside it by nfs; `carried` are the events that are told."""
    table = {"holders": b""}
    plain = guest.run

    def run(argv, **options):
        if argv[3:4] == ["release"]:
            if not table["holders"] and not any(place.startswith("/a/") for place in guest.places()):
                guest.mounts = [one for one in guest.mounts if one[0] != "/a"]
            return Completed(0, table["holders"], b"")
        done = plain(argv, **options)
        if argv[3:4] == ["mount"] and "9p" in argv:
            guest.mounts[-1] = ("/a", "9p", argv[-1])
            return plain([""], timeout=0)
        return done

    monkeypatch.setattr(guest, "run", run)
    store_devices([DeviceShare("9p", "share0", Path(folders["outer"]), "/a", readonly=False)], tmp_path)
    made = service(Mount(folders["outer"], "/a", kind="9p"), Mount(folders["other"], "/b"))
    carried = []
    monkeypatch.setattr(made._carrier, "carry", lambda _, watched: carried.append([one.target for one in watched]))
    monkeypatch.setattr(made._carrier, "end", lambda: carried.append("ended"))
    made.start(guest, host)
    made.watch({"/a", "/b"})
    assert carried == [["/a", "/b"]]
    return SimpleNamespace(made=made, guest=guest, carried=carried, table=table)


def test_what_was_released_is_given_to_nobody_until_it_is_mounted_again(by_9p):
    """The suspend was broken off: containers had the empty folder below, and wrote into the guest's memory."""
    assert by_9p.made.ask({"do": "release"})["holders"] == []
    assert by_9p.guest.places() == ["/b"]
    assert [mount.target for mount in by_9p.made.mounted()] == ["/b"]
    by_9p.made.ask({"do": "again"})
    assert sorted(by_9p.guest.places()) == ["/a", "/b"]
    assert [mount.target for mount in by_9p.made.mounted()] == ["/a", "/b"]
    assert by_9p.carried[1:] == ["ended", ["/a", "/b"]]


def test_a_release_that_is_refused_goes_on_telling_events(by_9p):
    by_9p.table["holders"] = b"/proc/7/comm:sh\n/proc/7/cgroup:0::/\n"
    assert len(by_9p.made.ask({"do": "release"})["holders"]) == 1
    assert [mount.target for mount in by_9p.made.mounted()] == ["/a", "/b"]
    assert by_9p.carried[1:] == ["ended", ["/a", "/b"]]


@pytest.mark.parametrize("holders", [b"", b"/proc/7/comm:sh\n/proc/7/cgroup:0::/\n"])
def test_a_folder_inside_of_one_by_9p_goes_before_it_and_comes_back(by_9p, folders, holders):
    """The outer one stayed mounted, and QEMU refused to save, whatever the user did."""
    by_9p.made.ask({"do": "add", "source": folders["inner"], "target": "/a/inner"})
    by_9p.table["holders"] = holders
    assert len(by_9p.made.ask({"do": "release"})["holders"]) == bool(holders)
    assert by_9p.guest.places() == (["/a", "/b", "/a/inner"] if holders else ["/b"])
    assert [mount.target for mount in by_9p.made.mounted()] == (["/a", "/a/inner", "/b"] if holders else ["/b"])
    by_9p.made.ask({"do": "again"})
    assert sorted(by_9p.guest.places()) == ["/a", "/a/inner", "/b"]
    assert [mount.target for mount in by_9p.made.mounted()] == ["/a", "/a/inner", "/b"]


def test_what_is_released_is_not_mounted_again_beside_a_suspend(service, guest, host, folders, tmp_path, monkeypatch):
    """By who looks whether a folder that was missing is there now."""
    looked = []
    store_devices([DeviceShare("9p", "share0", Path(folders["outer"]), "/a", readonly=False)], tmp_path)
    made = service(Mount(folders["outer"], "/a", kind="9p"), Mount(str(tmp_path / "missing"), "/b"))
    made.start(guest, host)
    made.ask({"do": "release"})
    again = SimpleNamespace(wait=lambda _: looked.append("") or len(looked) > 2, is_set=lambda: False)
    guest.did.clear()
    made._keep_trying(again)
    assert len(looked) == 3
    assert guest.did == []


@pytest.mark.parametrize("kind", ["9p", "virtiofs", "nfs"])
def test_no_folder_brings_devices_or_other_users_rights(kind):
    """sshfs says so by itself."""
    asked = []
    guest = SimpleNamespace(run=lambda argv, **_: asked.append(argv) or Completed(0, b"", b""))
    device = DeviceShare(kind, "share0", Path("/s"), "/t", False)
    if kind == "nfs":
        mount_nfs(guest, Mount("/s", "/t"), GATEWAY, 1, "/s", "box")
    else:
        mount_device(guest, device)  # after the boot; at it:
        asked.append(mount_table((device,)).split())
    options = [set(word.split(",")) for words in asked for word in words if word.startswith(("rw,", "vers="))]
    assert len(options) == len(asked)
    assert all({"nosuid", "nodev"} <= one for one in options)


def test_later_folders_have_covers_unless_something_lies_inside():
    device = DeviceShare("9p", "share0", SimpleNamespace(), "/d/e", False)
    table = mount_table((device,), ["/a", "/b", "/b/c", "/d"]).splitlines()
    assert table[:3] == ["wait", "/a", "tmpfs hostvm-missing ro,size=4k,mode=0555"]
    assert table[3] == "/d/e"
    assert table[4].startswith("9p share0 rw,")
    assert len(table) == 5
    assert mount_table((device,)).splitlines()[0] == "all"


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ((), set()),
        (("sftp", "sftp"), {"shares"}),
        (("sftp", "auto"), {"shares", "nfs"}),
        (("nfs",), {"shares", "nfs"}),
        (("9p",), {"shares"}),
    ],
)
def test_a_guest_loads_the_client_of_nfs_before_it_is_asked_only_where_folders_come_by_nfs(kinds, told):
    mounts = [Mount(f"/here/{number}", f"/{number}", kind=kind) for number, kind in enumerate(kinds)]
    devices = [DeviceShare("9p", "share0", SimpleNamespace(), one.target, False) for one in mounts if one.kind == "9p"]
    files = share_seed(mounts, devices)
    assert set(files) == told
    if told:
        assert files["shares"].startswith(b"all\n" if devices else b"wait\n")


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
