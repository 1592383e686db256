"""Names: what the guest and its containers find, and that it is what this computer finds."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from dns import message, rdatatype, rrset
from machines import HOSTVM, eventually, folders_of, hostvm, kill_agent, run, succeed

from hostvm.ssh.connection import connect

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

HOSTS = Path("/etc/hosts")


def resolves(box, container: str, name: str) -> str | None:
    """The address a Debian container finds."""
    done = box.try_docker("exec", container, "getent", "ahostsv4", name)
    return done.out.split()[0] if done.status == 0 and done.out else None


def dns_of(box) -> dict[str, object]:
    """What the agent says of the guest's DNS."""
    return json.loads(box.hostvm("status", "--json"))["agent"]["services"]["dns"]


@pytest.fixture
def dns(box):
    """The shared machine once this computer answers its DNS."""
    eventually(lambda: dns_of(box)["answered_by"] == "host", "the host answers the guest's DNS")
    return box


def test_host_names_without_any_option(dns, residents, host_web):
    for name in ("host.docker.internal", "host.containers.internal"):
        assert dns.docker("exec", residents["busybox"], "wget", "-qO-", f"http://{name}:{host_web}/") == "from outside"
        assert dns.shell("wget", "-qO-", f"http://{name}:{host_web}/") == "from outside"
    assert resolves(dns, residents["debian"], "host.docker.internal") == "10.0.2.2"


def test_host_names_on_a_network_with_the_engines_own_dns(dns, unique, host_web):
    network = unique("net")
    dns.docker("network", "create", network)
    url = f"http://host.docker.internal:{host_web}/"
    assert dns.docker("run", "--rm", "--network", network, "busybox", "wget", "-qO-", url) == "from outside"


def test_host_gateway_is_this_computer(box, unique, host_web):
    network, options = unique("net"), ("--rm", "--add-host", "workstation:host-gateway")
    box.docker("network", "create", network)
    ask = ("busybox", "wget", "-qO-", f"http://workstation:{host_web}/")
    assert box.docker("run", *options, *ask) == "from outside"
    assert box.docker("run", *options, "--network", network, *ask) == "from outside"


@pytest.mark.skipif(not os.access(HOSTS, os.W_OK), reason="adds a line to /etc/hosts and takes it away: needs root")
def test_hosts_file_is_followed_while_running(dns, residents):
    name = f"hostvm-{os.getpid()}.test"
    before = HOSTS.read_bytes()
    assert resolves(dns, residents["debian"], name) is None
    try:
        with HOSTS.open("ab") as file:
            file.write(f"\n192.0.2.77 {name}\n127.0.0.1 local-{name}\n".encode())
        assert resolves(dns, residents["debian"], name) == "192.0.2.77"
        assert resolves(dns, residents["debian"], f"local-{name}") == "10.0.2.2"  # this computer, not the container
        assert dns.shell("nslookup", "-type=a", name).endswith("Address: 192.0.2.77\n")
    finally:
        HOSTS.write_bytes(before)
    eventually(lambda: resolves(dns, residents["debian"], name) is None, "the name is gone", seconds=15)


class Answer(socketserver.BaseRequestHandler):
    """To a query for an address or a text; of other types there are none."""

    def handle(self):
        query, sock = self.request
        asked = message.from_wire(query)
        found, question = message.make_response(asked), asked.question[0]
        if told := self.server.knows.get(question.rdtype):
            found.answer.append(rrset.from_text(question.name, 60, "IN", question.rdtype, told))
        sock.sendto(found.to_wire(), self.client_address)


@contextlib.contextmanager
def nameserver(place: str, address: str):
    """One that knows `address` for every name, and its own place for a text."""
    with socketserver.ThreadingUDPServer((place, 53), Answer) as server:
        server.knows = {rdatatype.A: address, rdatatype.TXT: f'"by {place}"'}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


OFFICE, VPN = (f"127.{1 + os.getpid() % 250}.53.{number}" for number in (1, 2))
ELSEWHERE = ("unshare", "--mount", "sh", "-ec", 'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"', "sh")


def may_have_a_resolver_of_its_own() -> bool:
    programs = sys.platform == "linux" and shutil.which("unshare")
    return bool(programs) and run(*ELSEWHERE, "/dev/null", "true").status == 0


