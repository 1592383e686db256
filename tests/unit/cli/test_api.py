"""`hostvm.Machine`, and the verbs that are made of it: what they do to a machine, which is played."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

import hostvm
from cli import api, held
from cli.commands import life
from cli.contexts import machine_context
from cli.main import main
from hostvm import guest_images
from hostvm.errors import HostvmError, MachineError, SpecError
from hostvm.machines import observe as observing
from hostvm.machines import suspend
from hostvm.paths import MachinePaths
from hostvm.platform import login
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, load_state, save_state


class World:
    """A machine that does at once what it is told; `calls` are told with the locks that were held."""

    def __init__(self, monkeypatch):
        self.paths = MachinePaths.of("box")
        self.calls, self.locked = [], []
        self.status = "stopped"
        self.gives = {"start_machine": 1.5, "stop_machine": True, "suspend_machine": 2.5, "pause_machine": True}
        self.gives |= {"restore_snapshot": True, "create_snapshot": SimpleNamespace(name="s")}
        for module in (api, life):
            monkeypatch.setattr(module, "machine_lock", self.lock)
        for module, names in (
            (held, ("start_machine", "stop_machine")),
            (suspend, ("suspend_machine",)),
            (api, ("stop_machine", "pause_machine", "check_startable", "clone_machine")),
            (api, ("create_snapshot", "restore_snapshot", "remove_snapshot")),
        ):
            for name in names:
                monkeypatch.setattr(module, name, self.play(name))
        monkeypatch.setattr(api, "observe", lambda _: SimpleNamespace(status=self.status))

    def play(self, name):
        def played(*words, **options):
            assert self.locked, f"{name} without the machine's lock"
            given = [option for option, value in options.items() if value]
            self.calls.append((name, *(word for word in words if isinstance(word, str)), *given))
            found = self.gives.get(name)
            if isinstance(found, BaseException):
                raise found
            return found

        return played

    @contextmanager
    def lock(self, paths):
        self.locked.append(paths.name)
        yield
        self.locked.remove(paths.name)

    def names(self):
        return [name for name, *_ in self.calls]


@pytest.fixture
def world(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    made = World(monkeypatch)
    made.paths.folder.mkdir(parents=True)
    made.paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())))
    save_state(made.paths, MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "now"))
    return made


def has_context(paths):
    return machine_context(paths).describe()["state"] == "ours"


VERBS = [
    ("stop", "stop", (), {}, ("stop_machine", "for_good"), "machine box is stopped"),
    ("stop --force", "stop", (), {"force": True}, ("stop_machine", "force", "for_good"), "machine box is stopped"),
    ("suspend", "suspend", (), {}, ("suspend_machine",), "is suspended after 2.5 s; go on with: hostvm resume box"),
    ("suspend --pause", "pause", (), {}, ("pause_machine",), "is paused; go on with: hostvm resume box"),
    ("snapshot create -m box s", "snapshot", ("s",), {}, ("create_snapshot", "s"), "snapshot s of machine box is made"),
    ("snapshot rm -m box s", "remove_snapshot", ("s",), {}, ("remove_snapshot", "s"), "is removed"),
    (
        "snapshot restore -m box s",
        "restore",
        ("s",),
        {},
        ("restore_snapshot", "s"),
        "is as in its snapshot s, and runs",
    ),
]


@pytest.mark.parametrize(("words", "method", "given", "options", "call", "told"), VERBS)
def test_a_verb_and_its_method_do_the_same(world, monkeypatch, capsys, words, method, given, options, call, told):
    from cli.commands import snapshot

    monkeypatch.setattr(snapshot, "load_snapshot", lambda *_: SimpleNamespace(name="s", memory=0))
    getattr(hostvm.Machine("box"), method)(*given, **options)
    assert world.calls == [call]
    named = words if "-m" in words else f"{words} box"
    assert main(named.split()) == 0
    assert world.calls == [call, call]
    assert told in capsys.readouterr().err


def test_what_they_give_says_whether_anything_was_done(world):
    machine = hostvm.Machine("box")
    assert (machine.start(), machine.stop(), machine.suspend(), machine.pause()) == (1.5, True, 2.5, True)
    assert machine.restore("s") is True
    world.gives = dict.fromkeys(world.gives)
    assert (machine.start(), machine.suspend()) == (None, None)


def test_a_start_without_its_state_is_one_for_programs_too(world):
    hostvm.Machine("box").start(discard_state=True)
    assert main(["start", "box", "--discard-state", "-q"]) == 0
    assert world.calls == [("start_machine", "discard_state")] * 2


def test_a_start_from_a_snapshot_without_its_state_takes_the_disks_alone(world, monkeypatch):
    asked = []
    monkeypatch.setattr("cli.commands.life.restore_snapshot", lambda *_, disk_only: asked.append(disk_only))
    for words in ([], ["--discard-state"]):
        assert main(["start", "box", "--from-snapshot", "s", "-q", *words]) == 0
    assert asked == [False, True]


@pytest.mark.skipif(sys.platform == "win32", reason="no docker client of Windows can follow one yet")
def test_a_docker_context_comes_with_a_start_and_goes_with_the_machine(world):
    machine = hostvm.Machine("box")
    machine.start()
    assert has_context(world.paths)
    machine.remove(force=True)
    assert not world.paths.folder.exists()
    assert machine_context(world.paths).describe()["state"] == "missing"


@pytest.mark.skipif(sys.platform == "win32", reason="its task scheduler would be asked")
@pytest.mark.parametrize("installed", [True, False])
def test_what_would_start_a_removed_machine_at_each_login_is_told_of(world, monkeypatch, capsys, installed):
    """And fail there: the unit may be that of a machine of the same name in another HOSTVM_HOME, so it stays."""
    monkeypatch.setattr(login, "is_installed", lambda name: installed and name == "box")
    assert main(["rm", "--force", "box"]) == 0
    assert ("starts at login still; no more with: hostvm autostart disable box" in capsys.readouterr().err) == installed


def test_one_that_goes_with_its_process_has_no_docker_context(world):
    save_state(world.paths, replace(load_state(world.paths), owner=[1, 2.0, "boot"]))
    hostvm.Machine("box").start()
    assert not has_context(world.paths)


def test_a_machine_that_cannot_start_again_is_not_stopped(world, capsys):
    world.gives["check_startable"] = SpecError("daemon: log-driver is unknown", None, "hostvm edit box")
    with pytest.raises(SpecError):
        hostvm.Machine("box").restart()
    assert main(["restart", "box"]) == 2
    assert world.names() == ["check_startable"] * 2
    del world.gives["check_startable"]
    assert hostvm.Machine("box").restart() == 1.5
    assert main(["restart", "box"]) == 0
    assert world.names()[2:] == ["check_startable", "stop_machine", "start_machine"] * 2
    assert "machine box is ready again after 1.5 s" in capsys.readouterr().err


@pytest.mark.parametrize("status", ["stopped", "crashed", "broken"])
def test_only_what_is_on_can_be_resumed(world, capsys, status):
    world.status = status
    with pytest.raises(MachineError, match=f"machine box is {status}"):
        hostvm.Machine("box").resume()
    assert main(["resume", "box"]) == 1
    assert "hostvm start box" in capsys.readouterr().err
    assert world.calls == []
    world.status = "suspended"
    assert hostvm.Machine("box").resume() == 1.5
    assert main(["resume", "box"]) == 0
    assert "machine box goes on after 1.5 s" in capsys.readouterr().err


def test_a_clone_of_what_was_removed_while_its_lock_was_waited_for_says_so(world, monkeypatch):
    @contextmanager
    def lock(waiting):
        if waiting.name == "box":
            shutil.rmtree(world.paths.folder)
        with world.lock(waiting):
            yield

    monkeypatch.setattr(api, "machine_lock", lock)
    with pytest.raises(MachineError, match="there is no machine called box"):
        hostvm.Machine("box").clone("a")
    assert world.calls == []


def test_a_clone_holds_both_locks_and_is_a_machine(world, monkeypatch, capsys):
    seen = []

    def clone(source, target):
        seen.append((source.name, target.name, list(world.locked)))

    monkeypatch.setattr(api, "clone_machine", clone)
    assert hostvm.Machine("box").clone("a").name == "a"
    assert main(["clone", "box", "z"]) == 0
    assert seen == [("box", "a", ["a", "box"]), ("box", "z", ["box", "z"])]
    assert "machine z is made of box; start it with: hostvm start z" in capsys.readouterr().err
    with pytest.raises(MachineError, match="machine box exists already"):
        hostvm.Machine("box").clone("box")


def test_one_that_is_made_exists_once(world, monkeypatch, capsys):
    """And is refused before its image is fetched, which may take minutes."""
    monkeypatch.setattr(guest_images, "ensure_image", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(MachineError, match="machine box exists already"):
        hostvm.Machine.create("box")
    assert main(["create", "box"]) == 1
    assert "hostvm start box" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["stop", "restart", "suspend", "resume", "rm", "snapshot create -m"])
def test_nothing_is_done_to_a_machine_that_does_not_exist(world, capsys, verb):
    assert main([*verb.split(), "other"]) == 1
    assert "there is no machine called other" in capsys.readouterr().err
    with pytest.raises(HostvmError, match="no machine called other"):
        hostvm.Machine("other").stop()
    assert world.calls == []


def test_facts_are_those_of_status(world, monkeypatch, capsys):
    monkeypatch.setattr(observing, "observe", lambda _: SimpleNamespace(facts=lambda: {"name": "box"}))
    assert main(["stop", "box", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "box"}
