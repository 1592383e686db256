"""When health checks of Podman's containers are run. The API is a stand-in; with real Podman: tests/e2e."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from types import SimpleNamespace

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.spec import default_spec
from runtime.docker import events
from runtime.docker.api import EngineApiError
from runtime.docker.events import EngineEvents
from runtime.podman import health
from runtime.podman.engine import PodmanEngine
from runtime.podman.health import Checks, HealthService

SECOND = 1_000_000_000


class Podman:
    """Containers by id with their Config; `asked` are the checks that were run, `answers` what comes of them."""

    def __init__(self, **containers):
        self.containers = containers
        self.answers = {}
        self.asked = []
        self.inspected = []

    def call(self, method, path):
        assert method == "GET"
        parts = path.split("/")
        if path == "/libpod/containers/json":
            return [{"Id": ident} for ident in self.containers]
        if parts[4] == "json":
            self.inspected.append(parts[3])
            return {"Config": self.containers[parts[3]]}
        assert parts[4] == "healthcheck"
        self.asked.append(parts[3])
        answer = self.answers.get(parts[3], "healthy")
        if isinstance(answer, int):
            raise EngineApiError("refused", status=answer)
        return {"Status": answer}


class World:
    """Checks at a clock of the test; they run at once, or wait in `jobs` when `held`."""

    def __init__(self, podman):
        self.podman, self.now, self.held, self.jobs = podman, 100.0, False, []
        self.checks = Checks(podman, self.spawn, lambda: self.now)

    def spawn(self, job):
        if self.held:
            self.jobs.append(job)
        else:
            job()

    def asked_at(self, *moments):
        """Which checks each of these seconds brought."""
        found = []
        for moment in moments:
            self.now = 100.0 + moment
            self.podman.asked.clear()
            self.checks.begin_due()
            found.append("".join(self.podman.asked))
        return found


def checked(seconds, **more):
    return {"Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": seconds * SECOND}, **more}


def test_the_first_check_is_at_the_start_and_others_an_interval_later():
    world = World(Podman(a=checked(2), b=checked(3)))
    world.checks.look()
    assert world.asked_at(0, 1, 2, 3, 4, 5, 6) == ["ab", "", "a", "b", "a", "", "ab"]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"Healthcheck": None},
        {"Healthcheck": {"Test": ["NONE"], "Interval": SECOND}},
        {"Healthcheck": {"Test": ["CMD", "true"], "Interval": 0}},
    ],
)
def test_without_a_check_there_is_nothing_to_do(config):
    world = World(Podman(a=config))
    world.checks.look()
    world.checks.look()
    assert not world.checks.wait(0)
    assert world.asked_at(0, 60) == ["", ""]
    assert world.podman.inspected == ["a"], "looked at once"


def test_one_without_a_thread_is_begun_when_there_is_one(monkeypatch):
    world = World(Podman(a=checked(5), b=checked(5)))
    world.checks.look()

    def refuse(job):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(world.checks, "_spawn", refuse)
        assert world.asked_at(0) == [""]
    assert world.asked_at(1, 2) == ["ab", ""]


def test_one_that_takes_long_is_not_begun_once_more():
    world = World(Podman(a=checked(1)))
    world.checks.look()
    world.held = True
    assert world.asked_at(0, 1, 2) == ["", "", ""]
    (job,) = world.jobs
    job()
    world.held = False
    assert world.asked_at(2.5, 3) == ["", "a"], "an interval after its end"


def test_a_container_that_begins_anew_is_checked_at_once():
    world = World(Podman(a=checked(30)))
    world.checks.look()
    assert world.asked_at(0, 5) == ["a", ""]
    world.checks.look("a")
    assert world.asked_at(6) == ["a"]


def test_one_that_has_ended_is_forgotten():
    world = World(Podman(a=checked(1), b=checked(1)))
    world.checks.look()
    del world.podman.containers["a"]
    world.checks.look()
    assert world.asked_at(0) == ["b"]
    for status in (409, 404):
        world.podman.answers["b"] = status
        world.now += 10
        assert world.asked_at(world.now - 100) == ["b"]
        assert not world.checks.wait(0)
        world.checks.look()


def test_a_check_that_fails_goes_on():
    world = World(Podman(a=checked(1)))
    world.checks.look()
    world.podman.answers["a"] = 500
    assert world.asked_at(0, 1, 2) == ["a", "a", "a"]


def test_a_start_up_check_has_its_own_interval():
    config = checked(30, StartupHealthCheck={"Interval": SECOND})
    world = World(Podman(a=config))
    world.checks.look()
    world.podman.answers["a"] = "starting"
    assert world.asked_at(0, 1) == ["a", "a"]
    world.podman.answers["a"] = "healthy"
    assert world.asked_at(2, 3, 31, 32) == ["a", "", "", "a"]


def test_events_begin_and_end_the_checks(monkeypatch):
    podman, lines = Podman(), queue.Queue()

    class Api:
        def __init__(self, connect, machine):
            del connect, machine
            self.call = podman.call

        @contextlib.contextmanager
        def open(self, method, path, query):
            assert (method, path, "start" in json.loads(query["filters"])["event"]) == ("GET", "/events", True)
            yield SimpleNamespace(readline=lines.get)

    monkeypatch.setattr(health, "EngineApi", Api)
    monkeypatch.setattr(events, "EngineApi", Api)
    monkeypatch.setattr(health, "_TICK", 0.02)
    monkeypatch.setattr(health, "_REST", 0.02)
    service = HealthService(EngineEvents("/run/podman/podman.sock"))
    service.start(SimpleNamespace(), SimpleNamespace(log=pytest.fail, machine="box"))
    podman.containers["a"] = checked(0.05)
    lines.put(json.dumps({"Type": "container", "Action": "start", "Actor": {"ID": "a"}}).encode())
    until(lambda: len(podman.asked) >= 3)
    assert podman.asked[:3] == ["a", "a", "a"]
    del podman.containers["a"]
    lines.put(json.dumps({"Type": "container", "Action": "die", "Actor": {"ID": "a"}}).encode())
    service.stop()
    lines.put(b"")
    until(lambda: all(one.name != "health" for one in threading.enumerate()))


def test_podman_machines_have_it():
    assert any(isinstance(one, HealthService) for one in PodmanEngine().services(default_spec()))
