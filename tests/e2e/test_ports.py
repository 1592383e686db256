"""Published ports, from this computer's side, with a real engine and a real hypervisor."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import threading
import time

import psutil
import pytest
from machines import eventually, hostvm, succeed
from port_checks import ECHO, dial, echo, free_ports, ls, own_address, quietly, read_all, row

from hostvm.machines.open import machine_driver
from hostvm.paths import MachinePaths
from hostvm.spec import load_spec
from hostvm.state import load_state

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


class Published:
    """A container with every form of `-p`, and where each is to be found."""

    def __init__(self, machine, name):
        self.machine, self.name = machine, name
        self.plain, self.first, self.loopback, self.everywhere, self.six, self.all_six = free_ports(6, run_of=3)
        ports = [
            f"{self.plain}:7000",
            f"{self.first}-{self.first + 2}:7001-7003",
            f"127.0.0.1:{self.loopback}:7000",
            f"0.0.0.0:{self.everywhere}:7000",
            f"[::1]:{self.six}:7000",
            f"[::]:{self.all_six}:7000",
            "7000",
        ]
        listens = [f"0.0.0.0:{port}" for port in range(7000, 7004)]
        words = [word for port in ports for word in ("-p", port)]
        machine.docker("run", "-d", "--name", name, *words, "debian:trixie", "perl", "-e", ECHO, *listens)
        eventually(lambda: "listening" in self.said(), "the container listens")

    def said(self):
        return self.machine.docker("logs", self.name)


@pytest.fixture(scope="module")
def published(machine):
    made = Published(machine, f"published-{os.getpid()}")
    yield made
    machine.docker("rm", "-f", made.name)


def send_all(sock, data):
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def test_every_form_of_publish(machine, published):
    for port in (published.plain, published.first, published.first + 1, published.first + 2):
        assert echo(port) == b"hellobye"
        assert echo(port, "::1") == b"hellobye"
    assert echo(published.loopback) == b"hellobye"
    for port in (published.six, published.all_six):
        assert echo(port, "::1") == b"hellobye"
    assert echo(published.everywhere) == b"hellobye"
    bindings = machine.container(published.name)["NetworkSettings"]["Ports"]["7000/tcp"]
    asked = (published.plain, published.loopback, published.everywhere, published.six, published.all_six)
    (random,) = {one["HostPort"] for one in bindings} - set(map(str, asked))
    assert echo(int(random)) == b"hellobye"


def test_only_what_was_asked_for_is_bound(machine, published):
    address = own_address()
    if address is None:
        pytest.skip("this computer has loopback addresses only")
    assert echo(published.everywhere, address) == b"hellobye"
    for port in (published.plain, published.loopback):
        with pytest.raises(ConnectionRefusedError):
            dial(port, address)
    for port in (published.loopback, published.everywhere):
        with pytest.raises(ConnectionRefusedError):
            dial(port, "::1")
    for port in (published.six, published.all_six):
        with pytest.raises(ConnectionRefusedError):
            dial(port)


def test_an_address_of_this_computer_only(box, unique):
    """The guest does not have it, and the engine publishes there all the same."""
    address = own_address()
    if address is None:
        pytest.skip("this computer has loopback addresses only")
    (port,) = free_ports(1)
    words = ("-p", f"{address}:{port}:7000", "debian:trixie", "perl", "-e", ECHO, "0.0.0.0:7000")
    box.docker("run", "-d", "--name", unique("lan"), *words)
    eventually(lambda: row(box, port, host=address), "the port is open")
    eventually(lambda: quietly(echo, port, address) == b"hellobye", "the container answers")
    with pytest.raises(ConnectionRefusedError):
        dial(port)


def test_a_low_port_where_it_may_be_had(box, unique):
    port = low_port()
    box.docker("run", "-d", "--name", unique("low"), "-p", f"{port}:80", "busybox", "httpd", "-f")
    assert row(box, port)["state"] == "open"
    for host in ("127.0.0.1", "::1"):
        eventually(lambda host=host: is_web(port, host), f"it answers at {host}")


def is_web(port, host):
    return (quietly(echo, port, host, b"GET / HTTP/1.0\r\n\r\n") or b"").startswith(b"HTTP/1.1 404")


def low_port() -> int:
    """One of those that belong to root on most systems, which nobody has now; 80 is another test's."""
    for port in (443, *range(1023, 600, -1)):
        try:
            with socket.create_server(("127.0.0.1", port)), socket.create_server(("::1", port), family=socket.AF_INET6):
                return port
        except PermissionError:
            pytest.skip(f"this user may not have port {port}")
        except OSError:
            continue
    pytest.skip("all low ports are taken")


