"""The whole path with libvirt: `hostvm start`, a real engine, `hostvm stop`, as an ordinary user types it.

As root this is run by test_libvirt_as_user.py, for a user that it makes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from as_typed import hostvm, succeed  # a helper beside this file

from hostvm.drivers.libvirt.connection import connected
from hostvm.sizes import GIB

pytest.importorskip("libvirt", reason="libvirt-python is not installed: make setup")

pytestmark = [
    pytest.mark.vm,
    pytest.mark.libvirt,
    pytest.mark.skipif(
        hasattr(os, "geteuid") and os.geteuid() == 0, reason="root has no session; see test_libvirt_as_user.py"
    ),
]
NAME, COPY = "lab", "copy"


def writes_pages_at_their_places() -> bool:
    """Whether libvirt saves in its sparse format: 11.2 and QEMU 9.0, and later ones."""
    with connected("qemu:///session") as connection:
        return (connection.getLibVersion(), connection.getVersion()) >= (11_002_000, 9_000_000)


@pytest.fixture
def lab(image):
    """A running machine on libvirt."""
    succeed("start", NAME, "--cpus", "2", "--memory", "1GiB", "--image", image.digest)
    yield NAME
    hostvm("rm", "--force", COPY)
    hostvm("rm", "--force", NAME)


def test_a_machine_on_libvirt_from_start_to_stop(lab):
    facts = json.loads(succeed("status", lab, "--json"))
    assert (facts["driver"], facts["status"]) == ("libvirt", "running"), "an ordinary user's default is libvirt"
    with connected("qemu:///session") as connection:
        assert f"hostvm-{lab}" in [domain.name() for domain in connection.listAllDomains()]
    assert succeed("-m", lab, "docker", "version", "--format", "{{.Server.Os}}") == "linux\n"
    boot = succeed("-m", lab, "shell", "--", "cat", "/proc/sys/kernel/random/boot_id")
    succeed("-m", lab, "docker", "volume", "create", "kept")
    succeed("-m", lab, "shell", "--", "sh", "-c", "echo before > /var/lib/hostvm/mark")
    succeed("suspend", lab)
    with connected("qemu:///session") as connection:
        assert f"hostvm-{lab}" not in [domain.name() for domain in connection.listAllDomains()]
    assert json.loads(hostvm("status", lab, "--json").stdout)["status"] == "suspended"
    if writes_pages_at_their_places():
        state = Path(os.environ["HOSTVM_HOME"], "machines", lab, "suspended.ram").stat()
        assert state.st_size >= GIB > state.st_blocks * 512, "it is as long as the memory, with holes for empty pages"
    succeed("clone", lab, COPY)
    assert succeed("-m", lab, "docker", "volume", "ls", "-q") == "kept\n"
    assert succeed("-m", lab, "shell", "--", "cat", "/proc/sys/kernel/random/boot_id") == boot, "it was resumed"
    look = "echo 3 > /proc/sys/vm/drop_caches; cat /var/lib/hostvm/mark"
    assert succeed("-m", lab, "shell", "--", "sh", "-c", look) == "before\n", "its disk stands on a layer by now"
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
