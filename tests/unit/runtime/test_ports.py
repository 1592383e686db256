from __future__ import annotations

import errno
import threading
from unittest.mock import Mock

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.agent.service import PortForward, Traffic
from hostvm.guest import Completed
from runtime.docker import ports
from runtime.docker.events import EngineEvents
from runtime.docker.ports import PortService, place
from runtime.docker.published import container_forwards, service_forwards, uses_host_network


def facts(bound, asked, *, networks=None, mode="bridge"):
    return {
        "HostConfig": {"PortBindings": asked, "NetworkMode": mode},
        "NetworkSettings": {"Ports": bound, "Networks": networks or {"bridge": {"IPAddress": "172.17.0.2"}}},
    }


def on(address, port):
    return {"HostIp": address, "HostPort": str(port)}


BOTH = [on("0.0.0.0", 8080), on("::", 8080)]


def tcp(host, port, guest_host="127.0.0.1", guest_port=None, *, outside=True):
    return PortForward("tcp", host, port, guest_host, guest_port or port, outside)


@pytest.mark.parametrize(
    ("bound", "asked", "expose", "expected"),
    [
        pytest.param(
            {"80/tcp": BOTH},
            {"80/tcp": [on("", 8080)]},
            "loopback",
            {tcp("127.0.0.1", 8080), tcp("::1", 8080)},
            id="plain",
        ),
        pytest.param(
            {"80/tcp": BOTH}, {"80/tcp": [on("", 8080)]}, "lan", {tcp("0.0.0.0", 8080), tcp("::", 8080)}, id="lan"
        ),
        pytest.param(
            {"80/tcp": [on("0.0.0.0", 8080)]},
            {"80/tcp": [on("0.0.0.0", 8080)]},
            "loopback",
            {tcp("0.0.0.0", 8080)},
            id="every IPv4 address, asked for",
        ),
        pytest.param(
            {"80/tcp": [on("::", 8080)]},
            {"80/tcp": [on("::", 8080)]},
            "loopback",
            {tcp("::", 8080, "::1", outside=False)},
            id="the same, IPv6",
        ),
        pytest.param(
            {"80/tcp": [*BOTH, on("0.0.0.0", 8081)]},
            {"80/tcp": [on("", 8080), on("0.0.0.0", 8081)]},
            "loopback",
            {tcp("127.0.0.1", 8080), tcp("::1", 8080), tcp("0.0.0.0", 8081)},
            id="both at once",
        ),
        pytest.param(
            {"80/tcp": [on("127.0.0.1", 8080)]},
            {"80/tcp": [on("127.0.0.1", 8080)]},
            "lan",
            {tcp("127.0.0.1", 8080, "127.0.0.1", outside=False)},
            id="loopback, asked for",
        ),
        pytest.param(
            {"80/tcp": [on("127.0.0.5", 8080)]},
            {"80/tcp": [on("127.0.0.5", 8080)]},
            "loopback",
            {tcp("127.0.0.5", 8080, "127.0.0.5", outside=False)},
            id="another loopback",
        ),
        pytest.param(
            {"80/tcp": [on("192.168.1.5", 8080)]},
            {"80/tcp": [on("192.168.1.5", 8080)]},
            "loopback",
            {tcp("192.168.1.5", 8080, "172.17.0.2", 80, outside=False)},
            id="an address of this computer",
        ),
        pytest.param(
            {"80/tcp": [on("0.0.0.0", 32768), on("::", 32768)]},
            {"80/tcp": [on("", "")]},
            "loopback",
            {tcp("127.0.0.1", 32768), tcp("::1", 32768)},
            id="random",
        ),
        pytest.param(
            {"80/tcp": [on("0.0.0.0", 32768)]},
            {"80/tcp": [on("0.0.0.0", "0")]},
            "loopback",
            {tcp("0.0.0.0", 32768)},
            id="random on every address",
        ),
        pytest.param(
            {"80/tcp": [on("0.0.0.0", 8003)]},
            {"80/tcp": [on("0.0.0.0", "8000-8010")]},
            "loopback",
            {tcp("0.0.0.0", 8003)},
            id="one of a range",
        ),
        pytest.param(
            {"80/tcp": [on("0.0.0.0", 32769)]}, {}, "loopback", {tcp("127.0.0.1", 32769)}, id="-P: nothing was asked"
        ),
        pytest.param(
            {"53/udp": [on("0.0.0.0", 53)]},
            {"53/udp": [on("", 53)]},
            "loopback",
            {PortForward("udp", "127.0.0.1", 53, "127.0.0.1", 53)},
            id="udp",
        ),
        *(
            pytest.param(
                {"53/udp": [on(host, 5353)]},
                {"53/udp": [on(host, 5353)]},
                "loopback",
                {PortForward("udp", host, 5353, "172.17.0.2", 53, outside=False)},
                id=f"udp on {host}",
            )
            for host in ("127.0.0.1", "192.168.1.5", "::1", "::")
        ),
        pytest.param({"9/sctp": [on("0.0.0.0", 9)]}, {"9/sctp": [on("", 9)]}, "loopback", set(), id="sctp"),
        pytest.param({"80/tcp": None}, {}, "loopback", set(), id="only exposed"),
        pytest.param({}, None, "loopback", set(), id="nothing"),
    ],
)
def test_what_a_container_publishes(bound, asked, expose, expected):
    assert container_forwards(facts(bound, asked), expose) == expected


