"""dockerd's configuration file: the image's settings, this computer's, the user's."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from hostvm.errors import SpecError
from hostvm.net.addresses import GuestNetwork
from hostvm.net.plan import NetworkPlan
from hostvm.spec import default_spec
from runtime.docker.daemon import daemon_settings, image_settings, replaced_settings
from runtime.docker.engine import DockerEngine
from runtime.registry.certificate import certify

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


def test_the_default_registry_is_the_first_mirror():
    registries = {"mirrors": ["http://m.example", "http://d.example"], "default": "http://d.example"}
    assert settings(registries=registries)["registry-mirrors"] == ["http://d.example", "http://m.example"]
    with pytest.raises(SpecError):
        settings(registries={"default": "http://d.example"}, daemon={"registry-mirrors": []})


def test_registries_authorities_and_the_shut_off_hub_are_files_of_the_seed(tmp_path):
    spec = replace(default_spec(), registries={"ca": {"r.example:5000": str(tmp_path / "ca.pem")}})
    plan = NetworkPlan(GuestNetwork.of("10.0.2.0/24"), (), {}, b"")
    with pytest.raises(SpecError, match=r"registries\.ca\.r\.example:5000: .* cannot be read"):
        DockerEngine().seed(spec, plan)
    (tmp_path / "ca.pem").write_text(certify("x", dt.datetime.now(dt.UTC)).ca)
    files = DockerEngine().seed(spec, plan)
    assert files["certs/r.example:5000"].startswith(b"-----BEGIN CERTIFICATE-----")
    assert "hosts" not in files
    files = DockerEngine().seed(replace(spec, registries={"default": "http://localhost:5000"}), plan)
    assert b"registry-1.docker.io" in files["hosts"]


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
    assert "exec-opts" not in image_settings(rootless=True)


def test_a_rootless_engine_cannot_leave_its_containers():
    assert settings(rootless=True, daemon={"debug": True})["debug"] is True
    with pytest.raises(SpecError) as caught:
        settings(rootless=True, daemon={"live-restore": True})
    assert "daemon.live-restore: containers of a rootless engine end" in caught.value.details


def test_containerds_image_store_has_a_driver_of_its_own():
    store = {"features": {"containerd-snapshotter": True}}
    assert settings(daemon=store)["storage-driver"] == "overlayfs"
    assert settings(daemon={"features": {"containerd-snapshotter": False}})["storage-driver"] == "overlay2"
    with pytest.raises(SpecError) as caught:
        settings(daemon={**store, "storage-driver": "overlay2"})
    assert "daemon.storage-driver: overlay2 is no driver of containerd's image store" in caught.value.details


def test_another_log_driver_does_not_get_the_limits_of_files():
    assert "log-opts" not in settings(daemon={"log-driver": "syslog"})
    assert settings(daemon={"log-driver": "syslog", "log-opts": {"tag": "x"}})["log-opts"] == {"tag": "x"}
    assert settings(daemon={"log-driver": "local"})["log-opts"] == BASE["log-opts"]


def test_a_guest_without_systemd_is_told_of():
    with pytest.raises(SpecError, match="wrong setting") as caught:
        settings(daemon={"exec-opts": ["native.cgroupdriver=systemd"]})
    assert "the guest has no systemd" in caught.value.details


@pytest.mark.parametrize("level", ["warn", "warning", "error", "FATAL", "panic"])
def test_a_log_level_that_leaves_out_what_is_waited_for_is_refused(level):
    with pytest.raises(SpecError) as caught:
        settings(daemon={"log-level": level})
    (line,) = caught.value.details.splitlines()
    assert line.startswith(f"daemon.log-level: {level} leaves out")
    assert line.endswith("take info or debug, or leave it out")


@pytest.mark.parametrize("level", ["info", "debug", "trace", None])
def test_a_log_level_that_tells_enough_passes(level):
    assert settings(daemon={"log-level": level})["log-level"] == level


@pytest.mark.parametrize("driver", ["json-flie", ["syslog"], 5])
def test_a_log_driver_that_the_engine_has_not_is_told(driver):
    last = replaced_settings(BASE, {"log-driver": driver})[-1]
    assert last.startswith(f"daemon.log-driver: {json.dumps(driver)} is none of the engine's own")


def test_what_replaces_the_images_settings_is_named():
    own = {
        "log-opts": {"max-file": "9", "max-size": "10m"},
        "features": {"containerd-snapshotter": True},
        "debug": True,
    }
    assert replaced_settings(BASE, own) == [
        'daemon.storage-driver: "overlayfs" instead of hostvm\'s "overlay2"',
        'daemon.log-opts.max-file: "9" instead of hostvm\'s "3"',
    ]
    (line,) = replaced_settings(BASE, {"log-driver": "syslog"})
    assert line.startswith("daemon.log-opts: hostvm's")
    assert line.endswith("is left out")
    assert replaced_settings(BASE, {"live-restore": True}) == []
