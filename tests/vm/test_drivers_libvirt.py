"""LibvirtDriver with real guests on qemu:///session, which only an ordinary user has.

As root these are run by test_libvirt_as_user.py, for a user that it makes.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path
from uuid import uuid4

import pytest

from hostvm import process_id
from hostvm.drivers.base import DomainState, Hardware
from hostvm.drivers.consoles import cut_console, previous_console
from hostvm.drivers.libvirt.connection import connected
from hostvm.drivers.libvirt.driver import LibvirtDriver
from hostvm.drivers.registry import open_driver, pick_driver
from hostvm.errors import DriverError, PortTaken
from hostvm.sizes import MIB

libvirt = pytest.importorskip("libvirt", reason="libvirt-python is not installed: make setup")

pytestmark = [
    pytest.mark.vm,
    pytest.mark.libvirt,
    pytest.mark.skipif(
        hasattr(os, "geteuid") and os.geteuid() == 0, reason="root has no session; see test_libvirt_as_user.py"
    ),
]
URI = "qemu:///session"


@pytest.fixture
def driver(tiny):
    made = LibvirtDriver(tiny.name, tiny.domain.uuid)
    yield made
    made.kill()


def domains() -> list[str]:
    with connected(URI) as connection:
        return [domain.name() for domain in connection.listAllDomains()]


def test_a_whole_life(tiny, driver):
    """Start, what the guest sees, the forward, the power button, and nothing left."""
    assert driver.state() is DomainState.OFF
    driver.start(tiny.domain)
    assert driver.state() is DomainState.RUNNING
    assert f"hostvm-{tiny.name}" in domains()
    facts = tiny.wait_for("up", 120)
    assert facts["image"] == ["readable"]
    assert (facts["vda.readonly"], facts["vdb.readonly"]) == (["1"], ["0"])
    assert (facts["vda.serial"], facts["vdb.serial"]) == (["root"], ["data"])
    assert facts["cpus"] == ["2"]
    assert facts["mac"] == [tiny.domain.mac]
    assert sorted(facts["virtio"]) == ["1", "2", "2", "4", "5"]
    assert tiny.banner() == b"hello from the guest\n"
    tiny.check_forwards(driver)
    assert driver.hardware() == Hardware(2, tiny.domain.memory, 64 * MIB)
    driver.grow_disk(128 * MIB)
    assert driver.hardware().disk == 128 * MIB

    assert cut_console(tiny.domain.console, tiny.domain.console.stat().st_size - 1)
    driver.powerdown()
    assert driver.wait_off(60)
    assert list(tiny.facts) == ["button"], "it goes on where the console was cut"
    assert "\0" not in tiny.console
    assert driver.state() is DomainState.OFF
    assert driver.hardware() is None
    with pytest.raises(DriverError):
        driver.grow_disk(256 * MIB)
    assert f"hostvm-{tiny.name}" not in domains()
    driver.powerdown()
    driver.kill()


def test_a_paused_domain_is_seen_and_a_second_start_refused(tiny, driver):
    driver.start(tiny.domain)
    with connected(URI) as connection:
        connection.lookupByUUIDString(tiny.domain.uuid).suspend()
    assert driver.state() is DomainState.PAUSED
    assert not driver.wait_off(0.2)
    with pytest.raises(DriverError, match="already runs"):
        driver.start(tiny.domain)
    driver.kill()
    assert driver.state() is DomainState.OFF


def test_the_guest_outlives_who_started_it_and_keeps_its_disk(tiny, driver):
    child = os.fork()
    if child == 0:
        driver.start(tiny.domain)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert tiny.wait_for("up", 120)["before"] == [""]
    driver.kill()
    driver.start(tiny.domain)
    assert tiny.wait_for("up", 120)["before"] == ["written"]
    assert "fact: up" in previous_console(tiny.domain.console).read_text()


def test_a_taken_port_is_told_apart_and_leaves_no_domain(tiny, driver):
    with socket.socket() as other:
        other.bind(("127.0.0.1", tiny.domain.ssh_port))
        other.listen()
        with pytest.raises(PortTaken):
            driver.start(tiny.domain)
    assert driver.state() is DomainState.OFF
    assert f"hostvm-{tiny.name}" not in domains()


def test_libvirt_s_own_words_are_told_and_not_printed(tiny, driver, capfd):
    with pytest.raises(DriverError) as caught:
        driver.start(dataclasses.replace(tiny.domain, data_disk=Path("/no/such/disk")))
    assert "/no/such/disk" in (caught.value.details or "")
    assert caught.value.resolution
    assert capfd.readouterr() == ("", "")


def test_it_is_the_default_here(tmp_path):
    assert pick_driver("auto") == "libvirt"
    made = open_driver("libvirt", name="none", uuid=str(uuid4()), run_dir=tmp_path)
    assert made.state() is DomainState.OFF
    assert made.wait_off(1)


def test_a_daemon_that_is_not_there_is_told(tmp_path):
    gone = f"qemu+unix:///session?socket={tmp_path}/none"
    with pytest.raises(DriverError, match="no connection to libvirt"), connected(gone, 10):
        pytest.fail("connected")


def test_qemu_ends_with_its_domain(tiny, driver):
    driver.start(tiny.domain)
    with connected(URI) as connection:
        xml = connection.lookupByUUIDString(tiny.domain.uuid).XMLDesc()
    assert f"<uuid>{tiny.domain.uuid}</uuid>" in xml
    run_dir = Path(os.environ.get("XDG_RUNTIME_DIR", "/none"), "libvirt", "qemu", "run")
    pid = int((run_dir / f"hostvm-{tiny.name}.pid").read_text())
    assert tiny.domain.uuid in process_id.command_of(pid)
    driver.kill()
    assert process_id.identify(pid) is None
