"""Saving through libvirt, whose call ends the domain: nothing comes between it and the record."""

from __future__ import annotations

import signal
import sys
from types import SimpleNamespace

import pytest

from hostvm.drivers.libvirt.driver import LibvirtDriver


@pytest.fixture
def domain(monkeypatch):
    """One that a user gives up saving in the midst of it."""
    connection = SimpleNamespace(
        close=lambda: 0, getLibVersion=lambda: 9_000_000, getVersion=lambda: 7_002_022, getType=lambda: "QEMU"
    )

    def save(path, _xml, _flags):
        signal.raise_signal(signal.SIGINT)
        found.saved = path

    found = SimpleNamespace(connect=lambda: connection, saveFlags=save, saved=None)
    connection.lookupByUUIDString = lambda _: found
    module = SimpleNamespace(libvirtError=Exception, open=lambda _: connection, registerErrorHandler=lambda *_: None)
    monkeypatch.setitem(sys.modules, "libvirt", module)
    return found


def test_ctrl_c_waits_until_what_was_saved_is_recorded(domain, tmp_path):
    told = []
    with pytest.raises(KeyboardInterrupt):
        LibvirtDriver("box", "u").save(tmp_path / "ram", told.append)
    assert domain.saved == str(tmp_path / "ram")
    assert told == ["QEMU 7.2.22, by libvirt"]
