"""Deletions that are told to a guest which stands still, and goes on later."""

from __future__ import annotations

import queue
import sys
import threading

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.errors import SshError
from hostvm.shares import sftp_wire as wire
from hostvm.shares.events import EventCarrier, Helper, escaped

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")

DONE, BROKEN = b"\n", None


class Process:
    """The program in the guest; `says` has what it answers."""

    def __init__(self):
        self.lines, self.says = b"", queue.Queue()

    def write_stdin(self, data):
        self.lines += data

    def close_stdin(self):
        self.says.put(b"")

    def read_stdout(self, size):
        if (said := self.says.get(timeout=20)) is BROKEN:
            raise SshError("the connection broke", None, None)
        return said

    def wait(self):
        return 0

    def close(self):
        pass


class Guest:
    def __init__(self):
        self.process = Process()

    def stream(self, argv):
        return self.process


class Impatient(threading.Condition):
    """Time that is limited is over at once."""

    def wait_for(self, predicate, timeout=None):
        return predicate() if timeout is not None else super().wait_for(predicate)


@pytest.fixture
def known(client):
    return client.server._find_tree("tok").known


@pytest.fixture
def carrier():
    made = EventCarrier(print)
    yield made
    made.end()


def tell(helper, known, *paths):
    """A thread that has these deletions acted out; what it raised is in its `faults`."""
    acts = [("D", str(path), (known, str(path))) for path in paths]

    def run():
        try:
            helper.tell(acts)
        except OSError as fault:
            teller.faults.append(fault)

    teller = threading.Thread(target=run, daemon=True)
    teller.faults = []
    teller.start()
    return teller


def test_no_deletion_waits_in_the_guest_behind_another(known, folder, carrier, monkeypatch):
    """It would be made by a name that has another file by then."""
    monkeypatch.setattr("hostvm.shares.events.threading.Condition", Impatient)
    guest = Guest()
    helper = Helper(guest, (), carrier._unanswered)
    one, two = (f"D {escaped(str(folder / name))}\n".encode() for name in ("one", "two"))
    teller = tell(helper, known, folder / "one", folder / "two")
    until(lambda: guest.process.lines)
    teller.join(0.1)
    assert guest.process.lines == one
    guest.process.says.put(DONE)
    until(lambda: guest.process.lines == one + two)
    assert not known.swallows(str(folder / "one"), there=True)
    guest.process.says.put(DONE)
    teller.join(20)
    assert (teller.is_alive(), teller.faults) == (False, [])
    helper.end()


def test_a_deletion_of_a_connection_that_broke_takes_nothing_away_when_the_guest_goes_on(
    client, known, folder, carrier, monkeypatch
):
    monkeypatch.setattr("hostvm.shares.unanswered._LAST_ACTS", 0)
    guest = Guest()
    helper = Helper(guest, (), carrier._unanswered)
    teller = tell(helper, known, folder / "one", folder / "two")
    until(lambda: guest.process.lines)
    guest.process.says.put(BROKEN)
    teller.join(20)
    assert (teller.is_alive(), len(teller.faults)) == (False, 1)
    helper.end()
    for name in ("one", "two"):
        (folder / name).write_text("made anew")
    assert client.status(wire.REMOVE, "/tok/two") == wire.OK, "this was not told"
    for _ in range(2):
        assert client.status(wire.REMOVE, "/tok/one") == wire.FAILURE
    carrier.carry(guest, [])
    until(lambda: client.status(wire.REMOVE, "/tok/one") == wire.OK)
    assert list(folder.iterdir()) == []


def test_what_is_told_to_a_program_that_has_ended_is_not_waited_for(known, folder, carrier):
    guest = Guest()
    helper = Helper(guest, (), carrier._unanswered)
    guest.process.says.put(b"")
    helper._listener.join(20)
    teller = tell(helper, known, folder / "one")
    teller.join(20)
    assert (teller.is_alive(), len(teller.faults)) == (False, 1)
    helper.end()
    assert not known.swallows(str(folder / "one"), there=True)
