"""What killed commands left half made goes with the next command; what is being made stays. No program runs."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest

from cli.commands import space
from cli.manage import build_parser
from hostvm import paths as places
from hostvm.drivers.base import DomainState
from hostvm.errors import MachineError
from hostvm.locks import machine_lock
from hostvm.machines import boot, clone, create, snapshots
from hostvm.machines.drafts import clear_drafts, draft_of, sweep_drafts
from hostvm.machines.layers import layers_lock
from hostvm.machines.remove import remove_machine
from hostvm.machines.snapshots import create_snapshot, remove_snapshot
from hostvm.machines.warm import warm_paths
from hostvm.paths import MachinePaths
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, save_state
from images.progress import NullProgress

STATE = MachineState("uuid-a", "52:54:00:00:00:01", "amd64", 1, "qemu", "sha256:0", "2026-11-24T18:00:00Z")
DISK = struct.pack(">4sIQIIQIIQ", b"QFI\xfb", 3, 0, 0, 16, 2**30, 0, 1, 1024).ljust(1024, b"\0")


def machine(name: str) -> MachinePaths:
    paths = MachinePaths.of(name)
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())))
    save_state(paths, STATE)
    return paths


def left(paths: MachinePaths) -> list:
    """One of each kind of what a killed command leaves."""
    drafts = [
        paths.folder.parent / f".{paths.name}.new",
        paths.snapshots / ".half.new",
        paths.folder / ".new-disk-abc_1234",
    ]
    for draft in drafts:
        draft.mkdir(parents=True)
        (draft / "disk.qcow2").touch()
    files = [
        paths.folder / f".{name}.ab12_xyz"
        for name in ("machine.yaml", "state.json", "boot.initramfs", "suspended.json", "registry.json")
    ]
    for file in files:
        file.touch()
    return [*drafts, *files]


def test_what_dead_commands_left_goes_whoever_they_were():
    """Held by the caller, or by nobody; an ephemeral machine's, one that others begin from, one that never was."""
    mine, other = machine("box"), machine("other")
    drafts = [*left(mine), *left(other)]
    machines = places.home() / "machines"
    drafts += [machines / ".gone.new", machines / ".tmp-0123456789ab.new"]
    drafts += [snapshots.snapshot_folder(warm_paths("warm-01234567-89abcdef"), "warm").with_name(".warm.new")]
    for draft in drafts[-3:]:
        draft.mkdir(parents=True)
    with machine_lock(mine):
        sweep_drafts(mine)
    assert [draft for draft in drafts if draft.exists()] == []
    assert mine.state.exists()
    assert other.spec.exists()


def test_what_is_being_made_stays():
    busy = machine("busy")
    drafts = left(busy)
    with machine_lock(busy):
        sweep_drafts()
        assert all(draft.exists() for draft in drafts)
    sweep_drafts()
    assert not any(draft.exists() for draft in drafts)


def test_a_base_of_ephemeral_machines_that_is_being_made_stays():
    """Its folder is hidden, its lock is not."""
    base = warm_paths("warm-01234567-89abcdef")
    draft = draft_of(base.folder)
    draft.mkdir(parents=True)
    with machine_lock(base):
        sweep_drafts()
        assert draft.exists()
    sweep_drafts()
    assert not draft.exists()


def test_what_only_looks_like_it_stays():
    paths = machine("box")
    others = [
        paths.folder / name
        for name in (".machine.yaml.swp", ".machine.yaml.mycopy_of_it", "notes.new", ".shares-before.json.ab12_xyz")
    ]
    for file in others:
        file.touch()
    sweep_drafts(paths)
    assert all(file.exists() for file in others), "its agent may be writing the last one"


def test_with_its_agent_gone_a_start_clears_what_that_left_too():
    paths = machine("box")
    paths.run_dir.mkdir(parents=True)
    drafts = [paths.folder / ".shares-before.json.ab12_xyz", paths.folder / ".console.log.1.ab12_xyz"]
    drafts += [paths.folder / ".boot.initramfs.ab12_xyz", paths.run_dir / ".share-server.json.ab12_xyz"]
    for file in drafts:
        file.touch()
    clear_drafts(paths)
    assert [file for file in drafts if file.exists()] == []


def test_a_start_does_so(monkeypatch):
    paths = machine("box")
    draft = left(paths)[-2]
    driver = SimpleNamespace(
        state=lambda: DomainState.OFF,
        kill=lambda: None,
        has_crashed=lambda: False,
        features=SimpleNamespace(remote=False, saves_state=False),
    )

    def far_enough(*_, **__):
        raise MachineError("far enough")

    monkeypatch.setattr(boot, "machine_driver", lambda *_: driver)
    monkeypatch.setattr(boot, "make_domain", far_enough)
    for name in ("machine_image", "grow_disk"):
        monkeypatch.setattr(boot, name, lambda *_: None)
    monkeypatch.setattr(boot, "begin_check", lambda *_: lambda: None)
    engine = SimpleNamespace(socket="", seed=lambda *_: {})
    with pytest.raises(MachineError, match="far enough"):
        boot.start_machine(paths, NullProgress(), engine)
    assert not draft.exists()


def a_creation(monkeypatch):
    monkeypatch.setattr(create, "require_engine", lambda *_, **__: None)
    monkeypatch.setattr(create, "pick_driver", lambda *_: "qemu")
    monkeypatch.setattr(create, "create_disk", lambda path, _: path.touch())
    spec = MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())
    create.create_machine(MachinePaths.of("fresh"), spec, SimpleNamespace(arch="amd64", digest="0"))


def a_clone(monkeypatch):
    monkeypatch.setattr(clone, "freeze_disks", lambda *_: {})
    clone.build_machine(MachinePaths.of("fresh"), MachinePaths.of("box"), STATE)


def a_snapshot(monkeypatch):
    monkeypatch.setattr(snapshots, "freeze_disks", lambda *_: {})
    create_snapshot(MachinePaths.of("box"), "fresh", NullProgress(), str)


def a_removal(monkeypatch):
    remove_machine(MachinePaths.of("box"), NullProgress())


def a_prune(monkeypatch):
    monkeypatch.setattr(space, "ensure_ready", lambda _: None)
    monkeypatch.setattr(space, "prune_engine", lambda *_: {})
    monkeypatch.setattr(space, "trim_machine", lambda _: None)
    monkeypatch.setattr(space, "say", lambda *_: None)
    space.prune(build_parser().parse_args(["prune", "box"]))


@pytest.mark.parametrize("act", [a_creation, a_clone, a_snapshot, a_removal, a_prune])
def test_what_makes_or_removes_something_takes_it_along(monkeypatch, act):
    machine("box")
    other = machine("other")
    drafts = left(other)
    act(monkeypatch)
    assert [draft for draft in drafts if draft.exists()] == []


def test_a_disk_that_was_never_finished_keeps_no_layer(monkeypatch):
    """It cannot be read, and no layer goes while a disk cannot be read."""
    paths = machine("box")
    (snapshots.snapshot_folder(paths, "kept")).mkdir(parents=True)
    left(paths)
    with layers_lock() as folder:
        (folder / "alone.qcow2").write_bytes(DISK)
    remove_snapshot(paths, "kept")
    assert list(places.layers().iterdir()) == []