def test_a_container_with_ipv6_alone_is_reached_at_its_address():
    bound = {"80/tcp": [on("fd00::5", 8080)]}
    six = {"six": {"IPAddress": "", "GlobalIPv6Address": "fd01::2"}}
    expected = {tcp("fd00::5", 8080, "fd01::2", 80, outside=False)}
    assert container_forwards(facts(bound, bound, networks=six), "loopback") == expected


def test_an_address_of_this_computer_needs_the_containers_own_which_a_rootless_engine_keeps():
    bound = {"80/tcp": [{"HostIp": "192.168.1.5", "HostPort": "8080"}]}
    assert container_forwards(facts(bound, {}), "loopback")
    assert not container_forwards(facts(bound, {}), "loopback", reached=False)


def test_udp_on_the_loopback_of_a_rootless_engine_leads_where_nothing_does():
    bound = {"53/udp": [on("127.0.0.1", 5353)]}
    expected = {PortForward("udp", "127.0.0.1", 5353, "127.0.0.1", 5353, outside=False)}
    assert container_forwards(facts(bound, bound), "loopback", reached=False) == expected


def test_services_of_a_swarm():
    ports = [
        {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"},
        {"Protocol": "udp", "TargetPort": 53, "PublishedPort": 5353, "PublishMode": "ingress"},
        {"Protocol": "tcp", "TargetPort": 81, "PublishedPort": 8081, "PublishMode": "host"},
        {"Protocol": "tcp", "TargetPort": 82},
    ]
    found = service_forwards([{"Spec": {"Name": "web"}, "Endpoint": {"Ports": ports}}, {"Spec": {}}], "loopback")
    assert set(found.values()) == {"web"}
    assert {(one.protocol, one.host, one.port) for one in found} == {
        *(("tcp", host, 8080) for host in ("127.0.0.1", "::1")),
        *(("udp", host, 5353) for host in ("127.0.0.1", "::1")),
    }


def test_host_network():
    assert uses_host_network(facts({}, {}, mode="host"))
    assert not uses_host_network(facts({}, {}))


def test_place():
    assert (place("127.0.0.1", 80), place("::1", 80)) == ("127.0.0.1:80", "[::1]:80")


class RecordingHost:
    """The agent's side: which listeners are open, and ports that cannot be."""

    machine = "box"

    def __init__(self):
        self.open, self.refused, self.lines = set(), {}, []

    def open_port(self, forward):
        if forward.port in self.refused:
            raise OSError(self.refused[forward.port], "not yours")
        self.open.add(forward)

    def close_port(self, forward):
        self.open.discard(forward)

    def traffic(self, forward):
        return Traffic(1, 2, 3)

    def log(self, text):
        self.lines.append(text)

    tell = log


@pytest.fixture
def host():
    return RecordingHost()


@pytest.fixture
def service(host):
    made = PortService(EngineEvents("/run/docker.sock"))
    made._host = host
    made._stopped = threading.Event()

    def want(wanted):
        made._containers = {name: (name, frozenset(forwards)) for name, forwards in wanted.items()}
        made._apply()

    made.want = want
    return made


def test_listeners_follow_what_is_wanted(service, host):
    first, second = tcp("127.0.0.1", 80), tcp("127.0.0.1", 81)
    service.want({"a": [first], "b": [second]})
    service.want({"b": [second]})
    assert host.open == {second}
    assert service.describe()["open"] == [
        {
            "container": "b",
            "protocol": "tcp",
            "host": "127.0.0.1:81",
            "guest": "127.0.0.1:81",
            "sent": 1,
            "received": 2,
            "connections": 3,
        }
    ]


def test_ports_outlive_a_lost_connection(service, host):
    service.want({"a": [tcp("127.0.0.1", 80)]})
    service.stop()
    assert host.open == {tcp("127.0.0.1", 80)}


def test_a_taken_port_is_told_once_and_tried_again(service, host):
    host.refused = {80: errno.EADDRINUSE}
    wanted = {"web": [tcp("127.0.0.1", 80), tcp("127.0.0.1", 81)]}
    service.want(wanted)
    service.want(wanted)
    assert len([line for line in host.lines if "web wants 127.0.0.1:80/tcp here" in line]) == 1
    assert service.describe()["failed"] == [
        {
            "container": "web",
            "protocol": "tcp",
            "host": "127.0.0.1:80",
            "guest": "127.0.0.1:80",
            "why": "not yours",
        }
    ]
    assert host.open == {tcp("127.0.0.1", 81)}
    host.refused.clear()
    service.want(wanted)
    assert service.describe()["failed"] == []
    assert host.open == {tcp("127.0.0.1", 80), tcp("127.0.0.1", 81)}


def test_whoever_is_told_of_a_port_may_ask_for_all(service, host):
    """Telling may take its time, and nobody else may wait for it: not `status` either."""
    host.refused = {80: errno.EADDRINUSE}
    found = []

    def tell(text):
        asking = threading.Thread(target=lambda: found.append(service.describe()), daemon=True)
        asking.start()
        asking.join(5)

    host.tell = tell
    service.want({"web": [tcp("127.0.0.1", 80)]})
    assert [row["container"] for row in found[0]["failed"]] == ["web"]


class Ruled:
    """A guest that is given rules."""

    def __init__(self, status=0):
        self.status, self.given = status, []

    def run(self, argv, *, stdin=b"", timeout=60.0):
        self.given.append(stdin.decode())
        return Completed(self.status, b"", b"no such table")


def udp(host, port, guest_host="172.17.0.2", guest_port=53, *, outside=False):
    return PortForward("udp", host, port, guest_host, guest_port, outside)


def test_udp_on_one_address_has_a_way_of_its_own_as_long_as_it_is_wanted(service, host):
    service._guest = guest = Ruled()
    wanted = {"dns": [udp("127.0.0.1", 5353), udp("::1", 5353)]}
    service.want({"web": [tcp("127.0.0.1", 80)]})
    assert guest.given == []
    service.want(wanted)
    service.want(wanted)
    assert host.open == {udp(one, 5353, "127.0.0.1", 61000, outside=True) for one in ("127.0.0.1", "::1")}
    assert [row["guest"] for row in service.describe()["open"]] == ["172.17.0.2:53"] * 2
    service.want({})
    assert len(guest.given) == 2
    assert "--dport 61000 -j DNAT --to-destination 172.17.0.2:53\n" in guest.given[0]
    assert "DNAT" not in guest.given[1]
    assert host.open == set()


def test_a_guest_that_may_be_another_is_given_the_rules_again(service):
    service._guest = guest = Ruled()
    service._api = lambda: OneAnswer("dns")
    service._look_at = lambda *_: {"State": {"Running": True}, **facts({"53/udp": [on("127.0.0.1", 5353)]}, {})}
    service._read_services = lambda: None
    service._read_all()
    service._read_all()
    assert len([text for text in guest.given if "DNAT" in text]) == 2


def test_udp_that_the_guest_s_kernel_does_not_lead_is_not_said_to_be_open(service, host):
    service._guest = guest = Ruled(status=1)
    service.want({"dns": [udp("127.0.0.1", 5353)]})
    service.want({"dns": [udp("127.0.0.1", 5353)]})
    assert host.open == {udp("127.0.0.1", 5353)}  # which the agent refuses
    assert len(guest.given) == 1
    assert [line for line in host.lines if "no such table" in line]


class OneAnswer:
    """An engine that says the same containers run, whatever it is asked."""

    def __init__(self, *ids):
        self.ids = ids

    def call(self, method, path):
        return [{"Id": ident} for ident in self.ids]


def test_settled_when_every_running_container_is_known(service, host):
    service._api = lambda: OneAnswer("a", "b")
    service.want({"a": []})
    late = threading.Timer(0.05, lambda: service.want({"a": [], "b": [tcp("127.0.0.1", 80)]}))
    late.start()
    assert service.settle(30)
    assert host.open == {tcp("127.0.0.1", 80)}


def test_settling_ends_in_time(service):
    service._api = lambda: OneAnswer("never known")
    assert not service.settle(0.01)


class OneContainer:
    """An engine with one container, as `state` says it is."""

    def __init__(self):
        self.state = {"Running": True}

    def call(self, method, path):
        if path == "/containers/json":
            return [{"Id": "a"}] if self.state["Running"] else []
        return {"Name": "/web", "State": self.state, **facts({}, {"80/tcp": [on("127.0.0.1", 80)]})}


def test_a_container_that_waits_to_be_restarted_is_a_use_without_ports(service, host):
    engine = OneContainer()
    service._api, service._work = lambda: engine, threading.Event()
    event = {"Type": "container", "Actor": {"ID": "a"}}
    service._obey({**event, "Action": "start"})
    assert service.in_use()
    engine.state = {"Running": True, "Restarting": True}  # as the engine has it between two lives
    service._obey({**event, "Action": "die"})
    assert service.in_use()
    assert service._containers == {}
    service.settle(0.01)
    assert service._known == {"a"}
    service._look_at_waiting()
    assert service.in_use()
    engine.state = {"Running": False}  # removed meanwhile, of which no event tells
    service._look_at_waiting()
    assert not service.in_use()


class OddContainer(OneContainer):
    """Of two containers one that is told of as no engine should."""

    def __init__(self, odd):
        super().__init__()
        self.odd, self.listed = odd, [{"Id": "odd"}, {"Id": "a"}, {"Names": "none"}, None]

    def call(self, method, path):
        if path == "/containers/json":
            return self.listed
        if path == "/services":
            return [{"Spec": "odd"}, {"Endpoint": {"Ports": [{"PublishedPort": 81}]}}]
        well = facts({"80/tcp": [on("127.0.0.1", 80)]}, {})
        return self.odd if "/odd/" in path else {"Name": "/web", "State": self.state, **well}


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param([], id="no object"),
        pytest.param({"State": "running"}, id="state"),
        pytest.param({"HostConfig": ["odd"]}, id="settings"),
        *(
            pytest.param(facts({"80/tcp": bound}, {}), id=name)
            for name, bound in {
                "binding": ["8080"],
                "text": [on("0.0.0.0", "http")],
                "large": [on("0.0.0.0", 65536)],
                "list": [on("0.0.0.0", "80") | {"HostPort": [80]}],
                "address": [on("here", 80)],
                "number": [on("0.0.0.0", 80) | {"HostIp": 0.5}],
                "endless": [on("0.0.0.0", 80) | {"HostPort": float("inf")}],
            }.items()
        ),
    ],
)
def test_one_that_is_told_of_oddly_is_without_ports_and_the_others_have_theirs(service, host, odd):
    """It had all be read anew for ever, and nobody had any; or had the thread of all ports end."""
    if isinstance(odd, dict):
        odd = {"State": {"Running": True}, **odd}
    engine = OddContainer(odd)
    service._guest, service._api, service._work = Mock(), lambda: engine, threading.Event()
    for _ in range(2):
        service._read_all()
    assert host.open == {tcp("127.0.0.1", 80, outside=False), tcp("127.0.0.1", 81), tcp("::1", 81)}
    assert len([line for line in host.lines if "nothing of container odd, which the engine tells oddly" in line]) == 1
    assert service.settle(0.01)
    engine.odd = {"State": {"Running": True}, **facts({"82/tcp": [on("127.0.0.1", 82)]}, {})}
    service._obey({"Type": "container", "Actor": {"ID": "odd"}, "Action": "start"})
    assert tcp("127.0.0.1", 82, outside=False) in host.open


