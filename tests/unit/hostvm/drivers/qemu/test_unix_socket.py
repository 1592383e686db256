from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hostvm.drivers.qemu import unix_socket
from hostvm.errors import DriverError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")


def test_only_the_owner_may_connect(tmp_path):
    with unix_socket.listen(tmp_path / "s"):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
        unix_socket.connect(tmp_path / "s", 1).close()


def test_a_socket_left_behind_is_replaced(tmp_path):
    unix_socket.listen(tmp_path / "s").close()
    with pytest.raises(ConnectionRefusedError):
        unix_socket.connect(tmp_path / "s", 1)
    with unix_socket.listen(tmp_path / "s"):
        unix_socket.connect(tmp_path / "s", 1).close()


def test_no_socket_at_all(tmp_path):
    with pytest.raises(FileNotFoundError):
        unix_socket.connect(tmp_path / "s", 1)


def test_a_path_must_be_short():
    unix_socket.check_path(Path("/" + "a" * 102))
    with pytest.raises(DriverError, match="too long") as caught:
        unix_socket.check_path(Path("/" + "ü" * 52))
    assert caught.value.resolution == "Use a shorter folder for sockets: export HOSTVM_RUN=/tmp/hostvm"
