"""DNS over UDP and TCP on one port of this computer's loopback, which a guest sees at its gateway's address."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from hostvm.agent.accept import NO_DESCRIPTORS_SECONDS, accept_each
from hostvm.net.lookup import read_message
from hostvm.platform.local import close_listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.net.lookup import Lookup

_LOOPBACK = "127.0.0.1"
_WORKERS = 32
_WAITING_MOST = 1000
_IDLE_SECONDS = 10.0
_TRIES = 20


class DnsServer:
    """Answers until it is closed.

    :raises OSError: no port is to be had.
    """

    def __init__(self, lookup: Lookup, log: Callable[[str], None]) -> None:
        self._lookup = lookup
        self._log = log
        self._closed = False
        self._udp, self._tcp = _bind()
        self._waiting = threading.BoundedSemaphore(_WAITING_MOST)
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="dns")
        threading.Thread(target=self._serve_udp, name="dns-udp", daemon=True).start()
        accept_each(lambda: self._tcp.accept()[0], lambda: self._closed, self._converse, "dns-tcp")

    @property
    def port(self) -> int:
        """Of 127.0.0.1, for UDP and TCP alike."""
        return int(self._tcp.getsockname()[1])

    def close(self) -> None:
        """Answer no more. Idempotent."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        close_listener(self._tcp)
        with contextlib.suppress(OSError):  # wakes the reader
            port = self._udp.getsockname()[1]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
                waker.sendto(b"", (_LOOPBACK, port))
        self._udp.close()

    def _serve_udp(self) -> None:
        while True:
            try:
                query, peer = self._udp.recvfrom(65535)
            except ConnectionResetError:
                continue  # Windows' way to tell that a client left before its answer
            except OSError:
                if self._closed:
                    return
                time.sleep(NO_DESCRIPTORS_SECONDS)
                continue
            if self._closed:
                return
            # A flood is dropped, as UDP may: the clients ask again.
            if not self._waiting.acquire(blocking=False):
                continue
            # Closed meanwhile, or no thread can be had: then the query waits for those that there are.
            with contextlib.suppress(RuntimeError):
                self._pool.submit(self._reply, query, peer)

    def _reply(self, query: bytes, peer: tuple[str, int]) -> None:
        try:
            answer = self._lookup.answer(query, stream=False)
            if answer is not None:
                self._udp.sendto(answer, peer)
        except OSError:
            pass  # closed meanwhile
        except Exception as error:  # noqa: BLE001 - one query must not end the server
            self._log(f"dns: {type(error).__name__}: {error}")
        finally:
            self._waiting.release()

    def _converse(self, sock: socket.socket) -> None:
        sock.settimeout(_IDLE_SECONDS)
        try:
            with sock, sock.makefile("rb") as reader:
                while True:
                    answer = self._lookup.answer(read_message(reader.read), stream=True)
                    if answer is None:
                        return
                    sock.sendall(struct.pack("!H", len(answer)) + answer)
        except OSError:
            return  # it left, or was silent
        except Exception as error:  # noqa: BLE001 - as above
            self._log(f"dns: {type(error).__name__}: {error}")


def _bind() -> tuple[socket.socket, socket.socket]:
    """A port that is free for both."""
    for left in reversed(range(_TRIES)):
        tcp = socket.create_server((_LOOPBACK, 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            if not left:
                raise
        else:
            return udp, tcp
    raise OSError("no port is free")
