"""libvirt's calls have no deadlines of their own: those of the driver's have."""

from __future__ import annotations

import signal
import sys
import threading
from types import SimpleNamespace

import pytest

from hostvm.drivers.libvirt import driver as module
from hostvm.drivers.libvirt.driver import LibvirtDriver
from hostvm.errors import DriverError, DriverTimeout


class LibvirtError(Exception):
    def get_error_code(self):
        return 42


@pytest.fixture
def domain(monkeypatch):
    """One whose hypervisor answers when the test says so; what is done to it is in `done`."""
    answer = threading.Event()
    done = []

    def hang(*_):
        assert answer.wait(30)
        return 0

    def act(name):
        return lambda *_: done.append(name) or 0

    found = SimpleNamespace(answer=answer, hang=hang, done=done, shutdownFlags=hang, destroy=hang, isActive=hang)
    found.state = lambda *_: (3, 0)
    found.suspend, found.resume, found.abortJob = act("suspend"), act("resume"), act("abort")
    found.blockResize = hang
    connection = SimpleNamespace(close=lambda: 0, lookupByUUIDString=lambda _: found)
    connection.getVersion, connection.getLibVersion, connection.getType = lambda: 7_002_022, lambda: 9_000_000, str
    found.connect = lambda: connection
    libvirt = SimpleNamespace(
        libvirtError=LibvirtError,
        VIR_ERR_NO_DOMAIN=42,
        VIR_ERR_OPERATION_INVALID=55,
        VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN=1,
        VIR_DOMAIN_START_PAUSED=1,
        VIR_DOMAIN_SAVE_PAUSED=4,
        VIR_DOMAIN_PAUSED=3,
        VIR_DOMAIN_BLOCK_RESIZE_BYTES=1,
        open=lambda _: connection,
        registerErrorHandler=lambda *_: None,
    )
    monkeypatch.setitem(sys.modules, "libvirt", libvirt)
    monkeypatch.setattr(module, "build_domain", lambda _: "<domain/>")
    monkeypatch.setattr(module, "_monitor_of", lambda *_: "")
    monkeypatch.setattr(module, "backing_of", lambda _: None)
    found.connection = connection
    yield found
    answer.set()


@pytest.fixture
def impatient(monkeypatch, domain):
    """No deadline is longer than a moment; where there is none, hanging calls end by themselves."""
    for name in ("PRESS_TIMEOUT", "KILL_TIMEOUT", "START_TIMEOUT", "ANSWER_TIMEOUT", "TRANSFER_TIMEOUT"):
        monkeypatch.setattr(module, name, 0.05, raising=False)
    monkeypatch.setattr("hostvm.drivers.libvirt.connection.UNDO_TIMEOUT", 0.05, raising=False)
    timer = threading.Timer(10, domain.answer.set)
    timer.start()
    yield
    timer.cancel()


@pytest.fixture
def wanted(tmp_path):
    """A domain that is off as yet."""
    disk = tmp_path / "data.qcow2"
    return SimpleNamespace(accel="tcg", console=tmp_path / "console.log", ssh_port=2222, data_disk=disk, disks=())


@pytest.mark.parametrize("act", ["powerdown", "kill", "wait_off"])
@pytest.mark.usefixtures("impatient")
def test_a_stop_does_not_wait_for_ever(domain, act):
    assert domain
    with pytest.raises(DriverError, match="does not answer"):
        getattr(LibvirtDriver("box", "u"), act)(*([0.05] if act == "wait_off" else []))


@pytest.mark.parametrize("step", ["state", "suspend", "resume", "blockResize", "getVersion"])
@pytest.mark.usefixtures("impatient")
def test_nor_does_a_pause_or_a_larger_disk(domain, step):
    driver = LibvirtDriver("box", "u")
    if step == "suspend":
        domain.state = lambda: (1, 0)
    setattr(domain.connection if step == "getVersion" else domain, step, domain.hang)
    ways = {"blockResize": lambda: driver.grow_disk(1), "getVersion": lambda: driver.hypervisor(None)}
    ways |= {"resume": driver.unpause}
    with pytest.raises(DriverTimeout) as caught:
        ways.get(step, driver.pause)()
    assert caught.value == DriverTimeout(
        "libvirt at qemu:///session does not answer",
        "no answer within 0.05 s",
        "Try it by hand: virsh -c qemu:///session version; or use QEMU without libvirt: --driver qemu",
    )


