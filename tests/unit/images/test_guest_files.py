"""What must hold between the shipped recipe, the guest's own files and the seed; no guest is needed to see it."""

from __future__ import annotations

import json
import posixpath
import re
from typing import TYPE_CHECKING

import pytest

from hostvm.console import ENGINE_MARK
from hostvm.engines import ENGINES, LOGS, ROOTLESS, own_image
from images.recipe import FILES, find_recipe, recipe_names

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = find_recipe()
GUEST = FILES / "guest"
INIT = FILES / RECIPE.initramfs / "init"
SERVICES = GUEST / "usr/lib/hostvm/services"


def guest_files(engine: str) -> dict[str, Path]:
    """What an engine's image gets, by its path there; a later folder's file counts over an earlier one's."""
    folders = [FILES / folder for folder in find_recipe(engine).files]
    return {p.relative_to(one).as_posix(): p for one in folders for p in sorted(one.rglob("*")) if p.is_file()}


IMAGES = {engine: guest_files(engine) for engine in recipe_names()}
SCRIPTS = sorted({p for files in IMAGES.values() for p in [*files.values(), INIT] if p.read_bytes().startswith(b"#!")})
SERVICE_NAMES = {
    "docker": {"containerd", "dockerd", "power", "sshd"},
    "podman": {"podman", "power", "sshd"},
    "containerd": {"containerd", "power", "sshd"},
    "docker-rootless": {"containerd", "dockerd", "power", "sshd"},
    "podman-rootless": {"podman", "power", "sshd"},
}
SEED_NAMES = {
    "hostname",
    "boot_id",
    "machine_id",
    "env",
    "ca.pem",
    "certs/",
    "hosts",
    "network",
    "engine/daemon.json",
    "engine/containers.conf",
    "engine/registries.conf",
    "engine/logins.conf",
    "registries/",
    "ssh_host_ed25519_key",
    "authorized_keys",
    "shares",
    "nfs",
    "provision/table",
    "disks",
    "emulate",
}


def options(name: str) -> dict[str, str]:
    lines = (GUEST / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(FILES).as_posix())
def test_scripts_are_run_by_what_the_image_has(script: Path) -> None:
    text = script.read_bytes()
    shell = b"#!/bin/busybox sh\n" if script == INIT else b"#!/usr/bin/busybox sh\n"
    assert text.startswith(shell)
    assert b"\r" not in text


@pytest.mark.parametrize("engine", IMAGES)
def test_own_programs_that_scripts_name_exist(engine: str) -> None:
    files = IMAGES[engine]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files.values() if path in SCRIPTS)
    named = re.findall(r"/(usr/(?:lib/hostvm/[\w.-]+|sbin/hostvm-[\w-]+))", text)
    known = {*files, "usr/lib/hostvm/services"}
    # What an engine's folder may bring is asked for first.
    assert {name for name in named if name not in known and f"[ -f /{name} ]" not in text} == set()


@pytest.mark.parametrize("engine", IMAGES)
def test_every_service_and_its_log_can_run(engine: str) -> None:
    files = IMAGES[engine]
    parts = [path.split("/") for path in files if path.startswith("usr/lib/hostvm/services/")]
    folders = {part[4] for part in parts if not part[4].startswith(".")}
    logs = {part[4] for part in parts if part[5] == "log"}
    assert folders == SERVICE_NAMES[engine]
    wanted = [f"usr/lib/hostvm/services/{name}/run" for name in folders]
    wanted += [f"usr/lib/hostvm/services/{name}/log/run" for name in logs]
    assert [name for name in wanted if files.get(name) not in SCRIPTS] == []


def test_each_engine_has_an_image_and_a_log() -> None:
    rootless = {own_image(engine, rootless=True) for engine in ROOTLESS}
    assert {*ENGINES, *rootless} == set(recipe_names()) == set(SERVICE_NAMES)
    assert {name for name in recipe_names() if find_recipe(name).rootless} == rootless
    for engine, log in LOGS.items():
        service = log.split("/")[3]
        text = IMAGES[engine][f"usr/lib/hostvm/services/{service}/log/run"].read_text(encoding="utf-8")
        assert log.rpartition("/")[0] in text
        assert ENGINE_MARK.decode() in text


def test_sshd_needs_nothing_that_the_data_disk_brings() -> None:
    boot = (GUEST / "usr/lib/hostvm/boot").read_text(encoding="utf-8")
    late = (GUEST / "usr/lib/hostvm/late").read_text(encoding="utf-8")
    started_first = re.findall(r"/usr/lib/hostvm/services/([\w.-]+)", boot)
    assert started_first == [".s6-svscan", "sshd"]
    assert late.index("data-disk") < late.index("/run/service")
    scripts = [SERVICES / "sshd/run", SERVICES / "sshd/log/run"]
    assert not [path for path in scripts if "/var/" in path.read_text(encoding="utf-8")]


