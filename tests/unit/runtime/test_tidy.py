"""When room and memory are given back, and how the engine's use is counted."""

from __future__ import annotations

import queue
import threading
from types import SimpleNamespace

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.machines.trim import TRIM
from hostvm.spec import default_spec
from runtime.docker import tidy
from runtime.docker.events import EngineEvents
from runtime.docker.tidy import FIRST, QUIET, WEEK, Plan, TidyService
from runtime.docker.usage import PRUNABLE, Use, prune_engine, read_use
from runtime.engine import find_engine


def test_a_trim_comes_some_time_after_the_last_deletion():
    plan = Plan(1000)
    assert plan.trim == 1000 + FIRST
    plan.hear("delete", 1005)
    plan.hear("destroy", 1008)
    assert plan.trim == 1008 + QUIET
    plan.trimmed(1020)
    assert plan.trim == 1020 + WEEK
    assert plan.reclaim > 1e9


def test_memory_is_asked_for_after_a_container_ended_and_once():
    plan = Plan(0)
    plan.hear("die", 5)
    assert (plan.reclaim, plan.trim) == (5 + QUIET, FIRST)
    plan.reclaimed()
    assert plan.reclaim > 1e9


@pytest.fixture
def feeds(monkeypatch):
    """The filters of every feed that was made, and who hears of it."""
    made = []

    class Feed:
        def __init__(self, filters):
            self.filters = filters
            made.append(self)

        def start(self, guest, host, hear, begun):
            self.hear = hear

        def stop(self):
            pass

    monkeypatch.setattr(EngineEvents, "feed", lambda *words: Feed(words[-1]))
    return made


@pytest.fixture
def run(monkeypatch):
    """Starts a service; gives what it has the guest do."""
    monkeypatch.setattr(tidy, "_TICK", 0.01)
    begun, done = [], queue.Queue()

    def start(service):
        def act(argv, timeout):
            done.put(argv)
            return SimpleNamespace(status=0)

        begun.append(service)
        service.start(SimpleNamespace(run=act), SimpleNamespace(log=pytest.fail, machine="box"))
        return done

    yield start
    for service in begun:
        service.stop()
    until(lambda: all(thread.name != "tidy" for thread in threading.enumerate()))


@pytest.mark.parametrize(
    ("asked", "told"),
    [("delete", "delete"), ("destroy", "destroy"), ("remove", "delete"), ("remove", "remove"), ("prune", "prune")],
)
def test_what_docker_and_podman_call_a_removal_is_heard_of(asked, told, feeds, run, monkeypatch):
    monkeypatch.setattr(tidy, "QUIET", 0.0)
    done = run(TidyService(EngineEvents("/run/docker.sock"), "docker"))
    assert asked in feeds[0].filters["event"]
    feeds[0].hear({"Action": told})
    assert done.get(timeout=10) == TRIM


def test_without_events_there_is_a_trim_some_time_after_the_start(feeds, run, monkeypatch):
    monkeypatch.setattr(tidy, "FIRST", 0.0)
    service = next(one for one in find_engine("containerd").services(default_spec()) if one.name == "tidy")
    assert run(service).get(timeout=10) == TRIM
    assert feeds == []


def test_the_engines_use():
    told = {
        "LayersSize": 900,
        "Images": [
            {"Containers": 1, "Size": 500, "SharedSize": 100},
            {"Containers": 0, "Size": 500, "SharedSize": 100},
            {"Containers": 0, "Size": 3},
        ],
        "Containers": [{"State": "running", "SizeRw": 7}, {"State": "exited", "SizeRw": 5}, {"State": "created"}],
        "Volumes": [{"UsageData": {"Size": 40, "RefCount": 1}}, {"UsageData": {"Size": 2, "RefCount": 0}}],
        "BuildCache": [{"Size": 30, "InUse": True}, {"Size": 4, "InUse": False}, {"Size": 99, "Shared": True}],
    }
    assert read_use(told) == {
        "images": Use(3, 1, 900, 500),
        "containers": Use(3, 1, 12, 5),
        "volumes": Use(2, 1, 42, 2),
        "build_cache": Use(3, 1, 34, 4),
    }


def test_an_engine_that_has_nothing_says_null():
    nothing = Use(0, 0, 0, 0)
    told = {"LayersSize": 0, "Images": None, "Containers": None, "Volumes": None, "BuildCache": None}
    assert set(read_use(told).values()) == {nothing}


class Api:
    def __init__(self):
        self.asked = []

    def call(self, method, path, *, query=None, body=None):
        self.asked.append((method, path, query))
        return {"SpaceReclaimed": 5} if path != "/networks/prune" else None


def test_only_what_was_asked_for_is_pruned_and_containers_first():
    api = Api()
    assert prune_engine(api, set()) == {}
    assert api.asked == []
    assert prune_engine(api, {"images", "containers"}) == {"containers": 5, "images": 5}
    assert api.asked == [
        ("POST", "/containers/prune", {}),
        ("POST", "/images/prune", {"filters": '{"dangling": ["false"]}'}),
    ]
    assert set(prune_engine(api, set(PRUNABLE))) == set(PRUNABLE)
