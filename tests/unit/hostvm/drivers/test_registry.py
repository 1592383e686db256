from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from hostvm.drivers import registry
from hostvm.drivers.libvirt import connection
from hostvm.errors import DriverError, SpecError


@pytest.fixture
def opens(monkeypatch):
    """Whether libvirt's connection opens."""
    asked: list[tuple[str, float]] = []
    world = {"error": None, "asked": asked}

    @contextlib.contextmanager
    def connected(uri, timeout):
        asked.append((uri, timeout))
        if world["error"]:
            raise world["error"]
        yield object()

    monkeypatch.setattr(connection, "connected", connected)
    monkeypatch.setattr(registry.sys, "platform", "linux")
    return world


def test_what_is_asked_for_is_taken_without_a_look(opens):
    assert [registry.pick_driver("qemu"), registry.pick_driver("libvirt")] == ["qemu", "libvirt"]
    assert opens["asked"] == []


def test_auto_takes_libvirt_when_it_answers(opens):
    assert registry.pick_driver("auto") == "libvirt"
    assert opens["asked"] == [("qemu:///session", 3.0)]


def test_auto_takes_qemu_when_libvirt_does_not(opens):
    opens["error"] = DriverError("no connection")
    assert registry.pick_driver("auto") == "qemu"


def test_a_named_libvirt_is_not_silently_replaced(opens):
    opens["error"] = DriverError("no connection")
    with pytest.raises(DriverError):
        registry.pick_driver("auto", "qemu+ssh://host/system")


def test_windows_has_no_libvirt(opens, monkeypatch):
    monkeypatch.setattr(registry.sys, "platform", "win32")
    assert registry.pick_driver("auto") == "qemu"


@pytest.mark.parametrize(
    "call", [registry.pick_driver, lambda kind: registry.open_driver(kind, name="n", uuid="u", run_dir=Path("/r"))]
)
def test_an_unknown_word_is_refused(call):
    with pytest.raises(SpecError, match="unknown driver 'xen'") as caught:
        call("xen")
    assert caught.value.resolution


def test_drivers_are_opened_without_touching_anything():
    qemu = registry.open_driver("qemu", name="n", uuid="u", run_dir=Path("/r"))
    local = registry.open_driver("libvirt", name="n", uuid="u", run_dir=Path("/r"))
    remote = registry.open_driver("libvirt", name="n", uuid="u", run_dir=Path("/r"), uri="qemu+ssh://host/system")
    assert [driver.features.name for driver in (qemu, local, remote)] == ["qemu", "libvirt", "libvirt"]
    assert [driver.features.remote for driver in (qemu, local, remote)] == [False, False, True]
