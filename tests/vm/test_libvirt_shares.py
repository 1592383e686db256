"""Folders of an ordinary user's computer in a machine on libvirt, by 9p and by virtiofs in session mode.

As root this is run by test_libvirt_as_user.py, for a user that it makes.
"""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING

import pytest
from as_typed import hostvm, succeed  # a helper beside this file

from hostvm.drivers.libvirt.connection import connected

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("libvirt", reason="libvirt-python is not installed: make setup")

SESSION_VIRTIOFS = 10_000_000
"""The first libvirt that starts a virtiofsd for an ordinary user."""


def libvirt_version() -> int:
    with connected("qemu:///session") as connection:
        return connection.getLibVersion()


pytestmark = [
    pytest.mark.vm,
    pytest.mark.libvirt,
    pytest.mark.slow,
    pytest.mark.trixie,
    pytest.mark.skipif(
        hasattr(os, "geteuid") and os.geteuid() == 0, reason="root has no session; see test_libvirt_as_user.py"
    ),
]


@pytest.mark.parametrize("kind", ["9p", "virtiofs"])
def test_a_folder_of_the_user_is_read_written_and_kept(image, tmp_path, kind):
    if kind == "virtiofs" and libvirt_version() < SESSION_VIRTIOFS:
        pytest.skip("this libvirt has no virtiofs for ordinary users")
    name, folder = f"lib{kind}", tmp_path / "shared"
    folder.mkdir()
    (folder / "note").write_text("from here\n")
    try:
        size = ("--cpus", "2", "--memory", "1GiB", "--mount", "none")
        succeed("create", name, *size, "--image", image.digest, "--driver", "libvirt")
        succeed("-m", name, "mount", "add", "--kind", kind, str(folder))
        succeed("start", name)
        assert json.loads(succeed("status", name, "--json"))["driver"] == "libvirt"
        there = shlex.quote(str(folder))
        types = succeed("-m", name, "shell", "--", "findmnt", "-n", "-o", "FSTYPE", str(folder))
        assert types == f"{kind}\n"
        script = f"cat {there}/note; echo from the guest > {there}/answer; chmod 640 {there}/answer"
        assert succeed("-m", name, "shell", "--", "sh", "-c", script) == "from here\n"
        answer = folder / "answer"
        assert answer.read_text() == "from the guest\n"
        assert (answer.stat().st_uid, answer.stat().st_mode & 0o777) == (os.geteuid(), 0o640)
        if kind == "9p":
            keeps_the_folder_over_a_suspend(name, folder)
        else:
            refused = hostvm("suspend", name)
            assert refused.returncode != 0
            assert "virtiofs" in refused.stderr
    finally:
        hostvm("rm", "--force", name)


def keeps_the_folder_over_a_suspend(name: str, folder: Path) -> None:
    succeed("suspend", name)
    (folder / "note").write_text("meanwhile\n")
    assert succeed("-m", name, "shell", "--", "cat", str(folder / "note")) == "meanwhile\n"
