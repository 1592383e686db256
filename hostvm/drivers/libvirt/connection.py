"""Connections to libvirt: opened within a deadline, silent, with errors in hostvm's own shape."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from hostvm.errors import DriverError, DriverGone, DriverTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_URI = "qemu:///session"

OPEN_TIMEOUT = 20.0
"""Seconds to connect: a session daemon that must start first needs a few."""

UNDO_TIMEOUT = 10.0
"""Seconds for a call that was given up to end after all."""

T = TypeVar("T")

_NOT_THERE = ("Failed to connect socket", "Cannot recv data", "unable to connect to server")
_GONE = ("End of file while reading data", "client socket is closed", "Cannot write data", "Connection reset by peer")
"""libvirt's words when its daemon ended in the midst of a call."""


def import_libvirt() -> Any:
    """The `libvirt` module, told not to print.

    :raises DriverError: libvirt-python is not installed, or its library is missing.
    """
    try:
        import libvirt
    except ImportError as error:
        raise DriverError(
            "libvirt-python is not installed", str(error), "Install it: pip install 'hostvm[libvirt]'"
        ) from error
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt


@contextmanager
def connected(uri: str, timeout: float = OPEN_TIMEOUT) -> Iterator[Any]:
    """A `virConnect` for a `with` block; libvirt's errors inside become DriverErrors.

    :raises DriverError: no connection within `timeout` seconds, or libvirt refuses something.
    """
    libvirt = import_libvirt()
    connection = None
    try:
        connection = within(timeout, lambda: libvirt.open(uri), f"no connection to libvirt at {uri}", uri)
        yield connection
    except libvirt.libvirtError as error:
        raise translate(error, uri) from error
    finally:
        if connection is not None:
            within(5.0, connection.close, f"libvirt at {uri} does not let go", uri)


def within(
    timeout: float, call: Callable[[], T], brief: str, uri: str, give_up: Callable[[], object] | None = None
) -> T:
    """Run a libvirt call that cannot be interrupted, but do not wait longer than `timeout` seconds for it.

    :param give_up: called when that time is over, or Ctrl-C comes, so that `call` undoes what it did; it has a moment
        for that. One that is done by then counts.
    :raises DriverTimeout: it took too long; its thread is left to end by itself.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    over = threading.Event()

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)
        finally:
            over.set()

    in_time = False
    try:
        threading.Thread(target=work, name="libvirt-call", daemon=True).start()
        in_time = over.wait(timeout)
    finally:
        if not in_time and give_up is not None:
            give_up()
            over.wait(UNDO_TIMEOUT)
    if results:
        return results[0]
    if not in_time:
        raise DriverTimeout(brief, f"no answer within {timeout:g} s", _resolution(uri))
    raise errors[0]


def translate(error: Exception, uri: str) -> DriverError:
    """A libvirtError in hostvm's shape."""
    text = str(error)
    if any(words in text for words in _GONE):
        again = f"virsh -c {uri} list --all   # a new one takes over what runs; then do the same again"
        return DriverGone(f"libvirt at {uri} ended meanwhile", text, again)
    if any(words in text for words in _NOT_THERE):
        return DriverGone(f"no connection to libvirt at {uri}", text, _resolution(uri))
    if "Cannot access storage file" in text or "Permission denied" in text:
        return DriverError(
            "libvirt cannot open a file of the machine",
            text,
            f"Let QEMU run as yourself: --libvirt-uri {DEFAULT_URI}",
        )
    return DriverError("libvirt refuses", text, f"Look at it yourself: virsh -c {uri} list --all")


def _resolution(uri: str) -> str:
    return f"Try it by hand: virsh -c {uri} version; or use QEMU without libvirt: --driver qemu"
