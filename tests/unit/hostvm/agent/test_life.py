"""The agent's main thread: nothing but the machine's end, or a word to it, ends it."""

from __future__ import annotations

import errno
import threading
import time

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.agent import life as module
from hostvm.agent.config import AgentConfig
from hostvm.agent.life import BOOTING, FAILED, LOST, Life
from hostvm.agent.parts import Parts
from hostvm.console import SSH_MARK
from hostvm.errors import HostvmError, MachineError, SshError

NO_ROOM = MachineError("machine m stands still: this computer's disk is full", "0 B are free", "df -h")


class Host:
    def __init__(self):
        self.lines = []

    def log(self, text):
        self.lines.append(text)

    def tell(self, text, *, everybody=False):
        self.log(text)

    def idle(self):
        return 0.0


class Guest:
    """Nobody can log in; what tests put in `faults` is raised before that is said."""

    def __init__(self):
        self.tried, self.faults = 0, []

    def handshake(self, sock, **options):
        self.tried += 1
        raise self.faults.pop(0) if self.faults else SshError("no answer", "it is booting", None)


@pytest.fixture
def guest(monkeypatch):
    made = Guest()
    monkeypatch.setattr(module, "wait_banner", lambda *_, **__: object())
    monkeypatch.setattr(module, "handshake", made.handshake)
    monkeypatch.setattr(module, "_PAUSE_MOST", 0.01)
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.0)
    monkeypatch.setattr(module, "_STALL_EVERY", 0.0)
    return made


@pytest.fixture
def live(tmp_path):
    running = []

    def begin(stalled=lambda: None, is_running=lambda: True, services=()):
        place = str(tmp_path)
        config = AgentConfig("m", place, place, f"{place}/log", 1, "key", "host", "", f"{place}/console")
        life = Life(config, Parts(services=services), is_running, host := Host(), stalled)
        thread = threading.Thread(target=life.run, daemon=True)
        thread.start()
        running.append((life, thread))
        return life, host, thread

    yield begin
    for life, thread in running:
        life.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_a_machine_that_stands_still_while_nothing_is_connected(guest, live):
    """It is told of in the pause between two tries, too; when there is room, the agent goes on."""
    why, asked = [NO_ROOM], []

    def stalled():
        asked.append(True)
        return why[0]

    life, _, _ = live(stalled)
    until(lambda: len(asked) > 4)
    assert life.describe()["state"] == FAILED
    assert "disk is full" in life.describe()["error"]
    why[0] = None
    tried = guest.tried
    until(lambda: guest.tried > tried)


@pytest.mark.parametrize("error", [NO_ROOM, OSError(errno.EMFILE, "Too many open files")])
def test_an_error_between_two_tries(guest, live, error):
    """In the pause: the first try has failed, and the look at the machine fails."""
    raised = []

    def look():
        if guest.tried and not raised:
            raised.append(True)
            raise error
        return True

    _, host, _ = live(is_running=look)
    until(lambda: guest.tried >= 2)
    assert raised
    assert any(str(error).split(":")[0] in line for line in host.lines)


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")]
)
def test_an_error_of_this_computer_is_no_end_and_whoever_waits_goes_on_waiting(guest, live, error):
    guest.faults = [error]
    life, host, _ = live()
    until(lambda: guest.tried >= 2)
    assert life.describe()["state"] in (BOOTING, LOST)
    assert any(str(error) in line for line in host.lines)


def test_services_are_told_of_the_agents_end_once(guest, live):
    told = []

    class Service:
        name, early = "s", False
        begin = start = stop = describe = staticmethod(lambda *_: {})

        def end(self):
            told.append(True)

    life, _, thread = live(services=[Service()])
    until(lambda: guest.tried >= 2)
    assert told == []
    life.stop()
    thread.join(10)
    assert told == [True]


class Line:
    """A connection that works until it is closed."""

    def __init__(self):
        self.alive = True

    def warm_up(self): ...

    def close(self):
        self.alive = False


