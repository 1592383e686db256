"""Settings that count from a start on: proxies, authorities, registries, subnet. One machine with all of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from machines import (
    HOSTVM,
    eventually,
    folders_of,
    hostvm,
    may_have_networks_of_its_own,
    run,
    running_machine,
    succeed,
)
from servers import HOST, make_authority, serve

from hostvm.net.certificates import host_store, to_pem

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

REGISTRY = "registry.test:5000"
"""Known to the proxy alone, and spoken to without TLS: what asks it went through the proxy and was told so."""

UNKNOWN = "certificate signed by unknown authority"


def guest_asks(machine, ports: dict[str, int]) -> dict[str, str]:
    """What a TLS client among the guest's programs says of each registry."""
    words = ("-m", machine.name, "shell", "--", "docker", "manifest", "inspect")
    return {name: hostvm(*words, f"{HOST}:{port}/x").both for name, port in ports.items()}


def set_up(name: str, **settings: object) -> None:
    """Change machine.yaml as a user's editor would."""
    file = folders_of(name)[0] / "machine.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **settings}))


@pytest.fixture(scope="module")
def proxy():
    server = serve()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def registries(tmp_path_factory):
    """TLS registries on this computer, each of an authority of its own: their PEM files and ports.

    The machine is told of corp's, on Linux by this computer's store; of single's and expired's for their registries
    alone, of stranger's not at all.
    """
    folder = tmp_path_factory.mktemp("authorities")
    made = {name: make_authority(folder, name) for name in ("corp", "single", "stranger")}
    made["expired"] = make_authority(folder, "expired", days_ago=30)
    servers = {name: serve(context) for name, (_, context) in made.items()}
    files = {name: authority for name, (authority, _) in made.items()}
    yield files, {name: server.server_address[1] for name, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def trust(tmp_path_factory):
    """`trust(FILE)`: this computer trusts FILE's authority, too, and the last FILE's no more; gives the environment."""
    store = tmp_path_factory.mktemp("store") / "store.pem"
    own = to_pem(host_store())

    def put(authority: Path) -> dict[str, str]:
        store.write_bytes(own + authority.read_bytes())
        return {"SSL_CERT_FILE": str(store)}

    return put


@pytest.fixture(scope="module")
def configured(proxy, registries, trust):
    with pytest.MonkeyPatch.context() as patch:
        name = f"net-{proxy.server_address[1]}"
        succeed(hostvm("create", name, "--cpus", "1", "--memory", "1GiB", "--names", "off"))
        set_up(
            name,
            ca="host" if sys.platform == "linux" else str(registries[0]["corp"]),
            network={"subnet": "192.168.231.0/24"},
            registries={
                "insecure": [REGISTRY],
                "ca": {f"{HOST}:{registries[1][one]}": str(registries[0][one]) for one in ("single", "expired")},
            },
            daemon={"log-opts": {"max-file": "9"}},
        )
        patch.setenv("HTTP_PROXY", f"http://localhost:{proxy.server_address[1]}")
        patch.setenv("NO_PROXY", ".corp.example")
        for variable, value in trust(registries[0]["corp"]).items():
            patch.setenv(variable, value)
        with running_machine(name) as made:
            for variable in ("HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
                patch.delenv(variable)
            made.hostvm("image", "base", "busybox:latest")
            yield made


def test_folders_are_shared_in_another_subnet(configured):
    rows = json.loads(configured.hostvm("mount", "ls", "--json"))
    assert [(row["kind"], row["state"]) for row in rows] == [("nfs", "mounted")]
    assert f" {Path.home()} nfs " in configured.shell("cat", "/proc/mounts")


def test_subnet_and_daemon_settings_are_the_wanted_ones(configured):
    assert "192.168.231.15/24" in configured.shell("busybox", "ip", "addr", "show", "eth0")
    daemon = json.loads(configured.shell("cat", "/run/hostvm/seed/engine/daemon.json"))
    assert daemon["log-opts"] == {"max-size": "10m", "max-file": "9"}
    hosts = configured.docker("run", "--rm", "--add-host", "x:host-gateway", "busybox", "cat", "/etc/hosts")
    assert "192.168.231.2\tx" in hosts
    services = json.loads(configured.hostvm("status", "--json"))["agent"]["services"].keys()
    assert {"ports", "dns", "ssh-agent"} <= services
    assert "names" not in services, "it is off in the settings"


def test_shell_containers_and_builds_use_the_proxy_of_this_computer(configured, proxy, tmp_path):
    url = "http://only.the.proxy.knows/"
    assert configured.shell("wget", "-qO-", url) == "from the proxy"
    shown = configured.docker("run", "--rm", "busybox", "sh", "-c", f"wget -qO- {url}; echo $NO_PROXY")
    assert shown.startswith("from the proxy\n.corp.example,localhost,")
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\nRUN wget -qO /page {url}\nRUN env | grep -q no_proxy\n")
    configured.docker("build", "-t", "through-proxy", str(tmp_path))
    history = configured.docker("history", "--no-trunc", "through-proxy")
    assert "192.168.231.2" not in history, "the proxy is no part of the image"
    assert [path for path, _ in proxy.RequestHandlerClass.seen].count(url) == 3


def test_the_engine_uses_the_proxy_and_knows_insecure_registries(configured, proxy):
    assert "manifest unknown" in configured.try_docker("pull", f"{REGISTRY}/thing").both
    asked = {path: agent for path, agent in proxy.RequestHandlerClass.seen if REGISTRY in path}
    assert f"http://{REGISTRY}/v2/" in asked
    assert all(agent.startswith("docker/") for agent in asked.values())


def test_a_registry_of_an_own_authority_is_believed_and_a_strangers_is_not(configured, registries):
    said = {name: configured.try_docker("pull", f"{HOST}:{port}/x").both for name, port in registries[1].items()}
    assert "manifest unknown" in said["corp"], "it was asked for the image"
    assert "manifest unknown" in said["single"], "its authority is that of this one registry"
    assert UNKNOWN in said["stranger"]
    assert "certificate has expired" in said["expired"]
    looked = guest_asks(configured, registries[1])
    assert "manifest unknown" in looked["corp"], "the guest's own programs believe it, too"
    assert UNKNOWN in looked["stranger"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a store of this test's own can be named on Linux only")
def test_a_replaced_store_of_this_computer_counts_from_the_next_start(configured, registries, trust):
    succeed(hostvm("stop", configured.name))
    succeed(hostvm("start", configured.name, env=trust(registries[0]["stranger"])))
    said = {name: configured.try_docker("pull", f"{HOST}:{port}/x").both for name, port in registries[1].items()}
    assert "manifest unknown" in said["stranger"]
    assert UNKNOWN in said["corp"], "this computer trusts it no more"
    looked = guest_asks(configured, registries[1])
    assert "manifest unknown" in looked["stranger"]
    assert UNKNOWN in looked["corp"]


OFFICE = """
ip link set lo up
ip address add 10.0.2.9/24 dev lo
ip route add 192.168.127.0/24 dev lo
ip route add 172.18.0.0/16 dev lo
exec "$@"
"""
"""Networks of a start's own: an interface's, a VPN's that is a route alone, and one that dockerd would take."""


@pytest.mark.slow
@pytest.mark.skipif(not may_have_networks_of_its_own(), reason="a start gets networks of its own: needs Linux and root")
def test_a_start_steps_aside_for_networks_of_this_computer(spare, unique):
    assert "10.0.2.15/24" in spare.shell("busybox", "ip", "addr", "show", "eth0"), "as it is without a clash"
    succeed(hostvm("stop", spare.name))
    try:
        words = ("unshare", "--net", "sh", "-ec", OFFICE, "sh", str(HOSTVM), "start", spare.name)
        started = run(*words, env={"HOSTVM_CLIENT": "guest"})
        succeed(started)
        assert "the guest's network is 10.127.2.0/24: this computer has 10.0.2.0/24" in started.err
        assert "10.127.2.15/24" in spare.shell("busybox", "ip", "addr", "show", "eth0")
        ask = ("run", "--rm", "busybox", "nslookup", "-type=a", HOST)
        eventually(lambda: spare.try_docker(*ask).out.rstrip().endswith("Address: 10.127.2.2"), "it answers")
        network = unique("aside")
        spare.docker("network", "create", network)
        assert spare.inspect(network)["IPAM"]["Config"][0]["Subnet"] == "172.19.0.0/16"
        spare.docker("network", "rm", network)
    finally:
        succeed(hostvm("stop", spare.name))


@pytest.mark.parametrize(
    ("env", "settings", "says"),
    [
        ({"HTTPS_PROXY": "ftp://user:secret@proxy:1"}, {}, "HTTPS_PROXY in the environment is no proxy's URL"),
        ({}, {"ca": "/etc/hostname"}, "/etc/hostname holds no certificate in PEM form"),
        ({}, {"daemon": {"hosts": ["tcp://0.0.0.0:2375"]}}, "daemon.hosts: cannot be set"),
        ({}, {"network": {"subnet": "10.0.0.0/8"}}, "/24 to /27"),
    ],
)
def test_what_cannot_be_used_is_one_error_before_the_start(env, settings, says, unique):
    name = unique("bad")[:24]
    succeed(hostvm("create", name))
    try:
        set_up(name, **settings)
        failed = hostvm("start", name, env=env)
        assert failed.status == 2
        assert says in failed.err
        assert "secret" not in failed.err
        assert "Traceback" not in failed.err
        assert not any(folders_of(name)[1].glob("qemu.pid")), "no guest was started"
    finally:
        succeed(hostvm("rm", "--force", name))
