"""Containers reached by their names from this computer, without a published port."""

from __future__ import annotations

import http.client
import os
import socket
import threading

import pytest
from machines import eventually, hostvm, succeed

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


def get(port: str, host: str, path: str = "/") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


@pytest.fixture(scope="module")
def named(machine):
    """A web server with compose's labels, and `mirror`, which sends back every byte that reaches it."""
    with machine.clean():
        labels = ("--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=api")
        page = "mkdir -p /w && hostname > /w/index.html && exec httpd -f -p 3000 -h /w"
        machine.docker("run", "-d", "--name", "front", "--expose", "3000", *labels, "busybox", "sh", "-c", page)
        port = ("--expose", "1", "--expose", "2", "--label", "hostvm.http.port=7")
        machine.docker("run", "-d", "--name", "mirror", *port, "busybox", "nc", "-ll", "-p", "7", "-e", "cat")
        yield machine


def test_a_container_is_reached_by_name_service_and_machine(named, names_port):
    page = eventually(lambda: get(names_port, "front.hostvm.localhost")[1], "the page")
    names = ("api.shop", "shop-api", f"front.{named.name}", "FRONT")
    assert {name: get(names_port, f"{name}.hostvm.localhost:{names_port}") for name in names} == dict.fromkeys(
        names, (200, page)
    )
    assert f"http://front.hostvm.localhost:{names_port}/" in get(names_port, "hostvm.localhost")[1]


def test_other_hosts_and_unknown_names_are_refused(named, names_port):
    assert get(names_port, "evil.example")[0] == 421
    assert get(names_port, f"127.0.0.1:{names_port}")[0] == 421
    status, text = get(names_port, "nobody.hostvm.localhost")
    assert status == 404
    assert "front" in text
    named.docker("stop", "-t", "0", "front")
    eventually(lambda: get(names_port, "front.hostvm.localhost")[0] == 404, "its name goes with the container")
    named.docker("start", "front")
    eventually(lambda: get(names_port, "front.hostvm.localhost")[0] == 200, "the container is back at its name")


def test_only_loopback_listens(names_port):
    with socket.socket() as probe:
        probe.settimeout(3)
        assert probe.connect_ex((own_address(), int(names_port))) != 0


def own_address() -> str:
    """An address of this computer that is not loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


HEAD = b"%s / HTTP/1.1\r\nHost: mirror.hostvm.localhost\r\n%s\r\n\r\n"


def echoed(sock: socket.socket, data: bytes) -> bytes:
    """What comes back of `data`, read while it is sent."""
    sender = threading.Thread(target=sock.sendall, args=(data,))
    sender.start()
    found = b""
    while len(found) < len(data) and (more := sock.recv(1 << 20)):
        found += more
    sender.join()
    return found


@pytest.fixture
def mirror(named, names_port):
    with socket.create_connection(("127.0.0.1", int(names_port)), timeout=60) as sock:
        yield sock


def test_kept_connections_chunks_and_large_bodies_pass_unchanged(mirror):
    body = os.urandom(4 << 20)
    chunked = b"".join(b"%x\r\n%s\r\n" % (65536, body[at : at + 65536]) for at in range(0, len(body), 65536))
    for data in (
        HEAD % (b"GET", b"Accept: */*"),
        HEAD % (b"POST", b"Content-Length: %d" % len(body)) + body,
        HEAD % (b"POST", b"Transfer-Encoding: chunked") + chunked + b"0\r\n\r\n",
        HEAD % (b"GET", b"X: again"),
    ):
        assert echoed(mirror, data) == data


def test_an_upgraded_connection_carries_anything(mirror):
    data = HEAD % (b"GET", b"Connection: Upgrade\r\nUpgrade: websocket")
    assert echoed(mirror, data) == data
    for frame in (b"\x81\x05hello", os.urandom(100_000), b"GET / HTTP/1.1\r\nHost: other\r\n\r\n"):
        assert echoed(mirror, frame) == frame


def test_a_kept_connection_does_not_lead_to_another_host(mirror):
    data = HEAD % (b"GET", b"X: first")
    assert echoed(mirror, data) == data
    mirror.sendall(b"GET / HTTP/1.1\r\nHost: front.hostvm.localhost\r\n\r\n")
    assert mirror.recv(4096) == b""


@pytest.fixture
def at_80(spare, names_port):
    """The spare machine with `names: 80`; it answers at the port of the others afterwards."""
    try:
        socket.create_server(("127.0.0.1", 80)).close()
    except OSError as fault:
        pytest.skip(f"port 80 of this computer cannot be had: {fault}")
    succeed(hostvm("set", "--restart", spare.name, "names=80"))
    with spare.clean():
        yield spare
    succeed(hostvm("set", "--restart", spare.name, f"names={names_port}"))


def test_names_need_no_port_in_the_address_where_port_80_may_be_had(at_80):
    page = "mkdir -p /w && echo here > /w/index.html && exec httpd -f -h /w"
    at_80.docker("run", "-d", "--name", "plain", "busybox", "sh", "-c", page)
    eventually(lambda: get("80", "plain.hostvm.localhost") == (200, "here\n"), "the page")
    assert "http://plain.hostvm.localhost/\n" in get("80", "hostvm.localhost")[1]
    assert "http://NAME.hostvm.localhost/\n" in succeed(hostvm("status", at_80.name)) + "\n"
    taken = at_80.try_docker("run", "-d", "--name", "published", "-p", "80:80", "busybox", "httpd", "-f")
    assert "wants 127.0.0.1:80/tcp here, which cannot be opened" in taken.err
    assert get("80", "plain.hostvm.localhost") == (200, "here\n")