def test_an_odd_service_is_told_once_and_again_when_it_is_odd_in_another_way_or_anew(service, host):
    """It stood in the log at each event of any service."""
    engine = OddContainer({})
    odd = [{"ID": "one", "Spec": "odd"}, {"ID": "two", "Spec": "odd"}, "odd", {"ID": ["odd"], "Spec": "odd"}]
    service._guest, service._api = Mock(), lambda: engine

    def look(*services):
        engine.call = lambda *_: [*services, {"ID": "well", "Endpoint": {"Ports": [{"PublishedPort": 81}]}}]
        host.lines.clear()
        for _ in range(3):
            service._obey({"Type": "service", "Actor": {"ID": "well"}, "Action": "update"})
        assert tcp("127.0.0.1", 81) in host.open
        return [line for line in host.lines if "oddly" in line]

    assert len(look(*odd)) == 4
    assert not look(*odd)
    (line,) = look(*odd[:1], {"ID": "two", "Endpoint": {"Ports": [{"PublishedPort": 65536}]}})
    assert "65536 is no port" in line
    assert not look({"ID": "one", "Spec": {}})
    assert len(look(*odd[:1])) == 1


def test_looking_goes_on_after_an_odd_answer_which_is_told_once(service, host, monkeypatch):
    monkeypatch.setattr(ports, "_TICK", 0.001)
    answers = iter([7, 7, None, {"message": "odd"}])
    looked = threading.Event()

    class Odd:
        def call(self, method, path):
            if (answer := next(answers, "over")) == "over":
                looked.set()
                return []
            return answer

    service._api, service._waiting, service._work = Odd, frozenset({"a"}), threading.Event()
    ticking = threading.Thread(target=service._tick, args=(service._stopped, service._work), daemon=True)
    ticking.start()
    assert looked.wait(30)
    until(lambda: not service.in_use())
    service.stop()
    ticking.join(30)
    assert not ticking.is_alive()
    assert len([line for line in host.lines if "the engine's list of containers is int" in line]) == 1


def test_a_container_that_ends_takes_its_failure_along(service, host):
    host.refused = {80: errno.EACCES}
    service.want({"web": [tcp("127.0.0.1", 80)]})
    service.want({})
    assert service.describe() == {"open": [], "failed": []}


def test_a_port_that_is_refused_by_both_loopbacks_is_told_in_one_line(service, host):
    host.refused = {80: errno.EACCES}
    service.want({"web": [tcp("127.0.0.1", 80), tcp("::1", 80)]})
    assert len(service.describe()["failed"]) == 2
    (told,) = [line for line in host.lines if "cannot be opened" in line]
    assert told.startswith("web wants 127.0.0.1:80/tcp here, which cannot be opened, nor [::1]:80/tcp: ")


def test_a_computer_without_ipv6_lacks_nothing_that_was_asked_for(service, host):
    host.refused = {80: errno.EADDRNOTAVAIL}
    service.want({"web": [tcp("::1", 80)]})
    assert service.describe()["failed"] == []
    service.want({"web": [tcp("192.0.2.1", 80)]})
    assert len(service.describe()["failed"]) == 1
