"""What ephemeral machines are refused, what they are named after, and how programs get at them; no program runs."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from machine_files import SAVED, STATE  # a helper of unit tests

import hostvm
from cli.api import EphemeralMachine, Machine
from cli.manage import build_parser
from hostvm import locks, process_id
from hostvm import paths as places
from hostvm.errors import MachineError, SpecError, UsageError
from hostvm.machines import clone, ephemeral, warm
from hostvm.machines.agents import START_SECONDS
from hostvm.machines.ephemeral import start_ephemeral, sweep
from hostvm.machines.snapshots import snapshot_folder
from hostvm.machines.warm import identity, is_warm, warm_paths, warm_spec
from hostvm.paths import MachinePaths, machine_names
from hostvm.spec import render_spec
from hostvm.state import load_state, save_state
from images.progress import NullProgress


def snapshot(driver: str, saved: object) -> MachinePaths:
    paths = MachinePaths.of("box")
    folder = snapshot_folder(paths, "kept")
    folder.mkdir(parents=True)
    save_state(paths, replace(STATE, driver=driver))
    facts = {
        "name": "kept",
        "created": "2026-01-01",
        "layers": {"data.qcow2": "a.qcow2"},
        "image": "sha256:0",
        "version": 1,
    }
    (folder / "snapshot.json").write_text(json.dumps({**facts, "saved": saved}))
    (folder / "suspended.ram").write_bytes(b"ram")
    places.layers().mkdir(parents=True)
    (places.layers() / "a.qcow2").write_bytes(b"")
    return paths


@pytest.mark.parametrize(
    ("driver", "saved", "why"),
    [("qemu", None, "it has no memory"), ("libvirt", SAVED, "libvirt resumes only its own domain")],
)
def test_what_no_machine_can_go_on_from_is_refused(driver, saved, why):
    paths = snapshot(driver, saved)
    with pytest.raises(MachineError, match="no machine can go on from snapshot kept of machine box") as caught:
        start_ephemeral(paths, "kept", NullProgress())
    assert why in caught.value.details
    assert "hostvm snapshot create -m box" in caught.value.resolution
    assert machine_names() == ["box"]


def test_the_machine_that_others_begin_from_is_not_listed():
    paths = warm_paths("warm-01234567-89abcdef")
    snapshot_folder(paths, "warm").mkdir(parents=True)
    assert is_warm(paths)
    assert machine_names() == []
    assert paths.lock == MachinePaths.of("box").lock.with_name("warm-01234567-89abcdef.lock")


@pytest.fixture
def base(monkeypatch):
    """What ephemeral machines begin from, made without a guest; gives what was done to it, and its ids."""
    done = []

    def make(paths, spec, _image):
        paths.folder.mkdir(parents=True)
        paths.spec.write_text(render_spec(spec))
        made = replace(STATE, uuid=f"uuid-{sum(one.startswith('uuid') for one in done)}")
        save_state(paths, made)
        done.append(made.uuid)

    def keep(paths, name, *_):
        snapshot_folder(paths, name).mkdir(parents=True)

    monkeypatch.setattr(warm, "ensure_image", lambda *_: SimpleNamespace(arch="amd64", digest="0"))
    monkeypatch.setattr(warm, "complete_qemu", lambda *_: SimpleNamespace(path="qemu", version_text="7.2"))
    monkeypatch.setattr(warm, "create_machine", make)
    monkeypatch.setattr(warm, "start_machine", lambda *_: None)
    monkeypatch.setattr(warm, "suspend_machine", lambda *_: done.append("somebody listens"))
    monkeypatch.setattr(warm, "create_snapshot", keep)
    monkeypatch.setattr(warm, "end_sleeper", lambda _: done.append("nobody does"))
    return done


def test_nobody_listens_for_the_machine_that_others_begin_from(base):
    """A process of its own, that nothing would have ended."""
    paths = warm.ensure_warm(warm_spec(), SimpleNamespace(), NullProgress())
    assert is_warm(paths)
    assert base == ["uuid-0", "somebody listens", "nobody does"]


def test_whoever_waits_for_the_one_that_is_booted_waits_as_long_as_a_boot_may_take(base, monkeypatch):
    """Of several workers of a test run the others gave up after two minutes, while the first was emulated."""
    waited = []

    @contextmanager
    def lock(_, timeout=locks.LOCK_TIMEOUT):
        waited.append(timeout)
        yield

    monkeypatch.setattr(warm, "machine_lock", lock)
    warm.ensure_warm(warm_spec(), SimpleNamespace(), NullProgress())
    assert waited == [locks.LOCK_TIMEOUT + START_SECONDS]


def test_an_older_base_that_somebody_holds_is_in_nobodys_way(base):
    """The new one was booted, and the command failed all the same."""
    paths = warm.ensure_warm(warm_spec(), SimpleNamespace(), NullProgress())
    shutil.rmtree(paths.folder)
    older = warm_paths(f"{paths.name[: -len('89abcdef')]}89abcdef")
    older.folder.mkdir(parents=True)
    with locks.machine_lock(older):
        assert warm.ensure_warm(warm_spec(), SimpleNamespace(), NullProgress()).folder == paths.folder
    assert (is_warm(paths), older.folder.exists()) == (True, True)


def test_one_whose_maker_was_killed_goes_with_the_next_of_any_settings(base, monkeypatch):
    """It ran on, with its memory, and no command showed it."""
    removed = []
    monkeypatch.setattr(warm, "remove_machine", lambda paths, *_, **__: removed.append(paths.name))
    left, made, whole = (warm_paths(f"warm-{letter * 8}-{letter * 8}") for letter in "abc")
    for paths in (left, made, whole):
        paths.folder.mkdir(parents=True)
    snapshot_folder(whole, "warm").mkdir(parents=True)
    with locks.machine_lock(made):
        warm.ensure_warm(warm_spec(), SimpleNamespace(), NullProgress())
    assert removed == [left.name]


def test_of_several_that_find_the_base_damaged_one_makes_it_anew(base, monkeypatch):
    """The others removed what the first had just made, from below the machines that began from it."""
    monkeypatch.setattr(warm, "remove_machine", lambda paths, *_, **__: shutil.rmtree(paths.folder))
    source = warm.ensure_warm(warm_spec(), SimpleNamespace(), NullProgress())
    begun = []

    def start(paths, *_):
        found = identity(paths)
        begun.append(found)
        if found == "uuid-0":
            if len(begun) == 1:
                Machine.ephemeral().open()  # as another process does, a moment before
            raise MachineError("machine cannot be resumed", "its virtual hardware would be another one")
        return MachinePaths.of(f"tmp-{found}")

    monkeypatch.setattr("cli.api.start_ephemeral", start)
    machine = Machine.ephemeral()
    machine.open()
    assert machine.name == "tmp-uuid-1"
    assert begun == ["uuid-0", "uuid-0", "uuid-1", "uuid-1"]
    assert identity(source) == "uuid-1"


def test_what_it_begins_from_may_go_meanwhile():
    """Its lock is not held; then another one is made to begin from."""
    paths = snapshot("qemu", SAVED)
    with pytest.raises(MachineError, match="machine box was removed meanwhile"):
        start_ephemeral(paths, "kept", NullProgress())
    assert machine_names() == ["box"]
    assert list((places.home() / "machines").glob(".tmp-*")) == []


def test_its_lock_is_deleted_once_it_is_free(monkeypatch):
    """Windows deletes no file that is open, and told of that instead of what had failed."""
    held, deleted = [], []

    @contextmanager
    def lock(paths):
        held.append(paths.lock)
        try:
            yield
        finally:
            held.remove(paths.lock)

    monkeypatch.setattr(ephemeral, "machine_lock", lock)
    paths = snapshot("qemu", SAVED)
    unlink = type(paths.lock).unlink

    def as_windows_does(path, *, missing_ok=False):
        if path in held:
            raise PermissionError(13, "it is used by another process", str(path))
        deleted.append(path.suffix)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(type(paths.lock), "unlink", as_windows_does)
    with pytest.raises(MachineError, match="machine box was removed meanwhile"):
        start_ephemeral(paths, "kept", NullProgress())
    assert ".lock" in deleted


def test_it_shares_no_folders_since_their_devices_could_not_be_saved():
    assert warm_spec().mounts == ()
    assert warm_spec().driver == "qemu"


def test_the_owner_is_kept():
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    save_state(paths, replace(STATE, owner=[17.0, 4815146.0]))
    assert load_state(paths).owner == [17.0, 4815146.0]


def test_a_clone_of_an_ephemeral_machine_stays(monkeypatch):
    """It was removed with the other's process, or, after that, in the midst of its own first start."""
    monkeypatch.setattr(clone, "freeze_disks", lambda *_: {})
    source = MachinePaths.of("tmp-aaaaaaaaaaaa")
    source.folder.mkdir(parents=True)
    source.spec.write_text(render_spec(warm_spec()))
    save_state(source, replace(STATE, owner=process_id.identify(os.getpid()).facts()))
    clone.build_machine(MachinePaths.of("kept"), source, load_state(source))
    assert load_state(MachinePaths.of("kept")).owner is None
    assert load_state(source).owner


