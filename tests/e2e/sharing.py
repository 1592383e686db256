"""Shared folders of every kind, each with a container that has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from machines import HOSTVM, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS = Path(__file__).with_name("share_checks.py")
KINDS = ("nfs", "sftp", "9p", "virtiofs")  # in the order of `in_full`, or pytest would make each folder twice
SERVED = ("nfs", "sftp")
SCRIPTS = (
    CHECKS.name, "database_writer.py", "held_open.py", "inotify_watch.py", "look_again.py", "read_only.py",
    "stays_there.py", "swapped_folder.py",
)  # fmt: skip
TOOLS = "share-tools:latest"

# In full for what is shared without a word about it; of the others only that they are there and show changes at once.
in_full = pytest.mark.parametrize(
    "share", ["nfs", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])], indirect=True
)


class Share:
    """A folder of this computer that a container has at /w, and its kind."""

    def __init__(self, machine: Machine, kind: str, folder: Path, container: str) -> None:
        self.machine, self.kind, self.folder, self.container = machine, kind, folder, container

    def run(self, script: str) -> str:
        return self.machine.docker("exec", self.container, "sh", "-c", script)

    @contextmanager
    def script(self, name: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        """One of `SCRIPTS`, which is spoken to line by line."""
        program = ("exec", "-i", self.container, "python3", f"/w/checks/{name}", *words)
        with subprocess.Popen(
            [HOSTVM, "-m", self.machine.name, "docker", *program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "HOSTVM_CLIENT": "guest"},
        ) as begun:  # fmt: skip
            try:
                yield begun
            finally:
                begun.kill()  # ended already, unless something went wrong


@contextmanager
def shared_with_container(machine: Machine, kind: str, folder: Path, tools: str) -> Iterator[Share]:
    """A folder with the scripts in it, and a container of the image `tools` that has it at /w."""
    name = f"share-{kind}"
    (folder / "checks").mkdir()
    for script in SCRIPTS:
        shutil.copy(CHECKS.with_name(script), folder / "checks")
    # As on Linux, 9p and virtiofs show who owns a folder here; by the others whoever is in the guest is the user.
    folder.chmod(0o755 if kind in SERVED else 0o777)
    machine.docker("run", "-d", "--name", name, "--entrypoint", "sleep", "-v", f"{folder}:/w", tools, "3600")
    yield Share(machine, kind, folder, name)
    machine.docker("rm", "-f", name)


def end(process: subprocess.Popen[str]) -> None:
    """Of a script whose input is over: it ends by itself."""
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()