@pytest.mark.usefixtures("impatient")
def test_a_start_that_is_given_up_leaves_no_domain(domain, wanted):
    begun, destroyed = [domain], threading.Event()

    def create(*_):
        domain.hang()
        return begun[0]

    domain.connection.createXML = create
    domain.connection.lookupByUUIDString = lambda _: None
    domain.destroy = destroyed.set
    with pytest.raises(DriverTimeout, match="does not answer"):
        LibvirtDriver("box", "u").start(wanted)
    domain.answer.set()
    assert destroyed.wait(10)
    assert domain.done == []


@pytest.mark.skipif(sys.platform == "win32", reason="a signal to one thread")
def test_a_start_that_ctrl_c_ends_leaves_no_domain(domain, wanted, monkeypatch):
    monkeypatch.setattr(module, "START_TIMEOUT", 60.0, raising=False)
    interrupted, there = threading.Event(), []

    def create(*_):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        assert interrupted.wait(10)
        there.append(domain)
        return domain

    def give_up(*_args, **_kwargs):
        interrupted.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, give_up)
    domain.connection.createXML = create
    domain.connection.lookupByUUIDString = lambda _: there[0] if there else None
    domain.destroy = lambda: domain.done.append("destroy")
    try:
        with pytest.raises(KeyboardInterrupt):
            LibvirtDriver("box", "u").start(wanted)
    finally:
        signal.signal(signal.SIGINT, before)
    assert domain.done == ["destroy"]


@pytest.mark.usefixtures("impatient")
def test_a_start_that_does_not_run_on_is_given_up(domain, wanted):
    there = []
    domain.connection.createXML = lambda *_: there.append(domain) or domain
    domain.connection.lookupByUUIDString = lambda _: there[0] if there else None
    domain.resume, domain.destroy = domain.hang, lambda: domain.done.append("destroy")
    with pytest.raises(DriverTimeout, match="does not answer"):
        LibvirtDriver("box", "u").start(wanted)
    assert domain.done == ["destroy"]


@pytest.mark.usefixtures("impatient")
def test_a_save_that_takes_too_long_is_undone(domain, tmp_path):
    domain.saveFlags = domain.hang
    told = []
    with pytest.raises(DriverTimeout, match="does not answer"):
        LibvirtDriver("box", "u").save(tmp_path / "ram", told.append)
    assert domain.done == ["abort"]
    assert told == []


@pytest.mark.usefixtures("impatient")
def test_one_that_was_whole_before_it_could_be_undone_counts(domain, tmp_path, monkeypatch):
    monkeypatch.setattr("hostvm.drivers.libvirt.connection.UNDO_TIMEOUT", 10.0, raising=False)
    domain.saveFlags, domain.abortJob = domain.hang, domain.answer.set
    told = []
    LibvirtDriver("box", "u").save(tmp_path / "ram", told.append)
    assert told == [" 7.2.22, by libvirt"]


@pytest.mark.usefixtures("impatient")
def test_memory_that_is_not_loaded_in_time_is_kept(domain, wanted, tmp_path):
    consumed, destroyed = [], threading.Event()
    domain.connection.restoreFlags = domain.hang
    domain.destroy = destroyed.set
    with pytest.raises(DriverTimeout, match="does not answer"):
        LibvirtDriver("box", "u").restore(wanted, tmp_path / "ram", " 7.2.22, by libvirt", lambda: consumed.append(1))
    domain.answer.set()
    assert destroyed.wait(10)
    assert (consumed, domain.done) == ([], [])


def test_memory_is_given_up_when_it_is_loaded_and_before_it_runs(domain, wanted, tmp_path):
    domain.connection.restoreFlags = lambda *_: domain.done.append("load")
    LibvirtDriver("box", "u").restore(
        wanted, tmp_path / "ram", " 7.2.22, by libvirt", lambda: domain.done.append("consume")
    )
    assert domain.done == ["load", "consume", "resume"]


def test_one_that_is_off_or_goes_off_meanwhile_is_stopped(domain):
    domain.answer.set()
    found = LibvirtDriver("box", "u")
    assert found.wait_off(5.0)
    found.powerdown()

    def gone(*_):
        raise LibvirtError

    domain.destroy = gone
    found.kill()
    domain.connection.lookupByUUIDString = gone
    found.powerdown()
    found.kill()
    assert found.wait_off(0.0)


def test_one_that_stays_on_is_told(domain):
    domain.isActive = lambda: 1
    assert not LibvirtDriver("box", "u").wait_off(0.0)
