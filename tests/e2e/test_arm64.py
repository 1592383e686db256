"""A machine of the other architecture, arm64 on an amd64 computer: emulated from its kernel to a published port."""

from __future__ import annotations

import json
import os
import urllib.request

import pytest
from machines import eventually, hostvm, small_machine, succeed

from hostvm.accel import host_arch
from hostvm.drivers.qemu.driver import QemuDriver
from hostvm.errors import DriverError
from hostvm.paths import MachinePaths
from hostvm.qemu_binary import find_qemu
from hostvm.state import load_state

SOUND_QEMU = (9, 0, 4)
"""Older ones crash emulated arm64 guests."""


def obstacle() -> str:
    """Why it cannot be run here; "" when it can."""
    try:
        found = find_qemu("arm64")
    except DriverError as fault:
        return f"{fault.brief}: {fault.resolution}"
    return "" if found.version >= SOUND_QEMU else f"QEMU {found.version_text} crashes emulated arm64 guests"


pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.trixie,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(host_arch() != "amd64", reason="arm64 is this computer's own architecture"),
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "-"),
]


@pytest.fixture(scope="module")
def arm():
    """Its guest image is built where none is stored."""
    with small_machine(f"e2e-{os.getpid()}-arm", "--arch", "arm64", "--driver", "qemu") as made:
        yield made


def test_a_container_runs_and_its_published_port_answers(arm, free_port):
    assert arm.shell("uname", "-m") == "aarch64"
    assert arm.sdk.info()["Architecture"] == "aarch64"
    assert arm.image("busybox:latest")["Architecture"] == "arm64", "`hostvm image base` makes the machine's own kind"
    assert arm.docker("run", "--rm", "busybox", "uname", "-m") == "aarch64"
    serve = "echo from arm64 > /index.html; exec httpd -f -h /"
    arm.docker("run", "-d", "--name", "web", "-p", f"{free_port}:80", "busybox", "sh", "-c", serve)
    assert eventually(lambda: page(free_port), "the page is there", 60) == "from arm64\n"
    arm.docker("rm", "-f", "web")


def test_it_is_suspended_and_goes_on(arm):
    boot = arm.boot_id()
    succeed(hostvm("suspend", arm.name))
    assert json.loads(hostvm("status", arm.name, "--json").out)["status"] == "suspended"
    assert arm.docker("images", "-q", "busybox")
    assert arm.boot_id() == boot


def test_it_is_stopped_in_order_and_keeps_its_data(arm):
    boot = arm.boot_id()
    arm.docker("volume", "create", "kept")
    stopped = hostvm("stop", arm.name)
    succeed(stopped)
    assert "cutting its power" not in stopped.both
    succeed(hostvm("start", arm.name))
    assert arm.boot_id() != boot
    assert arm.docker("volume", "ls", "-q") == "kept"


def test_it_stays_what_it_was_made_as(arm):
    refused = hostvm("-m", arm.name, "set", "arch=amd64")
    assert refused.status != 0
    assert "arch" in refused.err


def test_its_power_button_is_heard(arm):
    """For a guest that ssh does not reach any more; the board tells of it in its device tree."""
    paths = MachinePaths.of(arm.name)
    eventually(lambda: hostvm("-m", arm.name, "shell", "--", "pidof", "acpid").out, "somebody listens to it", 120)
    driver = QemuDriver(arm.name, load_state(paths).uuid, paths.run_dir)
    driver.powerdown()
    assert driver.wait_off(120)


def page(port: int) -> str:
    """What the port answers; "" while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
            return answer.read().decode()
    except OSError:
        return ""
