"""Saving through libvirt, whose call ends the domain: nothing comes between it and the record."""

from __future__ import annotations

import signal
import sys
from types import SimpleNamespace

import pytest

from hostvm.drivers.libvirt import driver as module
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
    libvirt = SimpleNamespace(libvirtError=Exception, open=lambda _: connection, registerErrorHandler=lambda *_: None)
    libvirt.VIR_DOMAIN_SAVE_PAUSED = 4
    monkeypatch.setitem(sys.modules, "libvirt", libvirt)
    return found


def test_ctrl_c_waits_until_what_was_saved_is_recorded(domain, tmp_path):
    told = []
    with pytest.raises(KeyboardInterrupt):
        LibvirtDriver("box", "u").save(tmp_path / "ram", told.append)
    assert domain.saved == str(tmp_path / "ram")
    assert told == ["QEMU 7.2.22, by libvirt"]


SAVED = """\
<domain type="qemu"><name>hostvm-box</name><devices>
<disk type="file"><source file="/data.qcow2"/><backingStore/><target dev="vdb"/></disk>
<disk type="file"><source file="/disk-one.qcow2"/><target dev="vdc"/></disk>
</devices></domain>
"""


@pytest.mark.parametrize("overlay", ["", "data.qcow2", "disk-one.qcow2"])
def test_what_a_disk_stands_on_by_now_is_looked_for(domain, monkeypatch, tmp_path, overlay):
    """A snapshot, or a clone of a suspended machine, makes it an overlay: without its layer the guest reads zeros."""
    connection = domain.connect()
    restored = []
    connection.saveImageGetXMLDesc = lambda path, _flags: SAVED if path == str(tmp_path / "ram") else None
    connection.restoreFlags = lambda *words: restored.append(words)
    domain.resume = lambda: 0
    monkeypatch.setattr(module, "_monitor_of", lambda *_: "")
    monkeypatch.setattr(module, "backing_of", lambda path: tmp_path / "layer" if path.name == overlay else None)
    more = (SimpleNamespace(path=tmp_path / "disk-one.qcow2"),)
    machine = SimpleNamespace(data_disk=tmp_path / "data.qcow2", disks=more, ssh_port=4022)
    LibvirtDriver("box", "u").restore(machine, tmp_path / "ram", "QEMU 7.2.22, by libvirt", lambda: None)
    ((path, xml, flags),) = restored
    assert (path, flags) == (str(tmp_path / "ram"), 4)
    assert xml == (SAVED.replace("<backingStore/>", "").replace('"/>', '" />').strip() if overlay else None)
