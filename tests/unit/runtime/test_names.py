"""Which container a host name means, and at which port."""

from __future__ import annotations

from typing import Any

import pytest

from hostvm.names.route import Target
from runtime.docker import names
from runtime.docker.api import EngineApiError
from runtime.docker.names import EngineRouter, http_port, pick


def container(name: str, address: str = "172.17.0.2", *ports: int, **labels: str) -> dict[str, Any]:
    return {
        "Names": [f"/{name}", f"/other/{name}-alias"],
        "Labels": {key.replace("__", "."): value for key, value in labels.items()},
        "Ports": [{"PrivatePort": port, "Type": "tcp"} for port in ports],
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": address}}},
    }


def unknown(ident: str) -> dict[str, Any]:
    """What is not to be had of a container that ends meanwhile."""
    assert ident is not None
    return {}


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
    assert pick(RUNNING, name.split("."), "box", unknown) == target


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
    joined("six", "sixes", {"sixes": {"IPAddress": "", "GlobalIPv6Address": "fd00::2"}}),
    joined("side-of-six", "container:id-six"),
    joined("both", "a", {"a": {"GlobalIPv6Address": "fd00::3"}, "b": {"IPAddress": "172.18.0.9"}}),
    # Podman's list: "host" of all, and the other one's networks.
    joined("podman-six", "host", {"sixes": {"IPAddress": "", "GlobalIPv6Address": "fd00::4"}}),
    joined("podman-side", "host", {"podman": {"IPAddress": "10.88.0.2"}}),
    joined("podman-alone", "host", NOWHERE),
]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("app", Target("172.17.0.2", 80)),
        ("onhost", Target("127.0.0.1", 80)),
        ("side", Target("172.17.0.2", 9000)),
        ("third", Target("172.17.0.2", 9000)),
        ("by-name", Target("172.17.0.2", 80)),
        ("by-short-id", Target("172.17.0.2", 80)),
        ("side-of-host", Target("127.0.0.1", 80)),
        ("podman-side", Target("10.88.0.2", 80)),
        ("six", Target("fd00::2", 80)),
        ("side-of-six", Target("fd00::2", 80)),
        ("both", Target("172.18.0.9", 80)),
        ("podman-six", Target("fd00::4", 80)),
        *((name, None) for name in ("alone", "side-of-alone", "orphan", "ring", "podman-alone")),
    ],
)
def test_a_container_is_where_its_network_is(name, target):
    """That of another container is the other's, and without one it is nowhere, least of all at the guest's loopback."""
    assert pick(NETWORKS, [name], "box", unknown) == target


def test_only_what_can_be_reached_is_listed(monkeypatch):
    router = EngineRouter("/run/docker.sock", "box")
    monkeypatch.setattr(router, "_running", lambda _: NETWORKS)
    assert router.names(None) == [
        "app", "both", "by-name", "by-short-id", "onhost", "podman-side", "podman-six", "side", "side-of-host",
        "side-of-six", "six", "third",
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
    found = container("x", "172.17.0.2", *ports, **labels)
    assert http_port(found, [found], unknown) == port


def test_a_port_published_on_two_addresses_is_one_port():
    found = container("x", "172.17.0.2", 3000, 3000)
    assert http_port(found, [found], unknown) == 3000


def seen(mode: str, *exposed: str, published: tuple[str, ...] = ()) -> dict[str, Any]:
    """As GET /containers/ID/json tells of one."""
    bindings = {port: [{"HostIp": "", "HostPort": "8000"}] for port in published}
    config = {"ExposedPorts": {port: {} for port in exposed}}
    return {"Config": config, "HostConfig": {"NetworkMode": mode, "PortBindings": bindings}}


TCP_3000 = {"Ports": [{"PrivatePort": 3000, "Type": "tcp"}]}
SHARED = [
    joined("vpn", "bridge", {"bridge": {"IPAddress": "172.17.0.2"}}, **TCP_3000),
    joined("labelled", "bridge", {"bridge": {"IPAddress": "172.17.0.3"}}, Labels={"hostvm.http.port": "9000"}),
    joined("onhost", "host", {"host": {"IPAddress": ""}}),
    # dockerd's list has no ports of those below.
    *(joined(name, "container:id-vpn") for name in ("own", "several", "bare", "gone", "datagrams")),
    joined("of-bare", "container:id-bare"),
    joined("of-labelled", "container:id-labelled"),
    # Podman's says "host" of all, and of one with another's network that one's ports.
    joined("podman-vpn", "host", {"podman": {"IPAddress": "10.88.0.2"}}, **TCP_3000),
    joined("podman-own", "host", {"podman": {"IPAddress": "10.88.0.2"}}, **TCP_3000),
    joined("podman-bare", "host", {"podman": {"IPAddress": "10.88.0.2"}}, **TCP_3000),
    joined("podman-alone", "host", {"podman": {"IPAddress": "10.88.0.3"}}),
    joined("podman-in-pod", "host", {"podman": {"IPAddress": "10.88.0.4"}}, **TCP_3000),
]
SEEN = {
    "id-onhost": seen("host", "9090/tcp"),
    "id-own": seen("container:id-vpn", "8080/tcp"),
    "id-several": seen("container:id-vpn", "80/tcp", "443/tcp"),
    "id-bare": seen("container:id-vpn"),
    "id-datagrams": seen("container:id-vpn", "53/udp"),
    "id-of-bare": seen("container:id-bare"),
    "id-of-labelled": seen("container:id-labelled"),
    "id-podman-vpn": seen("bridge", published=("3000/tcp",)),
    "id-podman-own": seen("container:id-podman-vpn", "8080/tcp"),
    "id-podman-bare": seen("container:id-podman-vpn"),
    "id-podman-alone": seen("bridge", "5000/tcp"),
    "id-podman-in-pod": seen("container:a-pods-own-which-is-not-listed"),
}


@pytest.mark.parametrize(
    ("name", "port"),
    [
        ("vpn", 3000),
        ("own", 8080),
        ("several", 80),
        ("bare", 3000),
        ("gone", 3000),
        ("datagrams", 3000),
        ("of-bare", 3000),
        ("of-labelled", 9000),
        ("onhost", 9090),
        ("podman-vpn", 3000),
        ("podman-own", 8080),
        ("podman-bare", 3000),
        ("podman-alone", 5000),
        ("podman-in-pod", 3000),
    ],
)
def test_with_the_network_of_another_it_answers_where_it_or_the_other_does(name, port):
    found = pick(SHARED, [name], "box", lambda ident: SEEN.get(ident, {}))
    assert found is not None
    assert found.port == port


def test_the_router_looks_at_such_a_container_and_does_without_when_it_is_gone(monkeypatch):
    asked = []

    class Api:
        def __init__(self, connect, machine):
            assert machine == "box"

        def call(self, method, path):
            asked.append((method, path))
            if path == "/containers/json":
                return SHARED
            if path == "/containers/id-own/json":
                return SEEN["id-own"]
            raise EngineApiError("gone", status=404)

    monkeypatch.setattr(names, "EngineApi", Api)
    router = EngineRouter("/run/docker.sock", "box")
    assert router.find(None, ["own"]) == Target("172.17.0.2", 8080)
    assert asked[-1] == ("GET", "/containers/id-own/json")
    assert router.find(None, ["gone"]) == Target("172.17.0.2", 3000)
    asked.clear()
    assert router.find(None, ["vpn"]) == Target("172.17.0.2", 3000)
    assert asked == [("GET", "/containers/json")], "the list tells of one with a network of its own"
