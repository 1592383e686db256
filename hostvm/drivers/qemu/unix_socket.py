"""Unix sockets for QEMU's monitor, on Windows too, where Python does not offer them."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

from hostvm.errors import DriverError

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_PATH = 103
"""Bytes; macOS' sun_path holds 104 with its end mark, Linux' and Windows' 108."""


def check_path(path: Path) -> None:
    """:raises DriverError: the path is too long for a socket."""
    size = len(os.fsencode(path))
    if size > LONGEST_PATH:
        raise DriverError(
            f"the path of the monitor's socket is too long: {path}",
            f"{size} bytes, at most {LONGEST_PATH} work",
            "Use a shorter folder for sockets: export HOSTVM_RUN=/tmp/hostvm",
        )


if sys.platform == "win32":

    def connect(path: Path, timeout: float) -> socket.socket:
        """Connect to a Unix socket.

        Windows 10 has AF_UNIX (1), and QEMU 7.2 and later listens on it; Python's socket module lacks only the
        address. So the connection is made through ws2_32 and then handed to a socket object.

        :raises OSError: nothing listens there.
        """
        import ctypes

        ws2 = ctypes.WinDLL("ws2_32", use_last_error=True)
        ws2.socket.restype = ctypes.c_size_t
        ws2.connect.argtypes = (ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int)
        ws2.closesocket.argtypes = (ctypes.c_size_t,)
        handle = ws2.socket(1, int(socket.SOCK_STREAM), 0)
        if handle == ctypes.c_size_t(-1).value:
            raise OSError(ws2.WSAGetLastError(), "this Windows has no Unix sockets; Windows 10 1803 or later has")
        address = (1).to_bytes(2, "little") + os.fsencode(path).ljust(108, b"\0")
        if ws2.connect(handle, address, len(address)) != 0:
            code = ws2.WSAGetLastError()
            ws2.closesocket(handle)
            raise ConnectionRefusedError(code, f"cannot connect to {path}")
        connection = socket.socket(1, socket.SOCK_STREAM, 0, fileno=handle)
        connection.settimeout(timeout)
        return connection

else:

    def connect(path: Path, timeout: float) -> socket.socket:
        """Connect to a Unix socket.

        :raises OSError: nothing listens there.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(str(path))
        except BaseException:
            connection.close()
            raise
        return connection

    def listen(path: Path) -> socket.socket:
        """A listening socket that only its owner can connect to; an older socket of this name is replaced.

        The folder must be 0700: that closes the moment between bind and chmod.

        :raises OSError: the folder is not writable.
        """
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(8)
        except BaseException:
            listener.close()
            raise
        return listener
