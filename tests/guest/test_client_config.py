"""What the guest's docker client is told, with the words that run in the guest, in folders of the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from hostvm.errors import MachineError
from hostvm.guest import GUEST_HOME, Completed
from runtime.docker.client_config import set_client_config

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guest is Linux")
PROXIES = {"HTTP_PROXY": "http://proxy.test:3128"}
LOGINS = {"auths": {"r.test": {"auth": "YTpi"}}}


class Here:
    def __init__(self, root):
        self.root = root
        self.file = root / "home/.docker/config.json"
        (root / "marks").mkdir()

    def pause_is(self, text):
        (self.root / "busybox").write_text(f"#!/bin/sh\n{text}\n")
        (self.root / "busybox").chmod(0o755)

    def run(self, argv, *, timeout=60.0, stdin=b""):
        env = {**os.environ, "PATH": f"{self.root}:{os.environ['PATH']}"}
        places = {"/run/hostvm": str(self.root), GUEST_HOME: f"{self.root}/home"}
        for there, here in places.items():
            argv = [word.replace(there, here) for word in argv]
        done = subprocess.run(argv, input=stdin, capture_output=True, env=env, timeout=timeout, check=False)
        return Completed(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def here(tmp_path):
    return Here(tmp_path)


def test_logins_on_a_data_disk_that_comes_a_moment_later_stay(here):
    """After a panic the console has the mark of the boot before."""
    mounted = f"mkdir -p {here.file.parent}; echo '{json.dumps(LOGINS)}' > {here.file}"
    here.pause_is(f"{mounted}; touch {here.root}/marks/services")
    set_client_config(here, PROXIES)
    assert json.loads(here.file.read_text()) == {**LOGINS, "proxies": {"default": {"httpProxy": PROXIES["HTTP_PROXY"]}}}


def test_without_a_data_disk_nothing_is_written(here):
    here.pause_is("")
    with pytest.raises(MachineError) as caught:
        set_client_config(here, PROXIES)
    assert caught.value.details == "its data disk is not mounted"
    assert not here.file.exists()


def test_the_first_configuration(here):
    (here.root / "marks/services").touch()
    set_client_config(here, {})
    assert not here.file.exists()
    set_client_config(here, PROXIES)
    assert json.loads(here.file.read_text())["proxies"]["default"]
    assert here.file.stat().st_mode & 0o777 == 0o600
