"""The Docker Engine API over any two-way stream: HTTP/1.1, one request a connection.

The API's own client library is not used here: it costs 190 ms to import and cannot be given a stream that is
neither a Unix socket nor TCP.
"""

from __future__ import annotations

import http.client
import io
import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from hostvm.errors import HostvmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from hostvm.guest import Stream

# Docker 20.10 and later speak it (Docker 26 and 28 refuse anything below 1.24).
API_VERSION = "v1.41"
_CHUNK = 256 * 1024
ANSWER_MOST = 64 * 1024 * 1024
"""Bytes of an answer that is wanted whole; a list of containers has some two thousand for each."""
_REFUSAL_MOST = 64 * 1024


class EngineApiError(HostvmError):
    """The engine said no; `details` holds its message."""

    def __init__(self, brief: str, details: str | None = None, resolution: str | None = None, status: int = 0) -> None:
        super().__init__(brief, details, resolution)
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.brief, self.details, self.resolution, self.status))


class _Raw(io.RawIOBase):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Socket:
    """The few socket methods that http.client calls."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode
        return io.BufferedReader(_Raw(self._stream), _CHUNK)

    def sendall(self, data: bytes) -> None:
        self._stream.sendall(bytes(data))

    def close(self) -> None:
        """http.client closes the socket while a `Connection: close` body is still read: `EngineApi` closes it."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, stream: Stream) -> None:
        super().__init__("docker")
        self.sock: Any = _Socket(stream)


class EngineApi:
    """Requests to one engine.

    :param connect: opens a new stream to the engine's socket; raises OSError when nothing listens.
    """

    def __init__(self, connect: Callable[[], Stream], machine: str) -> None:
        self._connect = connect
        self._machine = machine

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object | Iterable[bytes] | None = None,
        raw: bool = False,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send one request and give its response, whose body may be read in pieces.

        :param body: sent as JSON, or with `raw` as chunks of bytes (a tar stream).
        :raises EngineApiError: the engine's status is 400 or more, or it cannot be reached.
        :raises OSError: the chunks' own.
        """
        url = f"/{API_VERSION}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            stream = self._connect()
        except OSError as fault:
            raise EngineApiError(
                f"the engine of machine {self._machine} does not answer",
                str(fault),
                f"look with: hostvm status {self._machine}",
            ) from fault
        try:
            connection = _Connection(stream)
            headers = {"Content-Type": "application/x-tar" if raw else "application/json"}
            faults: list[OSError] = []
            payload: Any = _noting(body, faults) if raw else (json.dumps(body) if body is not None else None)
            try:
                # An engine that refuses a stream answers and closes before it has read all of it.
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, url, payload, headers, encode_chunked=raw)
                if faults:  # the body's own: the engine waits for the rest of it
                    raise faults[0]
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as fault:
                if fault in faults:
                    raise
                raise self._cut_off(method, path, fault) from fault
            if response.status >= http.HTTPStatus.BAD_REQUEST:
                raise self._refused(method, path, response)
            yield response
        finally:
            stream.close()

    def _cut_off(self, method: str, path: str, fault: Exception) -> EngineApiError:
        return EngineApiError(
            f"{method} {path} of machine {self._machine} was cut off",
            str(fault),
            f"look with: hostvm status {self._machine}",
        )

    def _refused(self, method: str, path: str, response: http.client.HTTPResponse) -> EngineApiError:
        text = ""
        with suppress(OSError, http.client.HTTPException):
            text = response.read(_REFUSAL_MOST).decode(errors="replace")
        try:
            text = str(json.loads(text)["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            text = text.strip() or response.reason
        return EngineApiError(
            f"the engine of machine {self._machine} refused {method} {path}",
            text,
            f"look with: hostvm logs {self._machine}",
            response.status,
        )

    def call(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: object | None = None
    ) -> Any:
        """One request whose JSON answer is wanted whole; None when the answer is empty.

        :raises EngineApiError: as `open`, or the answer ends too early or never, or is not JSON.
        """
        with self.open(method, path, query=query, body=body) as response:
            try:
                data = self._whole(method, path, response)
                return json.loads(data) if data else None
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as fault:
                raise self._cut_off(method, path, fault) from fault

    def _whole(self, method: str, path: str, response: http.client.HTTPResponse) -> bytes:
        data = bytearray()
        while piece := response.read(_CHUNK):
            data += piece
            if len(data) > ANSWER_MOST:
                raise EngineApiError(
                    f"the engine of machine {self._machine} does not come to an end with {method} {path}",
                    f"it has sent more than {ANSWER_MOST >> 20} MiB",
                    f"look with: hostvm status {self._machine}",
                )
        if response.length:  # read() with a size does not tell
            raise http.client.IncompleteRead(bytes(data), response.length)
        return bytes(data)

    def upload(self, method: str, path: str, chunks: Iterable[bytes], *, query: Mapping[str, Any] | None = None) -> str:
        """Send a tar stream; gives the answer's text.

        :raises EngineApiError: as `call`.
        :raises OSError: the chunks' own.
        """
        with self.open(method, path, query=query, body=chunks, raw=True) as response:
            try:
                return self._whole(method, path, response).decode(errors="replace")
            except (OSError, http.client.HTTPException) as fault:
                raise self._cut_off(method, path, fault) from fault


def _noting(chunks: Any, faults: list[OSError]) -> Iterator[bytes]:
    try:
        yield from chunks
    except OSError as fault:
        faults.append(fault)
        raise


def read_chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in pieces of at most 256 KiB, as they come.

    :raises EngineApiError: it ends too early.
    """
    while data := read_piece(response, _CHUNK):
        yield data


def read_piece(response: http.client.HTTPResponse, size: int) -> bytes:
    """Up to `size` bytes of the body; b"" at its end.

    :raises EngineApiError: it ends too early.
    """
    try:
        data = response.read1(size)
        if not data and response.length:  # read1() does not tell
            raise http.client.IncompleteRead(b"", response.length)
    except (OSError, http.client.HTTPException) as fault:
        raise EngineApiError("an answer of the engine was cut off", str(fault), "look with: hostvm status") from fault
    return data


def path_part(name: str) -> str:
    """A container's or image's name as one part of a URL's path."""
    return quote(name, safe="")
