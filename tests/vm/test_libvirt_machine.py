"""The whole path with libvirt: `hostvm start`, a real engine, `hostvm stop`, as an ordinary user types it.

As root this is run by test_libvirt_as_user.py, for a user that it makes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from hostvm.drivers.libvirt.connection import connected

pytest.importorskip("libvirt", reason="libvirt-python is not installed: make setup")

pytestmark = [
    pytest.mark.vm,
    pytest.mark.libvirt,
    pytest.mark.skipif(
        hasattr(os, "geteuid") and os.geteuid() == 0, reason="root has no session; see test_libvirt_as_user.py"
    ),
]
NAME = "lab"


def hostvm(*words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"HOSTVM_CLIENT": "guest"}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words], capture_output=True, text=True, check=False, timeout=300, env=env
    )


def succeed(*words: str) -> str:
    done = hostvm(*words)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def lab(image):
    """A running machine on libvirt."""
    succeed("start", NAME, "--cpus", "2", "--memory", "1GiB", "--image", image.digest)
    yield NAME
    hostvm("rm", "--force", NAME)


def test_a_machine_on_libvirt_from_start_to_stop(lab):
    facts = json.loads(succeed("status", lab, "--json"))
    assert (facts["driver"], facts["status"]) == ("libvirt", "running"), "an ordinary user's default is libvirt"
    with connected("qemu:///session") as connection:
        assert f"hostvm-{lab}" in [domain.name() for domain in connection.listAllDomains()]
    assert succeed("-m", lab, "docker", "version", "--format", "{{.Server.Os}}") == "linux\n"
    boot = succeed("-m", lab, "shell", "--", "cat", "/proc/sys/kernel/random/boot_id")
    succeed("-m", lab, "docker", "volume", "create", "kept")
    succeed("suspend", lab)
    with connected("qemu:///session") as connection:
        assert f"hostvm-{lab}" not in [domain.name() for domain in connection.listAllDomains()]
    assert json.loads(hostvm("status", lab, "--json").stdout)["status"] == "suspended"
    assert succeed("-m", lab, "docker", "volume", "ls", "-q") == "kept\n"
    assert succeed("-m", lab, "shell", "--", "cat", "/proc/sys/kernel/random/boot_id") == boot, "it was resumed"
    succeed("suspend", "--pause", lab)
    succeed("resume", lab)
    stopped = hostvm("stop", lab)
    assert stopped.returncode == 0
    assert "cutting its power" not in stopped.stderr, "the guest powered itself off"
    with connected("qemu:///session") as connection:
        assert f"hostvm-{lab}" not in [domain.name() for domain in connection.listAllDomains()]
    succeed("start", lab)
    assert succeed("-m", lab, "shell", "--", "cat", "/proc/sys/kernel/random/boot_id") != boot
    assert succeed("-m", lab, "docker", "volume", "ls", "-q") == "kept\n"
