"""Which container a host name means, and at which port."""

from __future__ import annotations

from typing import Any

import pytest

from hostvm.names.route import Target
from runtime.docker.names import EngineRouter, http_port, pick


def container(name: str, address: str = "172.17.0.2", *ports: int, **labels: str) -> dict[str, Any]:
    return {
        "Names": [f"/{name}", f"/other/{name}-alias"],
        "Labels": {key.replace("__", "."): value for key, value in labels.items()},
        "Ports": [{"PrivatePort": port, "Type": "tcp"} for port in ports],
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": address}}},
    }


COMPOSE = {"com__docker__compose__project": "Shop", "com__docker__compose__service": "api"}
RUNNING = [
    container("web", "172.17.0.2", 80),
    container("shop-api-2", "172.18.0.3", 9000, **COMPOSE),
    container("shop-api-1", "172.18.0.2", 9000, **COMPOSE),
    container("My_App", "172.17.0.4", 80, 443),
    container("v1.site", "172.17.0.5"),
    container("hostnet", ""),
]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("web", Target("172.17.0.2", 80)),
        ("WEB", Target("172.17.0.2", 80)),
        ("web.box", Target("172.17.0.2", 80)),
        ("api.shop", Target("172.18.0.2", 9000)),
        ("shop-api", Target("172.18.0.2", 9000)),
        ("shop-api-2", Target("172.18.0.3", 9000)),
        ("my_app", Target("172.17.0.4", 80)),
        ("v1.site", Target("172.17.0.5", 80)),
        ("hostnet", Target("127.0.0.1", 80)),
        ("api", None),
        ("web-alias", None),
        ("web.other-machine", None),
        ("", None),
    ],
)
def test_pick(name, target):
    assert pick(RUNNING, name.split("."), "box") == target


def joined(name: str, mode: str, networks: dict[str, Any] | None = None, **facts: Any) -> dict[str, Any]:
    """As dockerd lists one that was made with `--network MODE`."""
    found = {**container(name), "Id": f"id-{name}", "HostConfig": {"NetworkMode": mode}, **facts}
    return {**found, "NetworkSettings": {"Networks": networks or {}}}


NOWHERE = {"none": {"IPAddress": ""}}
NETWORKS = [
    joined("app", "bridge", {"bridge": {"IPAddress": "172.17.0.2"}}),
    joined("onhost", "host", {"host": {"IPAddress": ""}}),
    joined("alone", "none", NOWHERE),
    joined("side", "container:id-app", Labels={"hostvm.http.port": "9000"}),
    joined("third", "container:id-side"),
    joined("by-name", "container:app"),
    joined("by-short-id", "container:id-ap"),
    joined("side-of-host", "container:id-onhost"),
    joined("side-of-alone", "container:id-alone"),
    joined("orphan", "container:id-stopped"),
    joined("ring", "container:id-ring"),
    # Podman's list: "host" of all, and the other one's networks.
    joined("podman-side", "host", {"podman": {"IPAddress": "10.88.0.2"}}),
    joined("podman-alone", "host", NOWHERE),
]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("app", Target("172.17.0.2", 80)),
        ("onhost", Target("127.0.0.1", 80)),
        ("side", Target("172.17.0.2", 9000)),
        ("third", Target("172.17.0.2", 80)),
        ("by-name", Target("172.17.0.2", 80)),
        ("by-short-id", Target("172.17.0.2", 80)),
        ("side-of-host", Target("127.0.0.1", 80)),
        ("podman-side", Target("10.88.0.2", 80)),
        *((name, None) for name in ("alone", "side-of-alone", "orphan", "ring", "podman-alone")),
    ],
)
def test_a_container_is_where_its_network_is(name, target):
    """That of another container is the other's, and without one it is nowhere, least of all at the guest's loopback."""
    assert pick(NETWORKS, [name], "box") == target


def test_only_what_can_be_reached_is_listed(monkeypatch):
    router = EngineRouter("/run/docker.sock", "box")
    monkeypatch.setattr(router, "_running", lambda _: NETWORKS)
    assert router.names(None) == [
        "app", "by-name", "by-short-id", "onhost", "podman-side", "side", "side-of-host", "third"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ports", "labels", "port"),
    [
        ((), {}, 80),
        ((3000,), {}, 3000),
        ((3000, 9229), {}, 80),
        ((3000, 9229), {"hostvm__http__port": "9229"}, 9229),
        ((3000,), {"hostvm__http__port": "x"}, 3000),
    ],
)
def test_port(ports, labels, port):
    assert http_port(container("x", "172.17.0.2", *ports, **labels)) == port


def test_a_port_published_on_two_addresses_is_one_port():
    found = container("x", "172.17.0.2", 3000, 3000)
    assert http_port(found) == 3000
