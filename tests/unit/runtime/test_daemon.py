"""dockerd's configuration file: the image's settings, this computer's, the user's."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from hostvm.errors import SpecError
from hostvm.net.addresses import GuestNetwork
from hostvm.net.plan import NetworkPlan
from hostvm.spec import default_spec
from runtime.docker.daemon import daemon_settings, image_settings

BASE = {"storage-driver": "overlay2", "log-opts": {"max-size": "10m", "max-file": "3"}}
GATEWAY = {"host-gateway-ip": "10.0.2.2"}


def settings(taken: tuple[str, ...] = (), **wanted: object) -> dict[str, object]:
    plan = NetworkPlan(GuestNetwork.of("10.0.2.0/24"), tuple(IPv4Network(text) for text in taken), {}, b"")
    return daemon_settings(BASE, replace(default_spec(), **wanted), plan)


def test_without_wishes_only_the_gateway_is_added():
    assert settings() == {**BASE, **GATEWAY}


def test_registries():
    found = settings(registries={"mirrors": ["http://m.example"], "insecure": ["r.example:5000"]})
    assert found == {
        **BASE,
        **GATEWAY,
        "registry-mirrors": ["http://m.example"],
        "insecure-registries": ["r.example:5000"],
    }


def test_the_users_settings_win_and_mappings_are_merged():
    found = settings(daemon={"log-opts": {"max-file": "9"}, "debug": True, "host-gateway-ip": "192.0.2.1"})
    assert found == {
        "storage-driver": "overlay2",
        "log-opts": {"max-size": "10m", "max-file": "9"},
        "debug": True,
        "host-gateway-ip": "192.0.2.1",
    }


def test_pools_step_aside_unless_the_user_chose_some():
    pools = settings(("172.17.0.0/16",))["default-address-pools"]
    assert pools[0] == {"base": "172.18.0.0/16", "size": 16}
    own = [{"base": "10.9.0.0/16", "size": 24}]
    assert settings(("172.17.0.0/16",), daemon={"default-address-pools": own})["default-address-pools"] == own


def test_conflicts_are_told_all_at_once():
    with pytest.raises(SpecError) as caught:
        settings(
            registries={"mirrors": ["http://m.example"]},
            daemon={"hosts": ["tcp://0.0.0.0"], "registry-mirrors": [], "data-root": "/x"},
        )
    assert caught.value.brief == "3 wrong settings for the engine"
    for word in ("daemon.hosts", "daemon.data-root", "registries.mirrors"):
        assert word in caught.value.details


def test_the_images_settings_can_be_read():
    assert image_settings()["storage-driver"] == "overlay2"
