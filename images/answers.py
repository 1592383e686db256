"""What servers answer, read within bounds: of bytes, and of time.

requests has a time limit for each wait, so that a server which sends a byte now and then keeps it for ever; and it
reads whole what nobody asked for as a stream, answers that redirect or refuse too, however long they are.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import DecodeError, LocationValueError, ProtocolError, ReadTimeoutError, SSLError
from urllib3.response import BaseHTTPResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 1 << 16
SLOW_SECONDS, SLOW_BYTES = 60.0, 4096
"""A server that sends fewer bytes in so many seconds counts as one that sends nothing."""

WORDS_MOST = 1 << 20
"""Bytes that are looked at of an answer that holds no file."""
_OK, _NOT_OK = 200, 300


def pieces(response: requests.Response) -> Iterator[bytes]:
    """An answer's body, as it comes.

    :raises requests.RequestException: it broke off, or comes too slowly to wait for its end.
    """
    began, came = time.monotonic(), 0
    while data := _read(response.raw):
        came += len(data)
        if time.monotonic() - began > SLOW_SECONDS:
            if came < SLOW_BYTES:
                raise requests.ReadTimeout(f"the server sent {came} bytes in {SLOW_SECONDS:g} s")
            began, came = time.monotonic(), 0
        yield data


def _read(raw: Any) -> bytes:
    """What there is of it, without a wait for more; the faults are those of requests."""
    if not isinstance(raw, BaseHTTPResponse):
        return bytes(raw.read1(PIECE))
    try:
        # Its length is no bound of Python's own `read1` before 3.13.
        return raw.read1(min(PIECE, getattr(raw, "length_remaining", None) or PIECE), decode_content=True)
    except ProtocolError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
    except DecodeError as error:
        raise requests.exceptions.ContentDecodingError(error) from error
    except ReadTimeoutError as error:
        raise requests.ConnectionError(error) from error
    except SSLError as error:
        raise requests.exceptions.SSLError(error) from error


class BoundedAdapter(HTTPAdapter):
    """Reads of answers that are no streamed files `WORDS_MOST` bytes and no more, for `SLOW_SECONDS` at most."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - as HTTPAdapter has it
        *words: Any,
        **options: Any,
    ) -> requests.Response:
        """See `HTTPAdapter.send`."""
        try:
            response = super().send(request, stream, *words, **options)
        except LocationValueError as error:  # of a host that only a look-up of its name finds odd
            raise requests.exceptions.InvalidURL(error, request=request) from error
        if not stream or not _OK <= response.status_code < _NOT_OK:
            response._content = _beginning(response)  # noqa: SLF001 - what `content` gives, instead of reading all
        return response


def _beginning(response: requests.Response) -> bytes:
    found, deadline = b"", time.monotonic() + SLOW_SECONDS
    for data in pieces(response):
        found += data
        if len(found) > WORDS_MOST or time.monotonic() > deadline:
            response.raw.close()  # with its connection, in which the rest would follow
            break
    return found[:WORDS_MOST]
