"""Snapshots of a machine on libvirt, as an ordinary user types them: of one that runs, of one that is off.

As root this is run by test_libvirt_as_user.py, for a user that it makes.
"""

from __future__ import annotations

import json
import os

import pytest
from as_typed import hostvm, succeed  # a helper beside this file

pytest.importorskip("libvirt", reason="libvirt-python is not installed: make setup")

pytestmark = [
    pytest.mark.vm,
    pytest.mark.libvirt,
    pytest.mark.slow,
    pytest.mark.skipif(
        hasattr(os, "geteuid") and os.geteuid() == 0, reason="root has no session; see test_libvirt_as_user.py"
    ),
]
NAME = "kept"
ON_DISK, IN_MEMORY = "/var/lib/hostvm/note", "/run/note"


@pytest.fixture(scope="module")
def lab(image):
    size = ("--cpus", "2", "--memory", "1GiB", "--mount", "none", "--image", image.digest)
    succeed("start", NAME, *size, "--driver", "libvirt", "--names", "off")
    yield NAME
    hostvm("rm", "--force", NAME)


def write(text: str) -> None:
    script = f"echo {text} > {ON_DISK}; echo {text} > {IN_MEMORY}; sync"
    succeed("-m", NAME, "shell", "--", "sh", "-c", script)


def read(*paths: str) -> list[str]:
    """Their lines, the disk's read from the disk."""
    script = f"echo 3 > /proc/sys/vm/drop_caches; cat {' '.join(paths)}"
    return succeed("-m", NAME, "shell", "--", "sh", "-c", script).split()


def boot() -> str:
    return succeed("-m", NAME, "shell", "--", "cat", "/proc/sys/kernel/random/boot_id")


def status() -> str:
    return str(json.loads(hostvm("status", NAME, "--json").stdout)["status"])


def names() -> list[str]:
    return [one["name"] for one in json.loads(succeed("-m", NAME, "snapshot", "ls", "--json"))]


def test_a_running_machine_goes_back_to_what_it_was_memory_included(lab):
    write("first")
    before = boot()
    succeed("-m", lab, "snapshot", "create", "running")
    assert (status(), boot()) == ("running", before), "it goes on"
    write("second")
    succeed("-m", lab, "snapshot", "restore", "--force", "running")
    assert read(ON_DISK, IN_MEMORY) == ["first", "first"]
    assert boot() == before
    write("third")
    succeed("restart", lab)
    assert read(ON_DISK) == ["third"], "what came after it is kept through a boot"
    succeed("-m", lab, "snapshot", "restore", "--force", "running")
    assert (read(ON_DISK, IN_MEMORY), boot()) == (["first", "first"], before), "a second time, from another boot"
    assert succeed("-m", lab, "docker", "version", "--format", "{{.Server.Os}}") == "linux\n"


def test_a_stopped_machine_goes_back_to_its_disk(lab):
    succeed("start", lab)
    write("kept")
    succeed("stop", lab)
    succeed("-m", lab, "snapshot", "create", "off")
    succeed("start", lab)
    write("lost")
    succeed("-m", lab, "snapshot", "restore", "--force", "off")
    assert status() == "stopped"
    succeed("start", lab)
    assert read(ON_DISK) == ["kept"]
    succeed("stop", lab)
    succeed("start", lab, "--from-snapshot", "off")
    assert read(ON_DISK) == ["kept"]
    for name in names():
        succeed("-m", lab, "snapshot", "rm", name)
    assert names() == []
    assert read(ON_DISK) == ["kept"], "nothing of the machine went with them"
