from __future__ import annotations

import json
import socket
import threading

import pytest

from hostvm.drivers.qemu.qmp import MESSAGE_MOST, Qmp, QmpGoneError
from hostvm.errors import DriverError
from hostvm.qemu_binary import parse_answers

GREETING = {"QMP": {"version": {}, "capabilities": []}}
OK = {"return": {}}


class Monitor(threading.Thread):
    """The other end: answers each line with the messages that are next, then hangs up if told so."""

    def __init__(self, *answers, greeting=GREETING, hang_up=True):
        super().__init__(daemon=True)
        self.ours, self._theirs = socket.socketpair()
        self.heard: list[dict] = []
        self._answers = answers
        self._greeting = greeting
        self._hang_up = hang_up
        self.start()

    def run(self):
        self._say(self._greeting)
        with self._theirs.makefile("rb") as lines:
            for messages in self._answers:
                line = lines.readline()
                if not line:
                    return
                self.heard.append(json.loads(line))
                for message in messages:
                    self._say(message)
            while not self._hang_up and lines.readline():
                pass  # stays, without an answer, until the other end goes
        self._theirs.close()

    def _say(self, message):
        # In pieces, as a stream may deliver it.
        for byte in json.dumps(message).encode() + b"\r\n":
            self._theirs.send(bytes([byte]))


def test_a_command_is_sent_and_its_answer_returned():
    monitor = Monitor([OK], [{"return": {"status": "running"}}])
    with Qmp(monitor.ours, 5) as qmp:
        assert qmp.execute("query-status", {"x": 1}) == {"status": "running"}
    assert monitor.heard == [
        {"execute": "qmp_capabilities", "id": 1},
        {"execute": "query-status", "id": 2, "arguments": {"x": 1}},
    ]


@pytest.mark.parametrize(
    ("told", "counts_as"), [((9, 2, 4), (9, 2, 4)), ((10, 2, 91), (11, 0, 0)), ((8, 2, 90), (9, 0, 0))]
)
def test_a_release_candidate_is_the_version_that_its_program_is_known_by(told, counts_as):
    """Or what it saved would be another version's."""
    version = dict(zip(("major", "minor", "micro"), told, strict=True))
    with Qmp(Monitor([OK], greeting={"QMP": {"version": {"qemu": version}}}).ours, 5) as qmp:
        assert qmp.version == counts_as
    line = json.dumps({"QMP": {"version": {"qemu": version}}})
    assert parse_answers(f'{line}\n{{"return": {{"arch": "x86_64"}}}}\n') == (counts_as, "x86_64")


def test_the_answer_to_a_command_that_was_given_up_is_not_taken_for_the_next_ones():
    """A Ctrl-C in a suspend lets the guest run on by the same connection: a traceback, and a guest that stood still."""
    late = [{"return": {}, "id": 2}, {"error": {"class": "GenericError", "desc": "no"}, "id": 3}]
    running = {"return": {"status": "running"}, "id": 4}
    with Qmp(Monitor([OK], [], [], [*late, running], hang_up=False).ours, 5) as qmp:
        for command in ("stop", "cont"):
            with pytest.raises(DriverError, match="does not answer"):
                qmp.execute(command, timeout=0.05)
        assert qmp.execute("query-status", timeout=5) == {"status": "running"}


def test_events_between_are_put_aside():
    stop, reset = {"event": "STOP"}, {"event": "RESET"}
    with Qmp(Monitor([reset, OK], [stop, {"return": 1}], hang_up=False).ours, 5) as qmp:
        assert qmp.execute("x") == 1
        assert qmp.wait_event({"STOP"}, 5) == stop
        assert qmp.wait_event({"STOP"}, 0.01) is None
        assert qmp.wait_event({"RESET", "STOP"}, 5) == reset


def test_an_event_that_comes_later_is_waited_for():
    stop = {"event": "STOP"}
    with Qmp(Monitor([OK], [OK, {"event": "RESET"}, stop]).ours, 5) as qmp:
        qmp.execute("x")
        assert qmp.wait_event({"STOP"}, 5) == stop


def test_qemu_s_words_are_the_details():
    refusal = {"error": {"class": "GenericError", "desc": "no such device"}}
    with Qmp(Monitor([OK], [refusal]).ours, 5) as qmp, pytest.raises(DriverError) as caught:
        qmp.execute("device_del")
    assert (caught.value.brief, caught.value.details) == (
        "QEMU refuses device_del",
        "GenericError: no such device",
    )


def test_an_end_in_the_middle_is_told_apart():
    with Qmp(Monitor([OK], []).ours, 5) as qmp, pytest.raises(QmpGoneError):
        qmp.execute("quit")


def test_an_end_before_the_greeting():
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(QmpGoneError):
        Qmp(ours, 5)
    assert ours.fileno() == -1


def test_no_answer_in_time():
    with Qmp(Monitor([OK], hang_up=False).ours, 5) as qmp, pytest.raises(DriverError, match="does not answer"):
        qmp.execute("query-status", timeout=0.05)


def test_something_else_speaks():
    with pytest.raises(DriverError, match="not QEMU's"):
        Qmp(Monitor(greeting={"hello": 1}, hang_up=False).ours, 5)


def test_nothing_listens(tmp_path):
    with pytest.raises(FileNotFoundError):
        Qmp.connect(tmp_path / "qmp.sock")


class Endless:
    """A connection that never stops to speak."""

    def __init__(self, piece, first=b""):
        self.piece, self.first, self.said = piece, first, 0

    def recv(self, size):
        data, self.first = self.first or self.piece, b""
        self.said += len(data)
        return data

    def settimeout(self, seconds):
        assert seconds > 0

    def sendall(self, data): ...

    def close(self): ...


HELLO = json.dumps(GREETING).encode() + b"\n" + json.dumps(OK).encode() + b"\n"


@pytest.mark.parametrize("first", [b"", HELLO])
def test_a_message_that_does_not_end_is_not_kept(first):
    peer = Endless(b" " * 65536, first)

    def speak():
        with Qmp(peer, 60) as qmp:
            qmp.execute("query-status", timeout=60)

    with pytest.raises(DriverError) as caught:
        speak()
    assert (caught.value.brief, caught.value.details) == (
        "the monitor's socket is not QEMU's",
        "a message of it has more than 4 MiB",
    )
    assert peer.said < MESSAGE_MOST + 200_000


def test_events_without_end_do_not_hold_off_the_deadline():
    with (
        Qmp(Endless(b'{"event": "RESET"}\n', HELLO), 5) as qmp,
        pytest.raises(DriverError, match="does not answer"),
    ):
        qmp.execute("query-status", timeout=0.05)
