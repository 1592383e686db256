"""What docker clients send before a container of another architecture runs. Guest and engine are played."""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from types import SimpleNamespace

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.agent import forwards
from hostvm.agent.activity import Activity
from hostvm.agent.forwards import SocketForward
from hostvm.errors import SshError
from runtime.docker import foreign as module
from runtime.docker.foreign import ForeignService, Wish, read_wish
from runtime.docker.requests import ClientRequests


def request(path: str, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: docker\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("path", "wish"),
    [
        ("/v1.41/containers/web/start", Wish("web")),
        ("/containers/0123abcd/start?detachKeys=ctrl-p", Wish("0123abcd")),
        ("/v1.45/containers/web/restart?t=3", Wish("web")),
        ("/v5.0.0/libpod/containers/web/start", Wish("web")),
        ("/v1.41/containers/create?name=x&platform=linux%2Farm64", Wish(platforms=("linux/arm64",))),
        ("/v1.41/build?t=a&platform=linux/amd64,linux/arm64/v8", Wish(platforms=("linux/amd64", "linux/arm64/v8"))),
        ("/v5.0.0/libpod/build?platform=linux/amd64&platform=linux/arm64", Wish("", ("linux/amd64", "linux/arm64"))),
        ("/v1.41/containers/create?platform=&name=start", None),
        ("/v1.41/containers/create", None),
        ("/v1.41/containers/web/stop", None),
        ("/v1.41/build?t=a", None),
        ("/v1.41/images/create?fromImage=busybox&platform=linux/arm64", None),
        ("/containers/\u00e9/start", None),
    ],
)
def test_what_a_request_is_about_to_run(path, wish):
    assert read_wish(request(path)) == wish


@pytest.mark.parametrize(
    "data",
    [
        request("/containers/web/start", "GET"),
        b"in a file: " + request("/containers/web/start"),
        b"POST /containers/web/start",
        b"POST " + b"x" * 100_000,
        b"\x00" * 100,
        b"",
    ],
)
def test_what_is_none(data):
    assert read_wish(data) is None


class Answer:
    """One connection to the engine, with one request and its answer."""

    def __init__(self, engine):
        self.engine, self.rest = engine, b""

    def sendall(self, data):
        path = data.split()[1].decode().removeprefix("/v1.41")
        self.engine.asked.append(path)
        found = self.engine.holds.get(path)
        body = json.dumps({"message": "no such thing"} if found is None else found).encode()
        status = "404 Not Found" if found is None else "200 OK"
        self.rest = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def recv(self, size):
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    def close(self):
        pass


class World:
    """A guest with its engine, what its agent logs, and the bringing of emulators.

    `asked` are the requests that reached the engine by the service itself, `looks` the guest's answers to whether the
    emulator is registered, `brought` how often it was brought.
    """

    def __init__(self):
        self.machine = "box"
        self.asked, self.looks, self.lines, self.brought = [], queue.Queue(), [], 0
        self.registered, self.why = False, ""
        self.holds = {
            "/containers/near/json": {"Image": "sha256:aa"},
            "/containers/near2/json": {"Image": "sha256:aa"},
            "/containers/far/json": {"Image": "sha256:bb"},
            "/containers/odd/json": {"Image": "sha256:cc"},
            "/images/sha256%3Aaa/json": {"Architecture": "amd64"},
            "/images/sha256%3Abb/json": {"Architecture": "arm64"},
            "/images/sha256%3Acc/json": {"Architecture": "riscv64"},
        }
        self.service = ForeignService("/run/docker.sock", "arm64", self.bring)
        self.connect()

    def connect(self):
        self.service.start(self, self)

    def open_socket(self, path):
        assert path == "/run/docker.sock"
        return Answer(self)

    def run(self, argv):
        assert argv == ["test", "-e", "/proc/sys/fs/binfmt_misc/qemu-arm64"]
        self.looks.put(self.registered)
        return SimpleNamespace(status=0 if self.registered else 1)

    def log(self, text):
        self.lines.append(text)

    def bring(self):
        self.brought += 1
        self.registered = not self.why
        return self.why

    def start(self, container):
        self.service.before(request(f"/v1.45/containers/{container}/start"))


@pytest.fixture
def world():
    return World()


def test_a_foreign_container_waits_for_its_emulator(world):
    world.start("far")
    assert (world.brought, world.registered) == (1, True)
    assert world.service.describe() == {"arch": "arm64", "registered": True, "why": ""}
    assert "programs of arm64 are wanted" in world.lines[0]


def test_it_begins_before_the_first_client_is_let_in(world):
    assert world.service.early


def test_a_native_one_costs_one_question_and_the_first_of_an_image_two(world):
    world.start("near")
    assert world.asked == ["/containers/near/json", "/images/sha256%3Aaa/json"]
    world.start("near2")
    assert world.asked[2:] == ["/containers/near2/json"]
    assert world.brought == 0
    assert world.looks.get(timeout=10) is False, "once, when nobody waits"
    assert world.looks.empty()


def test_nothing_is_asked_once_the_guest_has_it(world):
    world.start("far")
    world.asked.clear()
    world.start("near")
    world.start("far")
    world.service.before(request("/containers/create?platform=linux/arm64"))
    assert (world.asked, world.brought) == ([], 1)


def test_a_guest_that_has_it_from_before_is_found_out_by_a_native_container(world):
    world.registered = True
    world.start("near")
    assert world.looks.get(timeout=10) is True
    until(lambda: world.service.describe()["registered"])
    world.asked.clear()
    world.start("far")
    assert (world.asked, world.brought) == ([], 0)


