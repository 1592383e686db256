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

    def begin(when="once"):
        text = _RUN.replace("/run/hostvm", f"{tmp_path}/run").replace("/var/lib/hostvm", f"{tmp_path}/disk")
        env = os.environ | {"HOME": f"{tmp_path}/home", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        argv = ["sh", "-c", text, "provision", "0", when, "aa"]
        return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def boot(script, when="once"):
        for old in tmp_path.glob("run/provision/*"):
            old.unlink()
        (tmp_path / "run/seed/provision/0").write_text(script)
        return finish(begin(when))

    def finish(process):
        said, errors = process.communicate(timeout=60)
        assert errors == ""
        return process.returncode, said

    boot.begin, boot.finish = begin, finish
    return boot


def test_a_script_that_dies_of_its_agents_death_begins_anew(provision, tmp_path):
    """It writes, and nobody hears it any more: that is no failure of its own."""
    (tmp_path / "run/seed/provision/0").write_text(
        f"[ -e {tmp_path}/begun ] && exit 0\n: > {tmp_path}/begun; echo first\n"
        f"until [ -e {tmp_path}/go ]; do sleep 0.01; done\necho more; echo more; exit 7\n"
    )
    first = provision.begin()
    assert first.stdout.readline() == "first\n"
    first.stdout.close()
    (tmp_path / "go").touch()
    first.wait(60)
    first.stderr.close()
    assert provision.finish(provision.begin()) == (0, "")


def test_one_that_failed_does_not_begin_anew_in_the_same_boot(provision):
    assert provision("echo ran; exit 3") == (3, "ran\n== status 3\n")
    assert provision.finish(provision.begin()) == (3, "")


def test_one_that_runs_on_without_its_agent_is_waited_for(provision, tmp_path):
    """The new agent's look at it, a pause, lets it go on here."""
    (tmp_path / "sleep").write_text(f"#!/bin/sh\n: > {tmp_path}/go; exec /bin/sleep 0.01\n")
    (tmp_path / "sleep").chmod(0o755)
    (tmp_path / "run/seed/provision/0").write_text(
        f"echo begin >> {tmp_path}/told\nif mkdir {tmp_path}/begun 2> /dev/null; then echo first\n"
        f"until [ -e {tmp_path}/go ]; do /bin/sleep 0.01; done; fi\necho end >> {tmp_path}/told; echo last\n"
    )
    first = provision.begin("boot")
    assert first.stdout.readline() == "first\n"
    first.stdout.close()
    second = provision.finish(provision.begin("boot"))
    (tmp_path / "go").touch()
    first.wait(60)
    first.stderr.close()
    assert (tmp_path / "told").read_text() == "begin\nend\nbegin\nend\n"
    assert second == (0, "last\n")


def test_what_is_done_once_is_on_the_disks_before_that_is_said(provision, tmp_path):
    (tmp_path / "run/seed/disks").write_text("a /mnt/a\nb /srv/b\n")
    assert provision("echo ran; exit 3") == (3, "ran\n== status 3\n")
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