def test_machine_yaml_exposes_what_names_no_address(exposed):
    address = own_address()
    if address is None:
        pytest.skip("this computer has loopback addresses only")
    port, hidden = free_ports(2)
    words = ("-p", f"{port}:80", "-p", f"127.0.0.1:{hidden}:80", "busybox", "httpd", "-f")
    exposed.docker("run", "-d", "--name", "seen", *words)
    for host in ("127.0.0.1", "::1", address):
        eventually(lambda host=host: is_web(port, host), f"it answers at {host}")
    assert is_web(hidden, "127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        dial(hidden, address)


def test_half_close_both_ways_and_resets(published):
    for port in (published.plain, published.loopback):  # through the hypervisor, through ssh
        big = os.urandom(256 * 1024)
        with dial(port) as sock:
            threading.Thread(target=send_all, args=(sock, big)).start()
            assert read_all(sock) == big + b"bye"
        before = published.said()
        with dial(port) as sock:
            sock.sendall(b"end\n")
            assert read_all(sock) == b"bye"
            sock.sendall(b"more")
        eventually(lambda before=before: published.said()[len(before) :] == "\nheard 4 after the end", "all is heard")
        with dial(port) as sock:  # closed by the container: the client sees it at once
            sock.sendall(b"reset\n")
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
    sock = dial(published.plain)
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    eventually(lambda: published.said().endswith("reset by peer"), "the container sees the reset")


def test_thousand_in_sequence_and_two_hundred_at_once(machine, published):
    agent = psutil.Process(json.loads(machine.hostvm("status", "--json"))["agent"]["pid"])
    assert echo(published.first) == b"hellobye"
    descriptors, carried = agent.num_fds(), row(machine, published.first)["connections"]
    for number in range(1000):
        assert echo(published.first, data=b"%d" % number) == b"%dbye" % number
    socks = [dial(published.first) for _ in range(200)]
    for number, sock in enumerate(socks):
        sock.sendall(b"%d" % number)
        sock.shutdown(socket.SHUT_WR)
    for number, sock in enumerate(socks):
        assert read_all(sock) == b"%dbye" % number
        sock.close()
    assert row(machine, published.first)["connections"] == carried + 1200
    eventually(lambda: agent.num_fds() <= descriptors, f"the agent has no more than {descriptors} descriptors")


def test_two_hundred_at_once_by_ssh(machine, published):
    """All of them open, each a channel of the one connection. What they cost of memory is printed."""
    agent = psutil.Process(json.loads(machine.hostvm("status", "--json"))["agent"]["pid"])
    assert echo(published.loopback) == b"hellobye"
    descriptors, before = agent.num_fds(), agent.memory_info().rss
    socks = [dial(published.loopback) for _ in range(200)]
    for number, sock in enumerate(socks):
        sock.sendall(b"%03d" % number)
    for number, sock in enumerate(socks):
        assert sock.recv(3, socket.MSG_WAITALL) == b"%03d" % number
    opened = agent.memory_info().rss
    for sock in socks:
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"bye"
        sock.close()
    eventually(lambda: agent.num_fds() <= descriptors, f"the agent has no more than {descriptors} descriptors")
    told = (value / 2**20 for value in (before, opened, agent.memory_info().rss))
    sys.stdout.write("agent, MiB: {:.1f} before, {:.1f} with 200 streams, {:.1f} after them\n".format(*told))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_connections_that_are_silent_for_ten_minutes_are_still_there(machine, published, unique):
    """Through QEMU's forward, and through ssh: what listens on the guest's loopback alone."""
    (hidden,) = free_ports(1)
    name = unique("hidden")
    listens = f"127.0.0.1:{hidden}"
    machine.docker("run", "-d", "--name", name, "--network", "host", "debian:trixie", "perl", "-e", ECHO, listens)
    eventually(lambda: quietly(echo, hidden) == b"hellobye", "the container listens")
    with dial(published.plain) as plain, dial(hidden) as by_ssh:
        for sock in (plain, by_ssh):
            sock.sendall(b"before")
            assert sock.recv(100) == b"before"
        time.sleep(600)
        for sock in (plain, by_ssh):
            sock.sendall(b"after")
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"afterbye"
    machine.docker("rm", "-f", name)


def test_a_taken_port_is_told_and_opened_when_it_is_free(box, unique):
    name = unique("taken")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run = box.try_docker("run", "-d", "--name", name, "-p", f"{port}:80", "busybox", "httpd", "-f")
        assert run.status == 0
        assert f"hostvm: {name} wants 127.0.0.1:{port}/tcp here, which cannot be opened: another program" in run.err
        found = row(box, port)
        assert (found["state"], found["container"]) == ("failed", name)
        assert found["why"] == f"another program of this computer has port {port}/tcp"
        listed = hostvm("-m", box.name, "port", "ls")
        assert listed.status == 1
        assert f"127.0.0.1:{port}/tcp for {name} cannot be opened" in listed.err
        assert f"127.0.0.1:{port} for {name} cannot be opened" in box.hostvm("status")
        assert box.state(name) == "running"
        assert quietly(dial, port, "::1"), "the other loopback is not taken"
    eventually(lambda: row(box, port)["state"] == "open", "the port is opened when it is free")
    with dial(port) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert read_all(sock).startswith(b"HTTP/1.1 404")


def test_a_port_out_of_range_is_the_engines_own_error(box):
    refused = box.try_docker("run", "-d", "-p", "70000:80", "busybox", "true")
    assert refused.status == 125
    assert "invalid" in refused.err.lower()


def test_listeners_of_the_hosts_network(box, unique):
    name = unique("shares")
    port, hidden = free_ports(2)
    listens = (f"0.0.0.0:{port}", f"127.0.0.1:{hidden}")
    box.docker("run", "-d", "--name", name, "--network", "host", "debian:trixie", "perl", "-e", ECHO, *listens)
    eventually(lambda: row(box, port) and row(box, hidden), "both are listed")
    assert row(box, port)["container"] == row(box, hidden)["container"] == name
    assert echo(port) == echo(hidden) == b"hellobye"
    box.docker("rm", "-f", name)
    eventually(lambda: quietly(dial, port) is None, "the port is closed")
    assert row(box, port) is None


@pytest.mark.slow
def test_a_container_that_starts_again_and_again_keeps_its_port(box, unique):
    """Ten times: by the engine's API, so that no command of hostvm's waits for the port."""
    name, (port,) = unique("again"), free_ports(1)
    box.docker("run", "-d", "--name", name, "-p", f"{port}:80", "busybox", "httpd", "-f")
    first = row(box, port)
    for _ in range(10):
        box.sdk.api.restart(name, timeout=0)
        eventually(lambda: is_web(port, "127.0.0.1"), "it answers again")
    assert is_web(port, "::1")
    again = row(box, port)
    assert [again[key] for key in ("host", "state", "container")] == [
        first[key] for key in ("host", "state", "container")
    ]
    assert len([one for one in ls(box) if one["container"] == name]) == 2, "of each loopback one"
    box.docker("stop", "-t", "0", name)
    eventually(lambda: row(box, port) is None, "it is closed with its container")
    with pytest.raises(ConnectionRefusedError):
        dial(port)


def test_compose(box):
    (port,) = free_ports(1)
    project = f"ports{os.getpid()}"
    text = f"services:\n  web:\n    image: busybox\n    command: httpd -f\n    ports: ['{port}:80']\n"
    succeed(hostvm("-m", box.name, "compose", "-p", project, "-f", "-", "up", "-d", stdin=text))
    assert row(box, port)["container"] == f"{project}-web-1"  # open when the command ends, no wait
    with dial(port) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert read_all(sock).startswith(b"HTTP/1.1 404")


@pytest.mark.slow
def test_services_of_a_swarm(box, unique):
    name = unique("service")
    mesh, own = free_ports(2)
    box.docker("swarm", "init", "--advertise-addr", "10.0.2.15")
    try:
        publish = ("--publish", f"{mesh}:80", "--publish", f"published={own},target=80,mode=host")
        web = ("--no-resolve-image", "--stop-grace-period", "0s", "busybox", "httpd", "-f")
        box.docker("service", "create", "--detach", "--name", name, *publish, *web)
        request = b"GET / HTTP/1.0\r\n\r\n"
        for port in (mesh, own):
            eventually(lambda port=port: b"404" in (quietly(echo, port, "127.0.0.1", request) or b""), "it answers", 60)
        assert row(box, mesh)["container"] == name
        assert row(box, own)["container"].startswith(f"{name}.1.")
        box.docker("service", "rm", name)
        eventually(lambda: not row(box, mesh), "its port is closed")
    finally:
        box.docker("swarm", "leave", "--force")


def test_an_agent_that_is_killed_is_replaced_with_its_ports(machine, published):
    assert echo(published.plain) == b"hellobye"
    paths = MachinePaths.of(machine.name)
    forwards = machine_driver(paths, load_state(paths), load_spec(paths.spec)).forwards()
    old, started = set(forwards.listed()), machine.container(published.name)["State"]["StartedAt"]
    assert len(old) > 1
    os.kill(json.loads(machine.hostvm("status", "--json"))["agent"]["pid"], signal.SIGKILL)
    eventually(lambda: quietly(dial, published.plain) is None, "the ports end with the agent")
    assert machine.docker("ps", "-q")
    eventually(lambda: quietly(echo, published.plain) == b"hellobye", "the next command heals the port")
    assert machine.container(published.name)["State"]["StartedAt"] == started
    assert len(set(forwards.listed()) & old) == 1, "rules of the dead agent are gone, but that of ssh"