def test_programs_import_it_from_the_package():
    assert hostvm.Machine is Machine
    assert isinstance(hostvm.Machine.ephemeral(), EphemeralMachine)
    with pytest.raises(AttributeError, match="no attribute 'machine'"):
        _ = hostvm.machine


def test_an_object_for_a_machine_that_is_missing_does_nothing_and_says_so_when_used():
    machine = Machine("none")
    assert not machine.exists
    for use in (machine.start, machine.stop, machine.suspend, machine.snapshot, machine.restore, machine.inspect):
        with pytest.raises(MachineError, match="there is no machine called none"):
            use()
    with pytest.raises(SpecError):
        Machine("No Name")


def test_one_that_has_not_begun_is_no_machine_of_the_users():
    mine = MachinePaths.of("tmp")
    mine.folder.mkdir(parents=True)
    save_state(mine, STATE)
    machine = Machine.ephemeral()
    assert not machine.exists
    with pytest.raises(MachineError, match="there is no machine called not-begun"):
        machine.stop()
    machine.close()
    assert mine.state.exists()


@pytest.mark.timeout(20)  # it waited 120 s for its own lock
def test_a_clone_with_its_own_name_is_refused_at_once():
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    save_state(paths, STATE)
    with pytest.raises(MachineError, match="machine box exists already"):
        Machine("box").clone("box")
    with pytest.raises(MachineError, match="there is no machine called none"):
        Machine("none").clone("none")


