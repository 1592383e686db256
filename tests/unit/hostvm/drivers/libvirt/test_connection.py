from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import pytest

from hostvm.drivers.libvirt import connection
from hostvm.errors import DriverError, DriverGone

_NONE, _ENDED = "no connection to libvirt at qemu:///system", "libvirt at qemu:///system ended meanwhile"


class LibvirtError(Exception):
    pass


@pytest.fixture
def libvirt(monkeypatch):
    """The parts of the module that connections use."""
    opened = SimpleNamespace(closed=0)
    opened.close = lambda: setattr(opened, "closed", opened.closed + 1) or 0
    module = SimpleNamespace(
        libvirtError=LibvirtError, open=lambda _uri: opened, registerErrorHandler=lambda *_: None, opened=opened
    )
    monkeypatch.setitem(sys.modules, "libvirt", module)
    return module


def test_a_connection_is_closed_again(libvirt):
    with connection.connected("qemu:///session") as found:
        assert found is libvirt.opened
    assert libvirt.opened.closed == 1


def test_an_error_inside_is_told_in_our_shape_and_the_connection_closed(libvirt):
    with pytest.raises(DriverError) as caught, connection.connected("qemu:///session"):
        raise LibvirtError("unsupported configuration: no")
    assert caught.value == DriverError(
        "libvirt refuses",
        "unsupported configuration: no",
        "Look at it yourself: virsh -c qemu:///session list --all",
    )
    assert libvirt.opened.closed == 1


@pytest.mark.parametrize(
    ("text", "brief", "kind"),
    [
        ("Failed to connect socket to '/run/libvirt/x': No such file", _NONE, DriverGone),
        ("Cannot recv data: Connection reset by peer", _ENDED, DriverGone),
        ("End of file while reading data: Input/output error", _ENDED, DriverGone),
        ("internal error: client socket is closed", _ENDED, DriverGone),
        ("Cannot access storage file '/h/d' (as uid:64055)", "libvirt cannot open a file of the machine", DriverError),
    ],
)
def test_known_words_get_a_better_title(text, brief, kind):
    error = connection.translate(LibvirtError(text), "qemu:///system")
    assert (error.brief, error.details, type(error)) == (brief, text, kind)
    assert error.resolution


def test_a_daemon_that_does_not_answer_is_not_waited_for(libvirt):
    never = threading.Event()
    libvirt.open = lambda _uri: never.wait(30)
    with pytest.raises(DriverError, match="no answer within"), connection.connected("qemu:///session", 0.05):
        pytest.fail("connected")
    never.set()


def test_without_libvirt_python(monkeypatch):
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(DriverError) as caught:
        connection.import_libvirt()
    assert caught.value.resolution == "Install it: pip install 'hostvm[libvirt]'"
