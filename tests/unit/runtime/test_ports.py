from __future__ import annotations

import threading

from runtime.docker.ports import PortService, Publication, publications


def container(*ports):
    return {"Names": ["/web"], "Ports": list(ports)}


def port(private, public=None, ip="0.0.0.0", kind="tcp"):
    entry = {"PrivatePort": private, "Type": kind}
    return entry | ({"PublicPort": public, "IP": ip} if public else {})


def test_the_wildcard_becomes_the_hosts_loopback():
    found = publications(container(port(80, 8080), port(80, 8080, "::"), port(443)))
    assert found == {Publication("127.0.0.1", 8080, "127.0.0.1", 8080)}


def test_an_address_that_was_asked_for_is_kept():
    assert publications(container(port(80, 8080, "127.0.0.2"))) == {Publication("127.0.0.2", 8080, "127.0.0.1", 8080)}


def test_udp_is_not_carried_over_ssh():
    assert publications(container(port(53, 5353, kind="udp"))) == frozenset()


def test_a_container_without_ports_publishes_nothing():
    assert publications({"Names": ["/x"], "Ports": None}) == frozenset()


class RecordingHost:
    """The agent's side: which listeners are open, and one port that another program holds."""

    def __init__(self, taken=()):
        self.open, self.taken, self.lines = set(), set(taken), []

    def open_port(self, host, port, guest_host, guest_port):
        if port in self.taken:
            raise OSError(98, "Address already in use")
        self.open.add((host, port))

    def close_port(self, host, port):
        self.open.discard((host, port))

    def log(self, text):
        self.lines.append(text)


def service(host):
    made = PortService("/run/docker.sock")
    made._host = host
    made._stopped = threading.Event()
    return made


def test_listeners_follow_what_is_wanted():
    host = RecordingHost()
    ports = service(host)
    first, second = Publication("127.0.0.1", 80, "127.0.0.1", 80), Publication("127.0.0.1", 81, "127.0.0.1", 81)
    ports._apply({first: "a", second: "b"})
    ports._apply({second: "b"})
    assert host.open == {("127.0.0.1", 81)}
    assert ports.describe()["open"] == [{"container": "b", "host": "127.0.0.1:81", "guest": "127.0.0.1:81"}]
    ports.stop()
    assert host.open == set()


def test_a_taken_port_is_told_once_and_tried_again():
    host = RecordingHost(taken=[80])
    ports = service(host)
    wanted = {Publication("127.0.0.1", 80, "127.0.0.1", 80): "web"}
    ports._apply(wanted)
    ports._apply(wanted)
    assert len([line for line in host.lines if "cannot be opened" in line]) == 1
    assert ports.describe()["failed"][0]["host"] == "127.0.0.1:80"
    host.taken.clear()
    ports._apply(wanted)
    assert ports.describe()["failed"] == []
    assert host.open == {("127.0.0.1", 80)}
