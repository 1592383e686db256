"""Which container a host name means, and at which port."""

from __future__ import annotations

from typing import Any

import pytest

from hostvm.names.route import Target
from runtime.docker.names import http_port, pick


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