def test_a_platform_that_is_named_needs_no_question_to_the_engine(world):
    world.service.before(request("/v1.45/containers/create?platform=linux%2Famd64"))
    assert world.brought == 0
    world.service.before(request("/v1.45/build?platform=linux%2Farm64%2Fv8"))
    assert (world.asked, world.brought) == ([], 1)


def test_other_architectures_and_other_requests_pass(world):
    world.start("odd")
    world.service.before(request("/v1.45/containers/far/json", "GET"))
    world.service.before(b"\x00\x01")
    assert world.brought == 0


def test_what_the_engine_refuses_the_client_is_told_by_itself(world):
    def settled():
        until(lambda: not any(thread.name == "emulators" for thread in threading.enumerate()))

    world.start("unknown")
    settled()
    assert world.lines == []
    del world.holds["/images/sha256%3Abb/json"]
    world.start("far")
    settled()
    assert (world.lines, world.brought) == ([], 0)


def test_an_answer_that_is_none_passes_and_is_logged(world):
    world.holds["/containers/far/json"] = ["?"]
    world.start("far")
    assert world.brought == 0
    until(lambda: world.lines)
    assert world.lines[0].startswith("emulators: ")


def test_a_failure_lets_the_request_pass_and_is_not_repeated_at_once(world):
    world.why = "hostvm: the mirror is not reached\n  -> look"
    world.start("far")
    assert world.service.describe()["why"] == "none of arm64: the mirror is not reached"
    assert world.lines[-1] == f"emulators: {world.why}"
    world.start("far")
    assert world.brought == 1


def test_a_failure_is_forgotten_when_a_later_try_succeeds(world, monkeypatch):
    monkeypatch.setattr(module, "AGAIN", 0.0)
    world.why = "no network"
    world.start("far")
    world.why = ""
    world.start("far")
    assert world.brought == 2
    assert world.service.describe()["why"] == ""


def test_one_that_came_meanwhile_by_other_words_counts(world):
    world.why = "no network"
    world.start("far")
    world.registered = True
    world.start("far")
    assert world.brought == 1
    assert world.service.describe() == {"arch": "arm64", "registered": True, "why": ""}


def test_a_new_connection_may_lead_to_another_guest(world):
    world.start("far")
    world.service.stop()
    world.registered = False
    world.start("far")
    assert world.brought == 1
    world.connect()
    world.start("far")
    assert world.brought == 2


def test_a_guest_that_is_lost_meanwhile_passes(world, monkeypatch):
    def lost(argv):
        raise SshError("the connection is gone")

    monkeypatch.setattr(world, "run", lost)
    world.start("far")
    assert world.brought == 0


class HeldWorld(World):
    """The emulator comes when the test says so."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()
        super().__init__()

    def bring(self):
        self.begun.set()
        assert self.go.wait(10)
        return super().bring()


def test_a_request_waits_no_longer_than_its_deadline_and_what_it_waits_for_goes_on(monkeypatch):
    monkeypatch.setattr(module, "HELD", 0.05)
    world = HeldWorld()
    world.start("far")
    assert any("a request went on" in line for line in world.lines)
    assert world.begun.wait(10)
    monkeypatch.setattr(module, "HELD", 10.0)
    late = threading.Thread(target=world.start, args=("far",))
    late.start()
    world.go.set()
    late.join(10)
    assert (late.is_alive(), world.brought, world.registered) == (False, 1, True)


def test_what_the_first_of_several_brings_the_others_find():
    world = HeldWorld()
    starts = [threading.Thread(target=world.start, args=("far",)) for _ in range(4)]
    for one in starts:
        one.start()
    until(lambda: world.asked.count("/containers/far/json") == len(starts))
    assert world.begun.wait(10)
    world.go.set()
    for one in starts:
        one.join(10)
    assert (world.brought, world.looks.qsize()) == (1, 1)


class Upstream:
    """The engine as the relay has it: what reached it."""

    lost = False

    def __init__(self):
        self.got, self.closed = queue.Queue(), threading.Event()

    def sendall(self, data):
        self.got.put(data)

    def recv(self, size):
        self.closed.wait(10)
        return b""

    def shutdown_write(self):
        self.got.put(b"")
        self.closed.set()

    def close(self):
        self.closed.set()


class Nothing:
    """Has no request read."""

    def wants(self, parts):
        return False


class Clients:
    """Stands where docker.sock's listener does; gives each client's end of a connection."""

    def __init__(self, monkeypatch, world):
        monkeypatch.setattr(forwards, "serve_each", self._take)
        self._upstreams = queue.SimpleQueue()
        SocketForward(
            None, self._open, Activity(), pytest.fail, lambda: ClientRequests(Nothing(), world.service.before)
        )

    def _take(self, listener, serve, name):
        self._serve = serve

    def _open(self):
        made = Upstream()
        self._upstreams.put(made)
        return made

    def connect(self):
        here, there = socket.socketpair()
        threading.Thread(target=self._serve, args=(there,), daemon=True).start()
        return here, self._upstreams.get(timeout=10)


@pytest.mark.skipif(os.name == "nt", reason="loopback, which unit tests may not use")
def test_a_request_at_docker_sock_is_held_and_others_go_on_meanwhile(monkeypatch):
    world = HeldWorld()
    clients = Clients(monkeypatch, world)
    one, engine_of_one = clients.connect()
    two, engine_of_two = clients.connect()
    with one, two:
        one.sendall(request("/containers/far/start"))
        assert world.begun.wait(10)
        for path in ("/containers/near/start", "/containers/near/wait"):
            two.sendall(request(path))
            assert engine_of_two.got.get(timeout=10) == request(path)
        assert engine_of_one.got.empty()
        world.go.set()
        assert engine_of_one.got.get(timeout=10) == request("/containers/far/start")
        assert world.brought == 1
