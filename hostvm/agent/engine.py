"""Waiting for a container engine: Docker's `GET /_ping`, which Podman answers too, or a socket that listens."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

from hostvm.engines import LOGS, WITHOUT_DOCKER_API
from hostvm.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.guest import Guest, Stream

_REQUEST = b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n"
_PAUSE = 0.1
_PAUSE_ANNOUNCED = 0.02
_MORE_WORDS = "hostvm logs --engine   # what the engine said"
# What the guest says of its disks (images/files/guest/usr/lib/hostvm/disk.sh): the engine's log knows nothing of it.
_OF_DISKS = (
    (
        re.compile(r"e2fsck needs a decision on (/dev/\w+)"),
        (
            "hostvm shell -- /usr/sbin/e2fsck -fn {0}   # what is wrong\n"
            "hostvm shell -- /usr/sbin/e2fsck -f {0}   # asks, and repairs"
        ),
    ),
    (
        re.compile(r"(/dev/\w+) holds something that is not ext4"),
        "hostvm shell -- busybox hexdump -C -n 4096 {}   # what it holds",
    ),
    (re.compile(r"(/dev/\w+) cannot be mounted"), "hostvm shell -- dmesg   # what the kernel says of {}"),
)
_LINE_MOST = 4096
_UNANNOUNCED = 30.0  # an engine whose start nobody tells of is asked all the same


def wait_engine(
    guest: Guest,
    socket_path: str,
    deadline: float,
    stop: threading.Event,
    announced: Callable[[], bool] | None = None,
    trouble: Callable[[], str] = str,
    engine: str = "docker",
) -> None:
    """Return as soon as the engine answers.

    An engine that listens already but is still starting holds the request back and answers it at once when it
    can, so most of the wait is no polling. Ends early, without an error, when `stop` is set.

    :param deadline: on `time.monotonic`'s clock.
    :param announced: whether the engine has said that it listens; it is not asked before, since each question makes
        an emulated guest that is busy starting it slower.
    :param trouble: why the engine will not come up, in the guest's own words; "" as long as it may.
    :param engine: its name.
    :raises MachineError: it did not answer in time, or ends again and again.
    """
    last = "nothing listens"
    begun = time.monotonic()
    while announced is not None and not announced() and not stop.is_set():
        if time.monotonic() >= min(deadline, begun + _UNANNOUNCED) or trouble():
            break
        stop.wait(_PAUSE_ANNOUNCED)
    while not stop.is_set():
        if why := trouble():
            raise MachineError(
                "the container engine does not start", why + _last_words(guest, LOGS[engine]), _way_out(why)
            )
        if time.monotonic() >= deadline:
            raise MachineError(
                "the container engine did not answer in time", f"{socket_path} in the guest: {last}", _MORE_WORDS
            )
        try:
            stream = guest.open_socket(socket_path)
        except ConnectionRefusedError:
            stop.wait(_PAUSE)
            continue
        except OSError as error:
            raise MachineError(
                "the connection was lost while the engine started", str(error), "hostvm logs --console"
            ) from error
        if engine in WITHOUT_DOCKER_API:
            stream.close()
            return  # its listener is there once its plugins are; the engine's own checks ask further
        last = _ask(stream, deadline)
        if last == "":
            return
        stop.wait(_PAUSE)


def _last_words(guest: Guest, log: str) -> str:
    said = guest.run(["tail", "-n", "8", log], timeout=10.0).stdout.decode(errors="replace").strip()
    return f"\nits log ends with:\n{said}" if said else ""


def _way_out(why: str) -> str:
    """Commands for the disks that the engine waits for; for its log where those are sound."""
    found = [line.format(disk) for words, line in _OF_DISKS for disk in words.findall(why)]
    return "\n".join(found) or _MORE_WORDS


def _ask(stream: Stream, deadline: float) -> str:
    """What is wrong with the answer; an empty string when nothing is."""
    # A stream has no time-outs: the request is cut off from outside.
    cutter = threading.Timer(max(0.1, deadline - time.monotonic()), stream.close)
    cutter.daemon = True
    cutter.start()
    try:
        stream.sendall(_REQUEST)
        head = b""
        while b"\r\n" not in head and len(head) < _LINE_MOST and (more := stream.recv(_LINE_MOST)):
            head += more
    except OSError as error:
        return str(error)
    finally:
        cutter.cancel()
        stream.close()
    line = head.partition(b"\r\n")[0]
    if line.split(b" ")[1:2] == [b"200"]:
        return ""
    return line[:200].decode("ascii", "replace") or "it listens but does not answer"