def test_the_first_cgroups_are_made_before_anything_runs_beside() -> None:
    boot = (GUEST / "usr/lib/hostvm/boot").read_text(encoding="utf-8")
    assert boot.index("mkdir /sys/fs/cgroup/system") < boot.index("&\n")


def test_what_ends_process_1_powers_off_in_order() -> None:
    signals = {path.name for path in (SERVICES / ".s6-svscan").iterdir()}
    assert signals == {"SIGUSR2", "SIGTERM", "SIGINT", "SIGPWR", "finish", "crash"}
    assert "kill -USR2 1" in (GUEST / "usr/sbin/hostvm-poweroff").read_text(encoding="utf-8")


def test_the_seed_is_read_by_its_pinned_names() -> None:
    text = "\n".join(p.read_text(encoding="utf-8") for files in IMAGES.values() for p in files.values())
    found = set(re.findall(r"(?:\$seed|/run/hostvm/seed)/([\w./]+)", text))
    assert found == SEED_NAMES


def test_sshd_lets_one_client_do_everything_by_key_only() -> None:
    sshd = options("etc/ssh/sshd_config")
    wanted = {
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "MaxSessions": "1000",
        "AcceptEnv": "*",
        "AllowStreamLocalForwarding": "yes",
        "AllowTcpForwarding": "yes",
        "PerSourcePenalties": "no",
    }
    assert {key: sshd.get(key) for key in wanted} == wanted
    assert sshd["Ciphers"].startswith("aes128-gcm@openssh.com")
    assert sshd["Subsystem"].startswith("sftp ")


def test_the_engine_keeps_logs_bounded_and_needs_no_systemd() -> None:
    daemon = json.loads(IMAGES["docker"]["etc/docker/daemon.json"].read_text(encoding="utf-8"))
    assert daemon["exec-opts"] == ["native.cgroupdriver=cgroupfs"]
    assert daemon["storage-driver"] == "overlay2"
    assert daemon["log-opts"] == {"max-size": "10m", "max-file": "3"}
    assert daemon["live-restore"] is False
    rootless = json.loads(IMAGES["docker-rootless"]["etc/docker/daemon.json"].read_text(encoding="utf-8"))
    assert rootless == {key: value for key, value in daemon.items() if key != "exec-opts"}  # it makes no cgroups


def test_a_rootless_engines_user_is_the_one_that_its_scripts_name() -> None:
    for name in ("docker-rootless", "podman-rootless"):
        (user,) = [user for user in find_recipe(name).users if user.name == "engine"]
        script = IMAGES[name]["usr/lib/hostvm/rootless.sh"].read_text(encoding="utf-8")
        assert f"--reuid {user.uid} --regid {user.gid} " in script
        assert f"HOME={user.home} XDG_RUNTIME_DIR=/run/user/{user.uid} USER={user.name}" in script
        for file in ("etc/subuid", "etc/subgid"):
            assert IMAGES[name][file].read_text(encoding="utf-8") == "engine:100000:65536\n"


def test_the_engine_finds_the_user_of_remapped_containers() -> None:
    recipe = find_recipe("docker")
    (user,) = [user for user in recipe.users if user.name == "dockremap"]
    assert recipe.groups["dockremap"] == user.gid
    for file in ("etc/subuid", "etc/subgid"):
        assert IMAGES["docker"][file].read_text(encoding="utf-8") == "dockremap:100000:65536\n"


def test_the_root_is_reachable_before_the_rest_loads() -> None:
    order = list(RECIPE.initramfs_modules)
    needed = {"crc32c_generic", "virtio_blk", "erofs", "overlay"}
    assert set(order[: order.index("--")]) == needed
    # erofs asks for a crc32c that nothing else would have loaded by then.
    assert order.index("crc32c_generic") < order.index("erofs")


def test_words_for_emulation_stay_off_other_machines() -> None:
    assert "norandmaps" in RECIPE.cmdline_tcg.split()
    assert "norandmaps" not in RECIPE.cmdline.split()
    # Which versions of QEMU need it is not the image's business.
    assert "clearcpuid=cx16" not in f"{RECIPE.cmdline} {RECIPE.cmdline_tcg}"
    # A TSC that is trusted blindly lets the guest's clock run away on a busy host.
    assert "tsc=reliable" not in f"{RECIPE.cmdline} {RECIPE.cmdline_tcg}"


def test_applets_lead_to_busybox() -> None:
    applets = {path: target for path, target in RECIPE.links.items() if target.endswith("busybox")}
    resolved = {path: posixpath.normpath(posixpath.join(posixpath.dirname(path), to)) for path, to in applets.items()}
    assert {path: to for path, to in resolved.items() if to != "usr/bin/busybox"} == {}
    assert "usr/sbin/ip" in applets


def test_each_left_out_package_has_its_reason() -> None:
    assert all(reason.strip() for reason in RECIPE.exclude_packages.values())
    assert not set(RECIPE.exclude_packages) & set(RECIPE.packages)
