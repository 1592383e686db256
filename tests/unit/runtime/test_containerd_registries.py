"""What containerd's clients are told of registries."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

import pytest

from hostvm.errors import SpecError
from hostvm.net.addresses import GuestNetwork
from hostvm.net.plan import NetworkPlan
from hostvm.spec import default_spec
from runtime.containerd.registries import NO_HOSTS, hosts_files, mirrored_hosts
from runtime.engine import find_engine

PLAN = NetworkPlan(GuestNetwork.of("10.0.2.0/24"), (), {}, b"")
ASKED = {"capabilities": ["pull", "resolve"]}


def files(**registries: object) -> dict[str, Any]:
    return {host: tomllib.loads(text) for host, text in hosts_files(registries).items()}


def test_without_wishes_there_are_none():
    assert files() == {}


def test_mirrors_are_asked_first_and_in_order():
    found = files(mirrors=["https://b.example", "http://a.example:5000/"])["docker.io"]
    assert found == {"host": {"https://b.example": ASKED, "http://a.example:5000": ASKED}}
    assert list(found["host"]) == ["https://b.example", "http://a.example:5000"]


def test_a_path_of_a_mirror_is_one_of_its_images():
    (mirror,) = files(mirrors=["https://m.example/hub/"])["docker.io"]["host"].items()
    assert mirror == ("https://m.example/v2/hub", {**ASKED, "override_path": True})


def test_another_place_is_asked_instead_of_docker_hub():
    found = files(default="http://localhost:5000", mirrors=["https://m.example"])
    assert found == {"docker.io": {"server": "http://localhost:5000", **ASKED, "host": {}}}
    found = files(default="https://hub.example/all")
    assert found["docker.io"]["server"] == "https://hub.example/v2/all"
    assert found["docker.io"]["override_path"] is True


def test_one_without_tls_or_with_a_certificate_of_its_own_is_asked_both_ways():
    found = files(insecure=["r.example:5000"])
    assert found == {"r.example:5000": {"skip_verify": True, "host": {"http://r.example:5000": ASKED}}}


def test_an_authority_is_believed_for_its_registry_alone_mirrors_too():
    pem = "/etc/docker/certs.d/m.example:5000/ca.crt"
    found = files(ca={"m.example:5000": "/home/me/ca.pem"}, mirrors=["https://m.example:5000", "https://other.example"])
    assert found["m.example:5000"] == {"ca": pem, "host": {}}
    mirrors = {"https://m.example:5000": {**ASKED, "ca": pem}, "https://other.example": ASKED}
    assert found["docker.io"] == {"host": mirrors}
    both = files(ca={"r.example": "/ca.pem"}, insecure=["r.example"])["r.example"]
    assert both == {
        "skip_verify": True,
        "ca": "/etc/docker/certs.d/r.example/ca.crt",
        "host": {"http://r.example": ASKED},
    }


def test_a_host_table_is_always_there():
    for text in hosts_files({"ca": {"r.example": "/ca.pem"}, "default": "http://localhost:5000"}).values():
        assert "\n[host]\n" in text, "containerd 1.7 takes a file without one for damaged"


@pytest.mark.parametrize("wrong", ["10.0.0.0/8", "..", ".x"])
def test_containerd_takes_no_networks_of_registries(wrong):
    spec = replace(default_spec(), registries={"insecure": ["r.example", wrong]})
    with pytest.raises(SpecError) as raised:
        find_engine("containerd").check(spec)
    assert raised.value.brief == f"registries.insecure: {wrong}: containerd takes hosts, not networks"


def test_the_machines_own_mirror_is_asked_before_all_others():
    own = "http://localhost:5000"
    assert tomllib.loads(mirrored_hosts(NO_HOSTS, own)) == {"host": {own: ASKED}}
    before = hosts_files({"mirrors": ["http://b.example", "http://a.example"]})["docker.io"]
    found = tomllib.loads(mirrored_hosts(before, own))["host"]
    assert list(found) == [own, "http://b.example", "http://a.example"]
    before = hosts_files({"default": "http://d.example"})["docker.io"]
    found = tomllib.loads(mirrored_hosts(before, own))
    assert (found["server"], found["host"]) == ("http://d.example", {own: ASKED})
    tls = tomllib.loads(mirrored_hosts(NO_HOSTS, "https://localhost:5000"))["host"]
    authority = "/etc/docker/certs.d/localhost:5000/hostvm-registry.crt"
    assert tls == {"https://localhost:5000": {**ASKED, "ca": authority}}


def test_the_guest_gets_them_by_name():
    spec = replace(default_spec(), registries={"mirrors": ["http://m.example"], "insecure": ["r.example:5000"]})
    assert set(find_engine("containerd").seed(spec, PLAN)) == {"registries/docker.io", "registries/r.example:5000"}
