"""The order of a move and what it undoes, with engines that only remember what they were asked."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from hostvm.errors import HostvmError
from images.progress import NullProgress
from runtime.docker.api import EngineApiError
from runtime.docker.move import move_container

FACTS = {
    "Id": "0123456789abcdef",
    "Name": "/web",
    "State": {"Running": True},
    "Config": {"Image": "app", "Hostname": "0123456789ab", "Cmd": ["run"]},
    "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}, "CgroupParent": "/x"},
    "NetworkSettings": {"Networks": {"bridge": {}, "backend": {"Aliases": ["0123456789ab", "db"]}}},
    "Mounts": [{"Type": "volume", "Name": "data", "Destination": "/var/data", "Source": "/v"}],
}


class Body:
    length = None

    def __init__(self):
        self.chunks = [b"tar", b""]

    def read1(self, size):
        return self.chunks.pop(0)


class Engine:
    def __init__(self, facts=None, refuse="", there=()):
        self.facts, self.refuse, self.there, self.asked, self.bodies = facts, refuse, set(there), [], {}

    def call(self, method, path, *, query=None, body=None):
        self.asked.append(f"{method} {path}")
        self.bodies[f"{method} {path}"] = body
        if self.refuse and self.refuse in f"{method} {path}":
            raise EngineApiError("refused", "because", "look", 500)
        if method == "GET":
            if self.facts and path.startswith("/containers/"):
                return self.facts
            if path not in self.there:
                raise EngineApiError("not found", None, "look", 404)
        return {"Id": "new"}

    @contextmanager
    def open(self, method, path, **kwargs):
        self.asked.append(f"{method} {path}")
        yield Body()

    def upload(self, method, path, chunks, *, query=None):
        self.asked.append(f"{method} {path} {b''.join(chunks).decode()}")
        return ""


def test_the_original_goes_last():
    source, target = Engine(FACTS), Engine()
    moved = move_container(source, target, "web", NullProgress())
    assert (moved.name, moved.container_id, moved.volumes, moved.running) == ("web", "new", ("data",), True)
    assert moved.carried == 6
    assert source.asked[-1] == f"DELETE /containers/{FACTS['Id']}"
    assert target.asked[-1] == "POST /containers/new/start"
    created = target.bodies["POST /containers/create"]
    assert created["HostConfig"] == {"PortBindings": FACTS["HostConfig"]["PortBindings"]}
    assert created["Hostname"] == ""
    assert created["NetworkingConfig"]["EndpointsConfig"] == {"backend": {"Aliases": ["db"]}}
    assert "POST /networks/create" in target.asked


def test_a_failure_undoes_the_copy_and_starts_the_original():
    source, target = Engine(FACTS), Engine(refuse="POST /containers/new/start")
    with pytest.raises(HostvmError, match="refused"):
        move_container(source, target, "web", NullProgress())
    undone = target.asked[target.asked.index("POST /containers/new/start") + 1 :]
    assert undone[:2] == ["DELETE /containers/new?force=1", "DELETE /volumes/data"]
    assert undone[2].startswith("DELETE /images/")
    assert source.asked[-1] == f"POST /containers/{FACTS['Id']}/start"
    assert f"DELETE /containers/{FACTS['Id']}" not in source.asked


@pytest.mark.parametrize("there", ["/containers/web/json", "/volumes/data"])
def test_nothing_at_the_target_is_overwritten(there):
    source, target = Engine(FACTS), Engine(there=[there])
    with pytest.raises(HostvmError, match="already has a"):
        move_container(source, target, "web", NullProgress())
    assert not [asked for asked in [*source.asked, *target.asked] if not asked.startswith("GET")]


def test_one_that_its_engine_removes_at_its_stop_is_refused_before_that():
    source, target = Engine(FACTS | {"HostConfig": {"AutoRemove": True}}), Engine()
    with pytest.raises(HostvmError, match="web was made with --rm") as caught:
        move_container(source, target, "web", NullProgress())
    assert "hostvm docker commit web" in caught.value.resolution
    assert source.asked == ["GET /containers/web/json"]
    assert target.asked == []
    source.facts |= {"State": {"Running": False}}
    assert not move_container(source, target, "web", NullProgress()).running


def test_a_container_with_bind_mounts_stays():
    facts = FACTS | {"Mounts": [{"Type": "bind", "Source": "/srv", "Destination": "/srv"}]}
    source = Engine(facts)
    with pytest.raises(HostvmError, match="cannot be moved") as caught:
        move_container(source, Engine(), "web", NullProgress())
    assert "/srv" in caught.value.details
    assert source.asked == ["GET /containers/web/json"]
