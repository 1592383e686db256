"""A named pipe that docker clients of this user connect to. Windows only.

As dockerd's own pipe it is of message type, read as bytes: an empty message is what go-winio, docker's library for
pipes, means by "no more from this side", so that half-close works as over a socket
(https://github.com/microsoft/go-winio, win32MessageBytePipe). Reading and writing are overlapped, because a plain
handle lets a write wait for a read that waits. `_winapi` is CPython's own, as multiprocessing uses it.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import sys
import threading
from ctypes import wintypes

assert sys.platform == "win32"  # tells mypy too, which then checks the rest for Windows only

import _winapi  # noqa: E402 - only Windows has it

from hostvm.platform.windows_security import OnlyThisUser  # noqa: E402

_FIRST_INSTANCE = 0x00080000
_TYPE_MESSAGE, _REJECT_REMOTE = 0x4, 0x8
_BUFFER = 64 * 1024
_ERROR_BROKEN_PIPE, _ERROR_NO_DATA, _ERROR_NOT_CONNECTED, _ERROR_PIPE_CONNECTED = 109, 232, 233, 535
_ERROR_OPERATION_ABORTED = 995
_GONE = (_ERROR_BROKEN_PIPE, _ERROR_NO_DATA, _ERROR_NOT_CONNECTED, _ERROR_OPERATION_ABORTED)

_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel.CreateEventW.restype = wintypes.HANDLE
_kernel.CreateEventW.argtypes = (ctypes.c_void_p, wintypes.BOOL, wintypes.BOOL, wintypes.LPCWSTR)
for _name in ("SetEvent", "DisconnectNamedPipe", "FlushFileBuffers"):
    getattr(_kernel, _name).argtypes = (wintypes.HANDLE,)


class PipeListener:
    r"""Serves `\\.\pipe\NAME`, for this user and the system, and for this computer alone.

    :raises OSError: the name is taken, by another user too, or Windows refuses.
    """

    def __init__(self, name: str) -> None:
        self.path = rf"\\.\pipe\{name}"
        self.closed = False
        self._security = OnlyThisUser()
        self._stop = _kernel.CreateEventW(None, 1, 0, None)
        self._waiting = self._instance(first=True)

    def accept(self) -> PipeConnection:
        """The next connection.

        :raises OSError: the listener was closed, or Windows makes no further instance now: the client that came is
            kept for the next call.
        """
        while True:
            connected = self._connected()
            if self.closed:
                _winapi.CloseHandle(self._waiting)
                self._security.close()
                raise ConnectionAbortedError("the listener was closed")
            # The next instance first, so that there is one at any time: a client that finds none gives up.
            taken, self._waiting = self._waiting, self._instance(first=False)
            if connected:
                return PipeConnection(taken)
            _winapi.CloseHandle(taken)

    def admit(self, connection: PipeConnection) -> bool:
        """Whether the connection may be served; Windows has checked that already."""
        del connection
        return True

    def close(self) -> None:
        """Stop listening and wake `accept`. Idempotent."""
        self.closed = True
        _kernel.SetEvent(self._stop)

    def _instance(self, *, first: bool) -> int:
        mode = _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED | (_FIRST_INSTANCE if first else 0)
        return _winapi.CreateNamedPipe(
            *(self.path, mode, _TYPE_MESSAGE | _REJECT_REMOTE, _winapi.PIPE_UNLIMITED_INSTANCES),
            *(_BUFFER, _BUFFER, 0, self._security.attributes),
        )

    def _connected(self) -> bool:
        """Wait for a client at the waiting instance; False when it left again at once, or the listener closes."""
        try:
            pending = _winapi.ConnectNamedPipe(self._waiting, overlapped=True)
        except OSError as error:
            return error.winerror == _ERROR_PIPE_CONNECTED
        try:
            _winapi.WaitForMultipleObjects([pending.event, self._stop], False)  # noqa: FBT003 - positional only
            if self.closed:
                pending.cancel()
            _, status = pending.GetOverlappedResult(True)  # noqa: FBT003
        except OSError:
            return False
        return status == 0


class PipeConnection:
    """One client's end of a pipe, with those methods of a socket that a relay needs. Each direction has one thread."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._ended = threading.Event()  # the client sends no more
        self._gone = False
        self._closed = False

    def recv(self, size: int) -> bytes:
        """See `socket.recv`; empty when the client has ended its side or is gone."""
        if self._ended.is_set():
            return b""
        data = self._read(size)
        if not data:
            self._ended.set()
        return data

    def sendall(self, data: bytes) -> None:
        """See `socket.sendall`.

        :raises BrokenPipeError: the client is gone.
        """
        view = memoryview(data)
        while view:
            view = view[self._write(bytes(view[:_BUFFER])) :]

    def shutdown(self, how: int) -> None:
        """See `socket.shutdown`: SHUT_WR tells the client that no more comes, SHUT_RDWR cuts it off."""
        if how == socket.SHUT_WR:
            # First all must have been read: an empty message right behind data would be read as a part of it.
            if _kernel.FlushFileBuffers(self._handle):
                with contextlib.suppress(BrokenPipeError):
                    self._write(b"")
        elif how == socket.SHUT_RDWR:
            _kernel.DisconnectNamedPipe(self._handle)

    def wait_hangup(self) -> None:
        """Wait until the client, which has ended its side, is gone altogether."""
        while not self._gone:
            self._read(1)

    def close(self) -> None:
        """Drop the connection; what the client has not read yet is lost unless `shutdown` came before. Idempotent."""
        if not self._closed:
            self._closed = True
            _kernel.DisconnectNamedPipe(self._handle)
            _winapi.CloseHandle(self._handle)

    def _read(self, size: int) -> bytes:
        try:
            pending, _ = _winapi.ReadFile(self._handle, size, overlapped=True)
            got, status = pending.GetOverlappedResult(True)  # noqa: FBT003
        except OSError as error:
            if error.winerror not in _GONE:
                raise
            got, status = 0, _ERROR_BROKEN_PIPE
        if status in _GONE:
            self._gone = True
            return b""
        return bytes(pending.getbuffer() or b"")[:got]

    def _write(self, data: bytes) -> int:
        try:
            pending, _ = _winapi.WriteFile(self._handle, data, overlapped=True)
            sent, status = pending.GetOverlappedResult(True)  # noqa: FBT003
        except OSError as error:
            if error.winerror not in _GONE:
                raise
            raise BrokenPipeError(f"the client of {self._handle} is gone") from error
        if status in _GONE:
            raise BrokenPipeError("the client is gone")
        return sent
