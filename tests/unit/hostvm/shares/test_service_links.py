"""What the agent shares where a link, or another folder, has the place of the one that was meant."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
from share_rig import close, states  # a helper beside the tests
from waiting import until  # a helper of all unit tests

from hostvm.errors import MachineError
from hostvm.shares.choose import forget_places
from hostvm.shares.model import Mount
from hostvm.shares.removed import Removed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")


def swap_for_link(folders, tmp_path):
    """As a container of the outer share can."""
    inner = Path(folders["inner"])
    inner.rename(tmp_path / "moved")
    inner.symlink_to(folders["other"])


def test_a_link_that_a_container_put_is_not_followed_though_the_outer_share_goes(
    service, guest, host, folders, tmp_path, monkeypatch
):
    monkeypatch.setattr("hostvm.shares.service._AGAIN_SECONDS", 0.02)
    swap_for_link(folders, tmp_path)
    made = service(Mount(folders["outer"], "/a"), Mount(folders["inner"], "/b"))
    made.begin(host)
    made.start(guest, host)
    made.ask({"do": "rm", "source": folders["outer"], "target": "/a"})
    made.ask({"do": "again"})
    time.sleep(0.1)  # it is tried again meanwhile
    assert states(made) == [("/b", "failed")]
    assert "leads through a link in" in made.describe()["mounts"][0]["why"]
    assert guest.did == ["mount /a", "unmount /a"]
    inner = Path(folders["inner"])
    inner.unlink()
    (tmp_path / "moved").rename(inner)
    made.ask({"do": "again"})
    assert states(made) == [("/b", "mounted")]


@pytest.mark.parametrize("agents", [1, 2])
def test_nor_is_it_when_the_outer_share_comes_again_or_another_agent(service, guest, host, folders, tmp_path, agents):
    made = service(Mount(folders["outer"], "/a"))
    made.start(guest, host)
    swap_for_link(folders, tmp_path)
    made.ask({"do": "rm", "source": folders["outer"], "target": "/a"})
    if agents == 2:
        made.stop()
        close(made)
        made = service()
        made.start(guest, host)
    inner = {"do": "add", "source": folders["inner"], "target": "/b"}
    with pytest.raises(MachineError, match="cannot be shared"):
        made.ask(inner)
    made.ask({"do": "add", "source": folders["outer"], "target": "/c", "readonly": True})
    with pytest.raises(MachineError, match="cannot be shared"):
        made.ask(inner)
    made.ask({**inner, "leads_to": str(Path(folders["other"]).resolve())})
    forget_places(tmp_path)
    assert not Removed(tmp_path / "shares-before.json").mounts(), "a boot forgets it"


def test_a_link_that_is_named_is_followed_where_it_led(service, guest, host, folders, tmp_path):
    swap_for_link(folders, tmp_path)
    made = service(Mount(folders["outer"], "/a"))
    made.start(guest, host)
    words = {"do": "add", "source": folders["inner"], "target": "/b"}
    with pytest.raises(MachineError, match="cannot be shared"):
        made.ask(words)
    made.ask({**words, "leads_to": str(Path(folders["other"]).resolve())})
    assert states(made) == [("/a", "mounted"), ("/b", "mounted")]


def test_a_container_that_has_a_folder_by_a_link_is_told_of_it_by_its_own_name(
    service, guest, host, folders, tmp_path, monkeypatch
):
    """By any other, no server would know what is acted out there."""
    Path(folders["outer"], "link").symlink_to("inner")
    made = service(Mount(folders["outer"], "/a"), Mount(folders["other"], "/b/other"))
    made.start(guest, host)
    carried = []
    monkeypatch.setattr(made._carrier, "carry", lambda _, watched: carried.extend(watched))
    made.watch(["/a/link", "/b", "/c"])
    assert [(one.source, one.target) for one in carried] == [
        (folders["inner"], "/a/inner"),
        (folders["other"], "/b/other"),
    ]
    assert carried[0].known is made._listener.known(Mount(folders["outer"], "/a"))


def moved_away(folders):
    """The folder `other` is another one now, as after a clone to where one was."""
    Path(folders["other"]).rename(f"{folders['other']}.old")
    Path(folders["other"]).mkdir()
    Path(folders["other"], "new").touch()


@pytest.mark.parametrize("ask", ["describe", "mounted", "watch"])
def test_a_folder_in_the_place_of_a_shared_one_is_what_the_next_container_has(
    service, guest, host, folders, monkeypatch, ask
):
    """Or it would write into the one of before, wherever that is now."""
    mount = Mount(folders["other"], "/b")
    made = service(Mount(folders["outer"], "/a"), mount)
    made.start(guest, host)
    name, outer = made._listener._name(mount), made._listener._find(made._listener._name(Mount(folders["outer"], "/a")))
    known, carried = made._listener.known(mount), []
    made.watch(["/b"])
    monkeypatch.setattr(made._carrier, "carry", lambda _, watched: carried.append([one.source for one in watched]))
    moved_away(folders)
    with pytest.raises(FileNotFoundError):
        made._listener._find(name).stat("new")
    made.watch(["/b"]) if ask == "watch" else getattr(made, ask)()
    until(lambda: not made._renewal._worker.is_alive())
    made._listener._find(name).stat("new")
    assert made._listener.known(mount) is known
    assert made._listener._find(made._listener._name(Mount(folders["outer"], "/a"))) is outer, "the others go on"
    assert carried[0] == [folders["other"]], "it is watched anew"


def test_what_is_gone_or_withdrawn_is_not_served_by_a_look(service, guest, host, folders):
    mount = Mount(folders["other"], "/b")
    made = service(mount)
    made.start(guest, host)
    before = made._listener._find(made._listener._name(mount))
    Path(folders["other"]).rmdir()
    made.mounted()
    assert made._listener._find(made._listener._name(mount)) is before
    Path(folders["other"]).mkdir()
    with made._lock:  # it waits for what goes on
        made.mounted()
        made._remove("/b")
    until(lambda: not made._renewal._worker.is_alive())
    with pytest.raises(KeyError):
        made._listener._find(made._listener._name(mount))


def test_a_disk_that_does_not_answer_holds_nobody_up(service, guest, host, folders, monkeypatch):
    made = service(Mount(folders["other"], "/b"))
    made.start(guest, host)
    answers = threading.Event()
    monkeypatch.setattr("hostvm.shares.renewal._SECONDS", 0)
    monkeypatch.setattr(made._listener, "serves", lambda _: answers.wait())
    for _ in range(3):
        assert [mount.target for mount in made.mounted()] == ["/b"]
    assert [thread.name for thread in threading.enumerate()].count("shares-renewal") == 1
    answers.set()
    until(lambda: not made._renewal._worker.is_alive())
