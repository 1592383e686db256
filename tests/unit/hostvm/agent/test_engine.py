import threading
import time
from pathlib import Path

import pytest

import images
from hostvm.advice import for_machine
from hostvm.agent.engine import wait_engine
from hostvm.errors import MachineError
from hostvm.guest import Completed

GOOD = b"HTTP/1.1 200 OK\r\n\r\nOK"


class Stream:
    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.sent = b""

    def sendall(self, data):
        self.sent += data

    def recv(self, size):
        piece, self.answer = self.answer[:7], self.answer[7:]
        return piece

    def close(self):
        self.closed = True


class Guest:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.streams = []

    def open_socket(self, path):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        self.streams.append(Stream(answer))
        return self.streams[-1]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("hostvm.agent.engine._PAUSE", 0.0)


def test_asks_until_it_answers():
    guest = Guest(ConnectionRefusedError(), b"", b"HTTP/1.1 503 Busy\r\n\r\n", GOOD)
    wait_engine(guest, "/run/docker.sock", time.monotonic() + 9, threading.Event())
    assert len(guest.streams) == 3
    assert guest.streams[-1].sent.startswith(b"GET /_ping HTTP/1.1\r\n")
    assert all(stream.closed for stream in guest.streams)


def test_too_late():
    with pytest.raises(MachineError) as caught:
        wait_engine(Guest(ConnectionRefusedError()), "/run/docker.sock", 0.0, threading.Event())
    assert "/run/docker.sock in the guest: nothing listens" in caught.value.details


def test_an_engine_that_gives_up_is_told_of_with_its_last_words():
    guest = Guest(ConnectionRefusedError())
    guest.run = lambda *_, **__: Completed(0, b"no room\n", b"")
    with pytest.raises(MachineError) as caught:
        wait_engine(
            guest, "/run/docker.sock", time.monotonic() + 9, threading.Event(), lambda: False, lambda: "engine ended"
        )
    assert caught.value.details == "engine ended\nits log ends with:\nno room"


@pytest.mark.parametrize(
    ("why", "commands"),
    [
        ("engine ended", ["hostvm -m ci logs --engine   # what the engine said"]),
        (
            "data e2fsck needs a decision on /dev/vdb",
            [
                "hostvm -m ci shell -- /usr/sbin/e2fsck -fn /dev/vdb   # what is wrong",
                "hostvm -m ci shell -- /usr/sbin/e2fsck -f /dev/vdb   # asks, and repairs",
            ],
        ),
        (
            "disk-logs /dev/vdd holds something that is not ext4; it was left alone\ndata /dev/vdb cannot be mounted",
            [
                "hostvm -m ci shell -- busybox hexdump -C -n 4096 /dev/vdd   # what it holds",
                "hostvm -m ci shell -- dmesg   # what the kernel says of /dev/vdb",
            ],
        ),
    ],
)
def test_a_disk_that_is_refused_is_told_with_what_shows_more_of_it(why, commands):
    """The engine's log was named, which has nothing of that."""
    guest = Guest(ConnectionRefusedError())
    guest.run = lambda *_, **__: Completed(0, b"", b"")
    with pytest.raises(MachineError) as caught:
        wait_engine(guest, "/run/docker.sock", time.monotonic() + 9, threading.Event(), lambda: False, lambda: why)
    assert for_machine(caught.value.resolution, "ci") == "\n".join(commands)


@pytest.mark.parametrize(
    "words", ["e2fsck needs a decision on $disk", "$disk holds something that is not ext4", "$disk cannot be mounted"]
)
def test_the_guest_says_it_in_those_words(words):
    script = Path(images.__file__).parent / "files/guest/usr/lib/hostvm/disk.sh"
    assert words in script.read_text(encoding="utf-8")


def test_lost():
    with pytest.raises(MachineError) as caught:
        wait_engine(Guest(ConnectionError("gone")), "/run/docker.sock", time.monotonic() + 9, threading.Event())
    assert "lost" in caught.value.brief


def test_stops_quietly():
    stop = threading.Event()
    stop.set()
    wait_engine(Guest(ConnectionRefusedError()), "/run/docker.sock", time.monotonic() + 9, stop)


def test_a_line_without_end_is_no_answer():
    guest = Guest(b"")
    stream = Stream(b"")
    stream.recv = lambda size: b"x" * size
    guest.open_socket = lambda _: stream
    with pytest.raises(MachineError) as caught:
        wait_engine(guest, "/run/docker.sock", time.monotonic() + 0.2, threading.Event())
    assert caught.value.details == f"/run/docker.sock in the guest: {'x' * 200}"
