"""What may change of a machine that exists, and what waits for its restart."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

from hostvm.drivers.base import DomainState
from hostvm.errors import DriverError, MachineError, SpecError
from hostvm.guest import Completed
from hostvm.machines import change
from hostvm.machines.change import apply_change, check_change, keys_in_words, note_booted, pending
from hostvm.paths import MachinePaths
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, PortSettings, render_spec

SPEC = MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())


@pytest.mark.parametrize(
    ("engine", "wanted", "words"),
    [
        ("docker", "podman", "hostvm -m NAME docker save IMAGE | hostvm -m NEW docker load"),
        ("podman", "containerd", "hostvm -m NAME docker save IMAGE | hostvm -m NEW ctr images import -"),
        ("containerd", "docker", "hostvm -m NAME ctr images export - IMAGE | hostvm -m NEW docker load"),
    ],
)
def test_an_engine_stays_and_its_images_can_be_moved(engine, wanted, words):
    with pytest.raises(SpecError) as caught:
        check_change(replace(SPEC, engine=engine), replace(SPEC, engine=wanted), disk=10 * GIB, running=True)
    assert caught.value.details == f"engine: is decided when a machine is made; this one has {engine}"
    ways = caught.value.resolution.splitlines()
    assert ways[0] == f"make a machine with the other engine: hostvm start NEW --engine {wanted}"
    assert ways[1] == f"then bring images over: {words}"


def test_what_is_decided_when_a_machine_is_made_stays():
    after = replace(SPEC, image="other", driver="qemu", disk=5 * GIB, libvirt_uri="x:///", cpus=2)
    with pytest.raises(SpecError) as caught:
        check_change(SPEC, after, disk=10 * GIB, running=True)
    assert caught.value.details.splitlines() == [
        "driver: is decided when a machine is made; this one has auto",
        "image: changes by an upgrade, which may fail; this one has docker",
        "disk: 5GiB is less than the 10GiB it has; a disk cannot become smaller",
        "libvirt_uri: cannot change while the machine runs",
    ]
    assert caught.value.resolution.splitlines()[:2] == [
        "stop it, then try again: hostvm stop NAME",
        "hostvm upgrade NAME --image other",
    ]
    check_change(SPEC, replace(SPEC, libvirt_uri="x:///", disk=11 * GIB), disk=10 * GIB, running=False)


def test_keys_in_a_sentence():
    assert [keys_in_words(keys) for keys in (("a",), ("a", "b"), ("a", "b", "c"))] == ["a", "a and b", "a, b and c"]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with a header of a disk, and a hypervisor that says what the test wants."""
    paths = MachinePaths.of("ci")
    for folder in (paths.folder, paths.run_dir):
        folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(SPEC))
    paths.data_disk.write_bytes(b"QFI\xfb" + bytes(20) + SPEC.disk.to_bytes(8, "big"))
    told = argparse.Namespace(paths=paths, power=DomainState.OFF, grown=[], refuse=None, resized=0)

    def grow(size):
        if told.refuse:
            raise told.refuse
        told.grown.append(size)

    driver = argparse.Namespace(state=lambda: told.power, grow_disk=grow)
    monkeypatch.setattr(change, "load_state", lambda _: None)
    monkeypatch.setattr(change, "machine_driver", lambda *_: driver)
    monkeypatch.setattr(change, "grow_disk", lambda path, size: told.grown.append((path.name, size)))
    monkeypatch.setattr(change, "run_in_guest", lambda *_, **__: Completed(told.resized, b"", b"no room"))
    return told


def apply(machine, **changes):
    after = replace(SPEC, **changes)
    return apply_change(machine.paths, render_spec(after), after, SPEC)


def test_the_commands_that_help_are_of_this_machine(machine):
    machine.power = DomainState.RUNNING
    with pytest.raises(SpecError) as caught:
        apply(machine, engine="podman", image="other", libvirt_uri="x:///")
    assert caught.value.resolution.splitlines() == [
        "stop it, then try again: hostvm stop ci",
        "hostvm upgrade ci --image other",
        "make a machine with the other engine: hostvm start NEW --engine podman",
        "then bring images over: hostvm -m ci docker save IMAGE | hostvm -m NEW docker load",
        "leave them as they are, or make another machine: hostvm create NEW",
    ]
    machine.power = DomainState.OFF
    machine.paths.suspended.touch()
    with pytest.raises(SpecError) as caught:
        apply(machine, disk=11 * GIB)
    assert caught.value.resolution.splitlines()[0] == "let it go on, then try again: hostvm resume ci"


def test_a_machine_that_is_off_waits_for_nothing(machine):
    assert apply(machine, cpus=2).waiting == ()
    assert apply(machine, disk=20 * GIB).notes == (
        "the data disk has 20GiB now; its file system grows at the next start",
    )
    assert machine.grown == [("data.qcow2", 20 * GIB)]


def test_a_running_machine_waits_for_what_counts_from_its_start(machine):
    machine.power = DomainState.RUNNING
    note_booted(machine.paths, SPEC)
    outcome = apply(machine, cpus=2, autostart=False, ports=PortSettings("lan"))
    assert outcome.changed == ("cpus", "autostart", "ports")
    assert outcome.waiting == ("cpus", "ports")
    assert apply(machine).waiting == (), "changed back"


def test_its_disk_grows_at_once(machine):
    machine.power = DomainState.RUNNING
    assert apply(machine, disk=20 * GIB).notes == ("the data disk has 20GiB now, and so has its file system",)
    assert machine.grown == [20 * GIB]


def test_or_the_user_is_told_when(machine):
    machine.power = DomainState.RUNNING
    machine.resized = 1
    assert apply(machine, disk=20 * GIB).notes[0].endswith("at the next start, since resize2fs failed: no room")
    machine.refuse = DriverError("QEMU refuses block_resize")
    (note,) = apply(machine, disk=30 * GIB).notes
    assert note == "the data disk grows at the next start, since the running machine refuses: QEMU refuses block_resize"


def test_nothing_is_written_that_may_not_be(machine):
    before = machine.paths.spec.read_text()
    with pytest.raises(SpecError):
        apply(machine, disk=5 * GIB)
    assert machine.paths.spec.read_text() == before


def test_nothing_is_written_when_the_disk_cannot_grow(machine, monkeypatch):
    def full(*_):
        raise MachineError("cannot resize the disk", "this computer's disk is full", "df -h")

    monkeypatch.setattr(change, "grow_disk", full)
    machine.paths.spec.write_text("# mine\n" + render_spec(SPEC))
    before = machine.paths.spec.read_bytes()
    with pytest.raises(MachineError, match="cannot resize"):
        apply(machine, cpus=2, disk=20 * GIB)
    assert machine.paths.spec.read_bytes() == before


def test_a_machine_whose_start_is_not_known_waits_for_nothing(machine):
    assert pending(machine.paths, replace(SPEC, cpus=4)) == ()


def test_the_disk_of_a_suspended_machine_does_not_grow(machine):
    note_booted(machine.paths, SPEC)
    machine.paths.suspended.write_text("{}")
    with pytest.raises(SpecError) as caught:
        apply(machine, disk=20 * GIB)
    assert caught.value.details == "disk: cannot grow while the machine is suspended"
    assert "hostvm resume ci" in caught.value.resolution
    assert not machine.grown
    assert apply(machine, cpus=2).waiting == ("cpus",), "it goes on with those it had"
