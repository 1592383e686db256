"""Root runs the libvirt tests for an ordinary user that it makes and removes again.

They run under `tini -s`, which reaps what libvirt leaves: in a container whose first process does not, libvirt
waits on zombies for minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from as_user import become, copy_for, environment, python_for  # a helper beside this file

pytest.importorskip("libvirt", reason="libvirt-python is not installed: make setup")

pytestmark = [
    pytest.mark.vm,
    pytest.mark.libvirt,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0, reason="an ordinary user runs them directly"
    ),
]


def test_libvirt_as_an_ordinary_user(user, image):
    run_as(user, image, "tests/vm/test_drivers_libvirt.py", "tests/vm/test_libvirt_machine.py")


@pytest.mark.slow
@pytest.mark.trixie
def test_shares_with_libvirt_as_an_ordinary_user(user, image):
    run_as(user, image, "tests/vm/test_libvirt_shares.py", "-m", "slow")


@pytest.mark.slow
def test_snapshots_with_libvirt_as_an_ordinary_user(user, image):
    run_as(user, image, "tests/vm/test_libvirt_snapshots.py", "-m", "slow")


@pytest.mark.slow
def test_kills_of_libvirts_daemon_as_an_ordinary_user(user, image):
    """What it tells of its rounds is shown by -rP."""
    sys.stdout.write(run_as(user, image, "tests/vm/test_libvirt_kills.py", "-m", "slow", "-rP"))


def run_as(user, image, *words: str) -> str:
    name, home = user
    places = copy_for(name, home, image)
    env = environment(name, home, image)
    command = [
        *become(name),
        *("tini", "-s", "--", str(python_for(name, home, places)), "-m", "pytest", "-p", "no:cacheprovider", "-v"),
        *("--basetemp", str(home / "tmp" / "t"), *words),
    ]
    done = subprocess.run(
        command, cwd=places["checkout"], env=env, capture_output=True, text=True, check=False, timeout=1100
    )
    assert done.returncode == 0, f"{done.stdout[-12000:]}\n{done.stderr[-2000:]}"
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout[-3000:]
    return done.stdout