class Made:
    """An attempt that has succeeded."""

    def __init__(self):
        self.line = Line()
        self.close = self.line.close

    def connection(self):
        return self.line


def test_what_was_made_while_another_was_given_up_is_the_next_connection(guest, live, monkeypatch):
    spare, begun, held = Made(), [], []

    def handshake(sock, **options):
        begun.append(sock)
        return Line()

    class Watch:
        def __init__(self, *_): ...

        def hold(self, connection):
            held.append(connection)
            while len(held) > 1 and connection.alive:
                time.sleep(0.01)
            connection.close()
            return spare

    monkeypatch.setattr(module, "Watch", Watch)
    monkeypatch.setattr(module, "handshake", handshake)
    monkeypatch.setattr(module, "run_checks", lambda *_, **__: [])
    life, _, thread = live()
    until(lambda: len(held) == 2)
    assert held[1] is spare.line
    assert len(begun) == 1
    until(lambda: life.describe()["ready"])
    assert spare.line.alive
    life.stop()
    thread.join(10)
    assert not spare.line.alive, "one that is not needed any more is closed"


def test_one_that_was_made_in_time_is_no_silence_of_the_guests(guest, live, monkeypatch, tmp_path):
    """Each time it takes another's place, the guest has been heard."""
    (tmp_path / "console").write_bytes(SSH_MARK)
    for name in ("TOLD_AFTER", "_AGAIN_SECONDS"):
        monkeypatch.setattr(module, name, 0.0)
    held = []

    class Watch:
        def __init__(self, *_): ...

        def hold(self, connection):
            held.append(connection)
            while len(held) > 4 and connection.alive:
                time.sleep(0.01)
            connection.close()
            return Made()

    monkeypatch.setattr(module, "Watch", Watch)
    monkeypatch.setattr(module, "handshake", lambda *_, **__: Line())
    monkeypatch.setattr(module, "run_checks", lambda *_, **__: [])
    life, host, _ = live()
    until(lambda: len(held) == 5 and life.describe()["ready"])
    assert not [line for line in host.lines if "not ready" in line]
    assert life.describe()["silent_since"] is None


def test_a_machine_whose_ssh_server_is_gone_fails_within_its_boot_s_time_and_comes_back(
    guest, live, monkeypatch, tmp_path
):
    """Those who wait hear of it while they wait; a boot would have all of its time."""
    (tmp_path / "console").write_bytes(SSH_MARK)
    for name, seconds in (("TOLD_AFTER", 0.0), ("_AGAIN_SECONDS", 0.3)):
        monkeypatch.setattr(module, name, seconds)
    connections, gone = [], threading.Event()

    def handshake(sock, **options):
        connections.append(Line())
        return connections[-1]

    def wait_banner(*_, check, **__):
        while gone.is_set():
            check()
            time.sleep(0.01)

    class Watch:
        def __init__(self, *_): ...

        def hold(self, connection):
            until(lambda: not connection.alive)

    monkeypatch.setattr(module, "Watch", Watch)
    monkeypatch.setattr(module, "handshake", handshake)
    monkeypatch.setattr(module, "wait_banner", wait_banner)
    monkeypatch.setattr(module, "run_checks", lambda *_, **__: [])
    life, _, _ = live()
    until(lambda: life.describe()["ready"])
    assert life.describe()["silent_since"] is None
    gone.set()
    connections[-1].close()
    until(lambda: not life.describe()["ready"])
    told = []
    with pytest.raises(SshError, match="machine m runs, but its ssh server does not answer") as fault:
        life.wait_ready(60.0, told.append)
    assert fault.value.resolution == "hostvm restart m"
    assert any("has not answered since" in line and line.endswith(": hostvm restart m") for line in told), told
    assert life.describe()["silent_since"]
    with pytest.raises(HostvmError, match="its ssh server does not answer"):
        life.connection(0.0)
    gone.clear()
    until(lambda: life.describe()["ready"])
    assert (life.describe()["silent_since"], life.describe()["error"]) == (None, None)
