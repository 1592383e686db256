"""What an agent does for another one's client that asks for a container by its name."""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.doctor import machine
from hostvm.doctor.finding import WARN
from hostvm.http_wire import BadRequestError
from hostvm.machines.observe import Observation
from hostvm.names import service as module
from hostvm.names.route import Target
from hostvm.names.service import NamesService, _read_head
from hostvm.paths import NAMES_SOCK, MachinePaths
from hostvm.platform.local import connect_local

pytestmark = pytest.mark.skipif(os.name == "nt", reason="loopback, which unit tests may not use")


class Stream:
    lost = False

    def __init__(self):
        self.closed = threading.Event()

    def recv(self, size):
        self.closed.wait(30)
        return b""

    def sendall(self, data): ...

    def shutdown_write(self): ...

    def close(self):
        self.closed.set()


class Guest:
    """Its container takes as long to answer as the test wants."""

    def __init__(self):
        self.stream, self.asked, self.go_on = Stream(), threading.Event(), threading.Event()

    def open_tcp(self, host, port):
        self.asked.set()
        self.go_on.wait(30)
        return self.stream


class Router:
    def find(self, guest, labels):
        return Target("172.17.0.2", 80)


class SilentEngine:
    def find(self, guest, labels):
        raise ConnectionError("no dockerd")

    def names(self, guest):
        raise ConnectionError("no dockerd")


class Host:
    def log(self, text): ...


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="hvn"))  # short, as a socket's path must be
    yield made
    shutil.rmtree(made)


@pytest.fixture
def guest(folder):
    made = Guest()
    service = NamesService(Router(), 0, "m", folder)
    service.start(made, Host())
    yield made
    made.go_on.set()
    made.stream.close()
    service.stop()


def ask(folder):
    sock = connect_local(str(folder / NAMES_SOCK))
    sock.settimeout(10)
    sock.sendall(json.dumps({"labels": ["web"]}).encode() + b"\n")
    return sock


def test_who_asks_gets_the_container(folder, guest):
    guest.go_on.set()
    with ask(folder) as sock:
        assert json.loads(sock.makefile().readline()) == {"found": True}
        assert not guest.stream.closed.is_set()


def test_the_way_to_a_container_is_closed_when_the_asker_has_gone(folder, guest):
    with ask(folder):
        assert guest.asked.wait(10)
    guest.go_on.set()
    assert guest.stream.closed.wait(10)


@pytest.mark.parametrize("asked_by", ["default", "other"])
def test_a_machine_whose_engine_is_down_takes_no_other_s_names_with_it(folder, monkeypatch, asked_by):
    """Whether it is this agent's own machine or another one."""
    monkeypatch.setattr(module, "_listen", lambda _: [])
    services, guests = {}, {}
    for name, router in (("default", SilentEngine()), ("other", Router())):
        (folder / name).mkdir()
        guests[name] = Guest()
        guests[name].go_on.set()
        services[name] = NamesService(router, 7080, name, folder / name)
        services[name].start(guests[name], Host())
    stream = services[asked_by]._connect(["web"])
    assert guests["other"].asked.is_set()
    stream.close()
    monkeypatch.setattr(Router, "find", lambda *_: None)
    with pytest.raises(BadRequestError, match="engine of machine default does not answer: no dockerd") as caught:
        services[asked_by]._connect(["web"])
    assert caught.value.status == 502
    for name, service in services.items():
        guests[name].stream.close()
        service.stop()


class SlowEngine:
    """It says nothing until it is let, or was waited for too long."""

    def __init__(self):
        self.go_on, self.found, self.waited_for = threading.Event(), None, False

    def find(self, guest, labels):
        self.waited_for |= not self.go_on.wait(15)
        return self.found


@pytest.fixture
def pair(folder, monkeypatch):
    """The services of two machines by name, the first one's engine, and the second one's guest."""
    monkeypatch.setattr(module, "_listen", lambda _: [])
    monkeypatch.setattr(module, "_NEXT_SECONDS", 0.05)
    monkeypatch.setattr(module, "_ASK_SECONDS", 60)
    slow, guests = SlowEngine(), {"default": Guest(), "other": Guest()}
    services = {}
    for name, router in (("default", slow), ("other", Router())):
        (folder / name).mkdir()
        services[name] = NamesService(router, 7080, name, folder / name)
        services[name].start(guests[name], Host())
        guests[name].go_on.set()
    yield services, slow, guests
    slow.go_on.set()
    for name, service in services.items():
        guests[name].stream.close()
        service.stop()


@pytest.mark.parametrize("asked_by", ["default", "other"])
def test_a_machine_that_stands_still_does_not_keep_another_s_names_back(pair, asked_by):
    services, slow, guests = pair
    stream = services[asked_by]._connect(["web"])
    assert not slow.waited_for
    assert guests["other"].asked.is_set()
    stream.close()


@pytest.mark.parametrize("asked_by", ["default", "other"])
def test_an_unknown_name_is_not_waited_for_longer_than_once(pair, asked_by, monkeypatch):
    """And it is not called unknown, which nobody knows."""
    services, slow, _ = pair
    monkeypatch.setattr(Router, "find", lambda *_: None)
    monkeypatch.setattr(module, "_ASK_SECONDS", 0.3)
    with pytest.raises(BadRequestError, match="machine default does not answer") as caught:
        services[asked_by]._connect(["web"])
    assert caught.value.status == 502
    assert not slow.waited_for


