"""What runs a script of `provision:` in the guest, run here in folders of the test."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hostvm.agent.provision import _RUN

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guest is Linux")


@pytest.fixture
def provision(tmp_path):
    for name in ("run/seed/provision", "disk", "home"):
        (tmp_path / name).mkdir(parents=True)
    sync = f'#!/bin/sh\necho "sync $*, done: $(ls {tmp_path}/disk/provision 2> /dev/null)" >> {tmp_path}/told\n'
    (tmp_path / "sync").write_text(sync)
    (tmp_path / "sync").chmod(0o755)

    def boot(script, when="once"):
        for old in tmp_path.glob("run/provision/*"):
            old.unlink()
        (tmp_path / "run/seed/provision/0").write_text(script)
        text = _RUN.replace("/run/hostvm", f"{tmp_path}/run").replace("/var/lib/hostvm", f"{tmp_path}/disk")
        env = os.environ | {"HOME": f"{tmp_path}/home", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        argv = ["sh", "-c", text, "provision", "0", when, "aa"]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        return done.returncode, done.stdout

    return boot


def test_what_is_done_once_is_on_the_disks_before_that_is_said(provision, tmp_path):
    (tmp_path / "run/seed/disks").write_text("a /mnt/a\nb /srv/b\n")
    assert provision("echo ran; exit 3") == (3, "ran\n")
    assert not (tmp_path / "told").exists()
    assert provision("#!/bin/sh\necho ran") == (0, "ran\n")
    assert (tmp_path / "told").read_text() == f"sync -f {tmp_path}/disk /mnt/a /srv/b, done: \n"
    assert provision("echo ran") == (0, "")
    assert (tmp_path / "disk/provision/aa").exists()


def test_others_wait_for_no_disk(provision, tmp_path):
    assert provision("echo ran", when="boot") == (0, "ran\n")
    assert provision("echo ran", when="boot") == (0, "ran\n")
    assert not (tmp_path / "told").exists()
    assert not (tmp_path / "disk/provision").exists()
