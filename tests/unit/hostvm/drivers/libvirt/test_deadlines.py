"""libvirt's calls have no deadlines of their own: those of the driver's have."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import pytest

from hostvm.drivers.libvirt import driver as module
from hostvm.drivers.libvirt.driver import LibvirtDriver
from hostvm.errors import DriverError


class LibvirtError(Exception):
    def get_error_code(self):
        return 42


@pytest.fixture
def domain(monkeypatch):
    """One whose hypervisor answers when the test says so."""
    answer = threading.Event()

    def hang(*_):
        assert answer.wait(30)
        return 0

    found = SimpleNamespace(answer=answer, shutdownFlags=hang, destroy=hang, isActive=hang)
    connection = SimpleNamespace(close=lambda: 0, lookupByUUIDString=lambda _: found)
    libvirt = SimpleNamespace(
        libvirtError=LibvirtError,
        VIR_ERR_NO_DOMAIN=42,
        VIR_ERR_OPERATION_INVALID=55,
        VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN=1,
        open=lambda _: connection,
        registerErrorHandler=lambda *_: None,
    )
    monkeypatch.setitem(sys.modules, "libvirt", libvirt)
    found.connection = connection
    yield found
    answer.set()


@pytest.mark.parametrize("act", ["powerdown", "kill", "wait_off"])
def test_a_stop_does_not_wait_for_ever(domain, monkeypatch, act):
    for name in ("PRESS_TIMEOUT", "KILL_TIMEOUT"):
        monkeypatch.setattr(module, name, 0.05, raising=False)
    timer = threading.Timer(10, domain.answer.set)  # so that this ends, too, where nothing is given up
    timer.start()
    with pytest.raises(DriverError, match="does not answer"):
        getattr(LibvirtDriver("box", "u"), act)(*([0.05] if act == "wait_off" else []))
    timer.cancel()


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