def test_what_a_machine_finds_too_late_is_closed(pair):
    services, slow, guests = pair
    services["default"]._connect(["web"]).close()
    slow.found = Target("172.17.0.9", 80)
    slow.go_on.set()
    assert guests["default"].asked.wait(10)
    assert guests["default"].stream.closed.wait(10)


class Listing:
    """Lists the container as often as told."""

    def __init__(self, times):
        self.left = times

    def find(self, guest, labels):
        self.left -= 1
        return Target("172.17.0.2", 80) if self.left >= 0 else None


@pytest.mark.parametrize("times", [1, 3])
def test_a_container_that_stopped_is_given_up_when_the_engine_has_noticed(folder, monkeypatch, times):
    """The guest goes on to ask for its address, and what then comes of that is closed."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.02)
    guest, router = Guest(), Listing(times)
    service = NamesService(router, 7080, "m", folder)
    service._guest = guest
    assert service._own(["web"]) is None
    assert router.left == -1
    assert guest.asked.wait(10)
    assert not guest.stream.closed.is_set()
    guest.go_on.set()
    assert guest.stream.closed.wait(10)


def test_a_container_that_stays_silent_is_told_as_such(folder, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.02)
    guest = Guest()
    service = NamesService(Router(), 7080, "m", folder)
    service._guest = guest
    with pytest.raises(BadRequestError, match="container web does not answer at its port 80") as caught:
        service._own(["web"])
    assert caught.value.status == 502
    guest.go_on.set()
    assert guest.stream.closed.wait(10)


def holds(folder, name, monkeypatch, *, taken):
    """A machine's service, when it has the port or knows that it has not."""

    def listen(port):
        held = socket.socket(socket.AF_UNIX)
        held.bind(str(folder / f"{name}.port"))
        held.listen()
        return [held]

    monkeypatch.setattr(module, "_listen", listen)
    monkeypatch.setattr(module, "_TAKE_OVER", 0.02)
    place = folder / name
    place.mkdir()
    service = NamesService(Router(), 7080, name, place)
    if taken:
        monkeypatch.setattr(service, "_take", lambda _: False)
    told = Told()
    service.start(Guest(), told)
    assert told.line.get(timeout=10)
    return service


class Told:
    def __init__(self):
        self.line = queue.Queue()

    def log(self, text):
        self.line.put(text)


def test_a_port_that_none_of_ones_own_machines_holds_is_told_as_taken(folder, monkeypatch):
    """It may be another user's, whose containers are what answers there."""
    first = holds(folder, "a", monkeypatch, taken=True)
    until(lambda: first.describe()["taken"])
    assert first.describe()["held"] is False
    holder = holds(folder, "b", monkeypatch, taken=False)
    until(lambda: not first.describe()["taken"])
    holder.stop()
    until(lambda: first.describe()["taken"])
    first.stop()


def test_who_holds_the_port_is_asked_of_ones_own_machines(folder, monkeypatch):
    holder = holds(folder, "b", monkeypatch, taken=False)
    assert (holder.describe()["held"], holder.describe()["taken"]) == (True, False)
    assert module._holds(folder / "b", 7080)
    assert not module._holds(folder / "b", 7081)
    holder.stop()
    assert not module._holds(folder / "b", 7080)


def test_an_agent_of_before_that_was_not_asked_such_things_may_hold_the_port(folder, monkeypatch):
    holder = holds(folder, "b", monkeypatch, taken=False)
    monkeypatch.setattr(module, "_talk", lambda *_: ({"names": []}, Stream()))
    assert module._holds(folder / "b", 7080)
    holder.stop()


def test_status_and_doctor_say_what_to_type_when_the_port_is_taken():
    def seen(taken, port=7080):
        facts = {"url": f"http://NAME.hostvm.localhost:{port}/", "port": port, "held": False, "taken": taken}
        return Observation(MachinePaths.of("m"), "running", agent={"ready": True, "services": {"names": facts}})

    fix = "hostvm set --restart m names=7081"
    assert dict(seen(taken=True).lines())["names"] == (
        f"port 7080 is another program's, or another user's; for another one: {fix}"
    )
    assert dict(seen(taken=False).lines())["names"] == "http://NAME.hostvm.localhost:7080/"
    assert seen(taken=True, port=65535).names_fix.endswith("names=1")
    (found,) = (one for one in machine._running(MachinePaths.of("m"), seen(taken=True)) if one.name == "names")
    assert (found.level, found.fix) == (WARN, fix)
    assert not any(one.name == "names" for one in machine._running(MachinePaths.of("m"), seen(taken=False)))


@pytest.mark.parametrize(
    ("port", "url"), [(7080, "http://NAME.hostvm.localhost:7080/"), (80, "http://NAME.hostvm.localhost/")]
)
def test_the_address_is_the_shortest_that_works(folder, port, url):
    assert NamesService(Router(), port, "m", folder).describe()["url"] == url


def test_https_is_refused_at_once():
    """A client of TLS waits for the other side's words; browsers try it first, and go on with http when it fails."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(bytes.fromhex("16030100050100000101"))
        with pytest.raises(BadRequestError, match="http://"):
            _read_head(ours)
