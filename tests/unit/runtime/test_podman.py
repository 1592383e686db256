"""Podman's configuration files for one boot."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from hostvm.errors import SpecError
from hostvm.net.addresses import GuestNetwork
from hostvm.net.plan import NetworkPlan
from hostvm.spec import default_spec
from runtime.docker.published import container_forwards
from runtime.podman.ports import asked_bindings
from runtime.podman.settings import containers_conf, mirrored_conf, registries_conf

OWN = {"containers": {"host_containers_internal_ip": "10.0.2.2"}}


def settings(taken: tuple[str, ...] = (), **wanted: object) -> dict[str, Any]:
    plan = NetworkPlan(GuestNetwork.of("10.0.2.0/24"), tuple(IPv4Network(text) for text in taken), {}, b"")
    return tomllib.loads(containers_conf(replace(default_spec(), **wanted), plan))


def registries(**wanted: object) -> dict[str, Any]:
    return tomllib.loads(registries_conf(replace(default_spec(), registries=wanted)))


def test_without_wishes_only_the_gateway_is_said():
    assert settings() == OWN


def test_networks_keep_off_those_of_this_computer():
    assert settings(("192.168.1.0/24", "172.17.0.0/16")) == OWN
    found = settings(("10.88.1.0/24", "172.17.0.0/16"))["network"]
    assert found["default_subnet"] == "172.18.0.0/16"
    assert {"base": "172.19.0.0/16", "size": 16} in found["default_subnet_pools"]
    assert not any(one["base"] in ("172.17.0.0/16", "172.18.0.0/16") for one in found["default_subnet_pools"])


def test_the_users_settings_are_tables_and_win():
    daemon = {"containers": {"pids_limit": 7, "host_containers_internal_ip": "192.0.2.1"}, "engine": {"env": ['a="b"']}}
    assert settings(daemon=daemon) == daemon


def test_texts_may_have_any_letter():
    daemon = {
        "containers": {
            **OWN["containers"],
            "env": ['SAYS=\u00e9 \u4e16 \U0001f433 \t"'],
            "annotations": {"\U0001f433": "x"},
        }
    }
    assert settings(daemon=daemon) == daemon


def test_every_wrong_setting_at_once():
    daemon = {"log-opts": {"max-size": "1m"}, "engine": {"cgroup_manager": "systemd", "env": None}}
    with pytest.raises(SpecError) as raised:
        settings(daemon=daemon)
    assert raised.value.brief == "3 wrong settings for the engine"
    assert [line.partition(": ")[0] for line in str(raised.value.details).splitlines()] == [
        "daemon.log-opts",
        "daemon.engine.cgroup_manager",
        "daemon.engine.env",
    ]


def test_names_are_docker_hubs_and_loopback_speaks_http():
    assert registries() == {
        "unqualified-search-registries": ["docker.io"],
        "short-name-mode": "permissive",
        "registry": [{"location": "localhost", "insecure": True}, {"location": "127.0.0.1", "insecure": True}],
    }


def test_mirrors_and_insecure_registries():
    found = registries(mirrors=["http://m.example/hub/", "https://s.example"], insecure=["r.example:5000"])["registry"]
    assert found[0] == {
        "location": "docker.io",
        "mirror": [{"location": "m.example/hub", "insecure": True}, {"location": "s.example"}],
    }
    assert found[-1] == {"location": "r.example:5000", "insecure": True}


def test_another_place_is_asked_instead_of_docker_hub():
    found = registries(default="http://hub.example:5000/all", mirrors=["http://m.example"])
    assert found["registry"][0] == {"prefix": "docker.io", "location": "hub.example:5000/all", "insecure": True}


@pytest.mark.parametrize(
    "wanted", [{}, {"mirrors": ["http://m.example"], "insecure": ["r.example:5000"]}, {"default": "http://d.example"}]
)
def test_the_machines_own_mirror_is_asked_before_all_others(wanted):
    before = registries(**wanted)
    found = tomllib.loads(
        mirrored_conf(registries_conf(replace(default_spec(), registries=wanted)), "http://localhost:5")
    )
    hub = found["registry"][0]
    mirrors = [{"location": "localhost:5", "insecure": True}]
    mirrors += [{"location": "m.example", "insecure": True}] * ("mirrors" in wanted)
    place = {"prefix": "docker.io", "location": "d.example", "insecure": True}
    assert hub == {**(place if "default" in wanted else {"location": "docker.io"}), "mirror": mirrors}
    assert found["registry"][1:] == before["registry"][1 if wanted else 0 :], "all others stay"
    assert {**found, "registry": []} == {**before, "registry": []}


def test_a_mirror_with_tls_is_asked_by_tls():
    found = tomllib.loads(mirrored_conf(registries_conf(default_spec()), "https://localhost:5000"))
    assert found["registry"][0] == {"location": "docker.io", "mirror": [{"location": "localhost:5000"}]}


def test_podman_takes_no_networks_of_registries():
    with pytest.raises(SpecError) as raised:
        registries(insecure=["r.example", "10.0.0.0/8"])
    assert raised.value.brief == "registries.insecure: 10.0.0.0/8: Podman takes hosts, not networks"


def test_a_publish_without_an_address_stays_on_loopback():
    bound = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}

    def hosts(address: str) -> set[str]:
        asked = asked_bindings(
            [{"host_ip": address, "container_port": 80, "host_port": 8080, "range": 1, "protocol": "tcp"}]
        )
        facts = {"HostConfig": {"PortBindings": asked}, "NetworkSettings": {"Ports": bound}}
        return {forward.host for forward in container_forwards(facts, "loopback")}

    assert hosts("") == {"127.0.0.1"}
    assert hosts("0.0.0.0") == {"0.0.0.0"}


def test_ranges_are_told_port_by_port():
    row = {"host_ip": "", "container_port": 80, "host_port": 8080, "range": 2, "protocol": "tcp,udp"}
    assert asked_bindings([row]) == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
        "81/tcp": [{"HostIp": "", "HostPort": "8081"}],
        "80/udp": [{"HostIp": "", "HostPort": "8080"}],
        "81/udp": [{"HostIp": "", "HostPort": "8081"}],
    }