def test_one_object_has_one_machine_at_a_time(monkeypatch):
    snapshot("qemu", SAVED)
    events = []

    def start(source, name, progress):
        events.append("made")
        return MachinePaths.of(f"tmp-{len(events)}")

    monkeypatch.setattr("cli.api.start_ephemeral", start)
    monkeypatch.setattr("cli.api.remove_ephemeral", lambda paths, _: events.append(f"removed {paths.name}"))
    machine = Machine.ephemeral(of="box")
    with machine:
        machine.open()
        assert machine.name == "tmp-1"
    machine.close()
    machine.open()
    machine.close()
    assert events == ["made", "removed tmp-1", "made", "removed tmp-3"]


def test_a_forked_process_leaves_its_parents_machine_alone(monkeypatch):
    """One that ends within the block, by an exception or `sys.exit`, removed it from below the parent."""
    removed = []
    snapshot("qemu", SAVED)
    monkeypatch.setattr("cli.api.start_ephemeral", lambda *_: MachinePaths.of("tmp-1"))
    monkeypatch.setattr("cli.api.remove_ephemeral", lambda paths, _: removed.append(paths.name))
    machine = Machine.ephemeral(of="box")
    machine.open()
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        machine.close()
        assert removed == []
    machine.close()
    assert removed == ["tmp-1"]


def test_a_snapshot_of_no_machine_is_refused():
    """It was passed over, and the machine began from nothing."""
    with pytest.raises(MachineError, match="snapshot kept is of no machine"):
        Machine.ephemeral(snapshot="kept")


@pytest.mark.parametrize("argv", ["ls -l", "", []])
def test_a_command_is_words(argv):
    """A text is a sequence of texts, too: `l` was not found."""
    with pytest.raises(UsageError, match="takes the words of a command"):
        Machine("box").run(argv)


