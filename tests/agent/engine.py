"""A small server on a Unix socket that stands where an engine's API would: answers _ping, and shows half-closes."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class FakeEngine:
    """First line of a connection: an HTTP request for _ping, ECHO (answers after end of file) or HOLD."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held = 0
        self.released = threading.Semaphore(0)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        path.chmod(0o666)
        self._socket.listen(256)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.path.unlink()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rwb") as file:
            line = file.readline()
            if line.startswith(b"GET /_ping"):
                file.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
            elif line == b"ECHO\n":
                data = file.read()
                file.write(data + b"<end>")
            elif line == b"HOLD\n":
                self.held += 1
                file.write(b"held\n")
                file.flush()
                while file.read(1):
                    pass
                # Only a connection whose other side is gone altogether comes to this point without more reading.
                try:
                    while True:
                        sock.sendall(b"x" * 1024)
                except OSError:
                    self.released.release()