@pytest.fixture
def resolver(dns, tmp_path):
    """The shared machine with an agent for which `resolver(PLACE)` is this computer's nameserver; "" for none."""
    file = tmp_path / "resolv.conf"

    def use(place: str) -> None:
        file.write_text(f"nameserver {place}\n" if place else "# no network\n")

    use(OFFICE)
    kill_agent(dns)
    with nameserver(OFFICE, "192.0.2.10"), nameserver(VPN, "192.0.2.20"):
        succeed(run(*ELSEWHERE, str(file), str(HOSTVM), "start", dns.name))
        eventually(lambda: dns_of(dns)["answered_by"] == "host", "the new agent answers")
        yield use
        kill_agent(dns)
    dns.hostvm("start")


@pytest.mark.skipif(not may_have_a_resolver_of_its_own(), reason="an agent gets a resolv.conf of its own: needs root")
def test_another_nameserver_of_this_computer_is_followed_while_running(resolver, dns, residents):
    """As when a VPN comes up and goes: containers and guest that run all the time ask this computer's new one."""
    name = "wiki.office.test"
    text = ("exec", residents["busybox"], "nslookup", "-type=txt", name)
    for place, address in ((OFFICE, "192.0.2.10"), (VPN, "192.0.2.20"), ("", None), (OFFICE, "192.0.2.10")):
        resolver(place)
        if not address:  # the servers of before are known for two seconds more
            eventually(lambda: resolves(dns, residents["debian"], name) is None, "nobody is asked", seconds=10)
        else:
            assert resolves(dns, residents["debian"], name) == address
            assert dns.shell("nslookup", "-type=a", name).endswith(f"Address: {address}\n")
            eventually(
                lambda place=place: f"by {place}" in dns.try_docker(*text).out, "of other types, too", seconds=10
            )


@pytest.fixture
def ssh_agents(tmp_path):
    """Two real ssh agents of this computer, each with one key: {socket: the key's comment}."""
    started, sockets = [], {}
    for number in (1, 2):
        sock, key = tmp_path / f"agent-{number}", tmp_path / f"key-{number}"
        started.append(subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL))
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"comment-{number}", "-f", key], check=True
        )
        eventually(sock.exists, "the agent's socket")
        env = {**os.environ, "SSH_AUTH_SOCK": str(sock)}
        subprocess.run(["ssh-add", "-q", key], env=env, check=True, capture_output=True)
        sockets[str(sock)] = f"comment-{number}"
    yield sockets
    for agent in started:
        agent.terminate()
        agent.wait()


# SSH_AGENTC_REQUEST_IDENTITIES, and what comes back (draft-ietf-sshm-ssh-agent, 3.5)
ASK_AGENT = r"""
use IO::Socket::UNIX;
my $agent = IO::Socket::UNIX->new("/agent") or die "cannot connect: $!";
print $agent pack("NC", 1, 11);
sysread $agent, my $answer, 4096;
print $answer =~ /(comment-\d)/ ? $1 : "no key";
"""


def test_ssh_agent_is_usable_in_a_container_and_follows_the_user(box, ssh_agents):
    """By a container's ordinary user, too. A command of a new login with another agent makes that one current."""
    for sock, comment in ssh_agents.items():
        succeed(hostvm("-m", box.name, "shell", "--", "true", env={"SSH_AUTH_SOCK": sock}))
        eventually(lambda: box.shell("sh", "-c", "ls -l /run/host-services 2>&1").count("srw-rw-rw-"), "the socket")
        mount = ("-v", "/run/host-services/ssh-auth.sock:/agent")
        done = box.docker("run", "--rm", "-u", "1000", *mount, "debian:trixie", "perl", "-e", ASK_AGENT)
        assert done == comment


def test_names_resolve_on_when_the_agent_dies(dns):
    """Without an agent the guest is back at slirp's own forwarder; the next command brings the host's answers back."""
    _, run = folders_of(dns.name)
    facts = json.loads((run / "agent.json").read_text())
    os.kill(facts["process"][0], signal.SIGKILL)
    guest = connect(
        facts["ssh_port"],
        client_key=Path(facts["client_key"]),
        host_public_key=facts["host_public_key"],
        deadline=time.monotonic() + 60,
    )
    with contextlib.closing(guest):
        rules = ("iptables", "-t", "nat", "-S")
        eventually(lambda: b"--dport 53" not in guest.run(rules).stdout, "the rules are gone")
    eventually(lambda: dns_of(dns)["answered_by"] == "host" if dns.shell("true") == "" else False, "answers again")
    assert dns.shell(*rules).count("--dport 53") == 4
