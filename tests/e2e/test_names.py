"""Names: what the guest and its containers find, and that it is what this computer finds."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from machines import eventually, folders_of, hostvm, succeed

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
