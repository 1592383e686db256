"""What a start decides from this computer's networks, proxies and authorities, and what of it the guest is given."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from hostvm.net import plan
from hostvm.net.plan import plan_network
from hostvm.spec import default_spec

OFFICE = IPv4Network("10.0.2.0/24")


@pytest.fixture
def computer(monkeypatch):
    """This computer's networks, and by the setting `ca` what of its authorities is wanted; both to be changed."""
    networks, trusted = [], {"host": b"", "none": b""}
    monkeypatch.setattr(plan, "host_networks", lambda: list(networks))
    monkeypatch.setattr(plan, "wanted_certificates", trusted.__getitem__)
    return networks, trusted


def test_where_nothing_is_particular_the_guest_is_told_nothing(computer):
    found = plan_network(default_spec(), {})
    assert (found.seed(), found.notes, found.taken) == ({}, (), (OFFICE,))


def test_a_start_steps_aside_for_networks_and_tells_engine_guest_and_user(computer):
    computer[0].append(OFFICE)
    found = plan_network(default_spec(), {})
    aside = IPv4Network("192.168.127.0/24")
    assert (found.network.subnet, found.taken) == (aside, (OFFICE, aside))
    assert found.seed() == {"network": found.network.seed()}
    assert found.notes == ("the guest's network is 192.168.127.0/24: this computer has 10.0.2.0/24",)


def test_a_subnet_of_the_settings_is_taken_though_it_hides_something(computer):
    computer[0].append(OFFICE)
    found = plan_network(replace(default_spec(), network={"subnet": "10.0.2.0/24"}), {})
    assert found.network.subnet == OFFICE
    assert found.notes == ("network.subnet 10.0.2.0/24 hides this computer's 10.0.2.0/24 from guest and containers",)


def test_each_start_looks_anew(computer):
    networks, trusted = computer
    trusted["host"] = b"old"
    assert plan_network(default_spec(), {}).seed() == {"ca.pem": b"old"}
    networks.append(OFFICE)
    trusted["host"] = b"new"
    found = plan_network(default_spec(), {}).seed()
    assert (found.keys(), found["ca.pem"]) == ({"network", "ca.pem"}, b"new")
    assert "ca.pem" not in plan_network(replace(default_spec(), ca="none"), {}).seed()


def test_proxies_are_the_environments_unless_none_are_wanted(computer):
    environ = {"HTTP_PROXY": "http://proxy.example:8080"}
    found = plan_network(default_spec(), environ)
    assert found.proxies["HTTP_PROXY"] == "http://proxy.example:8080"
    assert "HTTP_PROXY=http://proxy.example:8080\n" in found.seed()["env"].decode()
    assert plan_network(replace(default_spec(), proxy="none"), environ).seed() == {}