def test_a_base_stays_when_only_a_lock_is_held(base, monkeypatch):
    """The next one would have had to boot a guest."""

    def start(*_):
        raise locks.BusyError("the folder of disks that machines share is busy", None, None)

    monkeypatch.setattr("cli.api.start_ephemeral", start)
    with pytest.raises(locks.BusyError):
        Machine.ephemeral().open()
    assert is_warm(warm.ensure_warm(warm_spec(), SimpleNamespace(), NullProgress()))
    assert [one for one in base if one.startswith("uuid")] == ["uuid-0"]


def test_settings_are_checked_before_anything_is_made():
    with pytest.raises(SpecError, match="2 wrong settings"):
        Machine.create("box", cpus=0, colour="red")
    with pytest.raises(MachineError, match="begins from box has its settings"):
        Machine.ephemeral(of="box", cpus=2)
    assert machine_names() == []


@pytest.mark.parametrize(
    ("words", "command", "why"),
    [
        (["run"], None, "run needs a command"),
        (["run", "--cpus", "2"], ["true"], "settings are for a machine made for this command"),
    ],
)
def test_run_says_what_is_missing(words, command, why):
    from cli.commands.run import run

    options = build_parser().parse_args(words)
    options.command = command
    with pytest.raises(UsageError, match=why):
        run(options)


def test_what_owners_left_is_swept_once_it_is_old():
    old, new = (
        places.home() / "machines" / ".tmp-aaaaaaaaaaaa.new",
        places.home() / "machines" / ".tmp-bbbbbbbbbbbb.new",
    )
    lock, held = places.home() / "locks" / "tmp-cccccccccccc.lock", places.home() / "locks" / "tmp-dddddddddddd.lock"
    for folder in (old, new, MachinePaths.of("tmp-dddddddddddd").folder, lock.parent):
        folder.mkdir(parents=True)
    for file in (lock, held):
        file.touch()
    for path in (old, lock, held):
        os.utime(path, (0, 0))
    sweep()
    assert [path.exists() for path in (old, new, lock, held)] == [False, True, False, True]


def test_what_the_clock_was_set_back_under_is_swept_some_minutes_later():
    rest = places.home() / "machines" / ".tmp-aaaaaaaaaaaa.new"
    rest.mkdir(parents=True)
    os.utime(rest, (time.time() + 86_400,) * 2)
    sweep()
    assert rest.exists()
    seen = rest.stat().st_mtime
    assert seen <= time.time()
    os.utime(rest, (seen - 601,) * 2)
    sweep()
    assert not rest.exists()


def test_what_dead_owners_left_half_made_or_half_removed_is_swept_at_once():
    me = process_id.identify(os.getpid())
    machines = places.home() / "machines"
    ends = (("a", ".new"), ("b", ".new"), ("c", ".removed"), ("d", ".new"), ("e", ".new"))
    dead, mine, rest, older, booted = (machines / f".tmp-{letter * 12}{end}" for letter, end in ends)
    for folder, owner in (
        (dead, replace(me, started=me.started - 1).facts()),
        (mine, me.facts()),
        (rest, None),
        (older, [float(me.pid), me.started]),  # as it was written before
        (booted, replace(me, boot="another boot").facts()),
    ):
        folder.mkdir(parents=True)
        save_state(MachinePaths(folder.stem[1:], folder, folder), replace(STATE, owner=owner))
    os.utime(mine, (0, 0))
    sweep()
    assert [path.exists() for path in (dead, mine, rest, older, booted)] == [False, True, False, True, False]


def test_one_that_cannot_be_deleted_is_in_nobodys_way(monkeypatch):
    """As one that `sudo hostvm` left."""
    me = process_id.identify(os.getpid())
    names = [f"tmp-{letter * 12}" for letter in "ab"]
    for name in names:
        paths = MachinePaths.of(name)
        paths.folder.mkdir(parents=True)
        save_state(paths, replace(STATE, owner=replace(me, started=me.started - 1).facts()))
    tried = []

    def refuse(paths, _):
        tried.append(paths.name)
        raise PermissionError(13, "Permission denied", str(paths.folder))

    monkeypatch.setattr(ephemeral, "remove_ephemeral", refuse)
    sweep()
    assert tried == names
