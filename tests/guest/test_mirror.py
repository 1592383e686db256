"""How the guest's engine is told of a registry that is a mirror, with the words that run there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib

import pytest

from hostvm.guest import Completed
from runtime.registry import guest as inside
from runtime.registry.mirror import set_mirror

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guest is Linux")
URL = "http://localhost:5000"


def until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


class Here:
    """Runs a guest's program on this computer; the guest's folders are below `root`."""

    def __init__(self, root):
        self.root = root
        for name in ("marks", "seed/engine"):
            (root / name).mkdir(parents=True)
        for name, text in (("s6-svc", f'echo "$*" >> {root}/told'), ("busybox", f"echo >> {root}/slept; sleep 0.02")):
            (root / name).write_text(f"#!/bin/sh\n{text}\n")
            (root / name).chmod(0o755)
        self.settings = root / "seed/engine/daemon.json"
        self.up = root / "marks/engine"

    def run(self, argv, *, timeout=60.0, stdin=b""):
        env = {**os.environ, "PATH": f"{self.root}:{os.environ['PATH']}"}
        words = [word.replace("/run/hostvm", str(self.root)).replace("/etc/", f"{self.root}/etc/") for word in argv]
        done = subprocess.run(words, input=stdin, capture_output=True, env=env, timeout=min(timeout, 5.0), check=False)
        return Completed(done.returncode, done.stdout, done.stderr)

    def slept(self):
        return (self.root / "slept").exists()

    def told(self):
        file = self.root / "told"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def here(tmp_path):
    made = Here(tmp_path)
    made.settings.write_text('{"debug": true}')
    yield made
    made.up.touch()  # whoever waits for it ends


def test_an_engine_that_is_up_reads_its_settings_anew(here):
    here.up.touch()
    set_mirror(here, URL, "docker")
    assert json.loads(here.settings.read_text()) == {"debug": True, "registry-mirrors": [URL]}
    assert here.told() == ["-h /run/service/dockerd"]
    set_mirror(here, "", "docker")
    assert json.loads(here.settings.read_text()) == {"debug": True, "registry-mirrors": []}
    assert len(here.told()) == 2


def test_one_that_is_not_up_yet_is_waited_for_by_nobody(here):
    set_mirror(here, URL, "docker")
    assert json.loads(here.settings.read_text())["registry-mirrors"] == [URL]
    assert here.told() == []
    until(here.slept)  # the guest's sh has no applets of busybox: one that is not found would be no pause
    here.up.touch()
    until(here.told)
    assert here.told() == ["-h /run/service/dockerd"]


@pytest.mark.parametrize(
    ("engine", "settings", "place", "told"),
    [
        ("podman", "seed/engine/registries.conf", "etc/containers/registries.conf", ["-h /run/service/podman"]),
        ("containerd", "seed/registries/docker.io", "etc/containerd/certs.d/docker.io/hosts.toml", []),
    ],
)
def test_other_engines_have_their_file_where_they_look_and_it_is_taken_back(here, engine, settings, place, told):
    before = '[host]\n[host."http://m.example"]\n' if engine == "containerd" else 'short-name-mode = "permissive"\n'
    (here.root / settings).parent.mkdir(exist_ok=True)
    (here.root / settings).write_text(before)
    here.up.touch()
    set_mirror(here, URL, engine)
    for file in (here.root / settings, here.root / place):  # a service that starts anew copies the first
        assert "localhost:5000" in file.read_text()
        assert tomllib.loads(file.read_text())
    assert (here.root / place).stat().st_mode & 0o777 == 0o644
    assert list((here.root / settings).parent.iterdir()) == [
        here.root / settings,
        *([here.settings] * (engine == "podman")),
    ]
    assert here.told() == told
    set_mirror(here, URL, engine)
    assert here.told() == told, "nothing is new"
    set_mirror(here, "", engine)
    assert [(here.root / one).read_text() for one in (settings, place)] == [before] * 2


def test_containerd_without_registries_of_machine_yaml(here):
    here.up.touch()
    set_mirror(here, "", "containerd")
    place = here.root / "etc/containerd/certs.d/docker.io/hosts.toml"
    assert not place.exists()
    set_mirror(here, URL, "containerd")
    assert list(tomllib.loads(place.read_text())["host"]) == [URL]
    set_mirror(here, "", "containerd")
    assert tomllib.loads(place.read_text()) == {"host": {}}


def test_a_registry_waits_until_its_supervisor_is_whole(here):
    """After a panic the console has the mark of the boot before."""
    words = inside._UP.replace("/run/hostvm", str(here.root)).replace("PATH=/usr", f"PATH={here.root}:/usr")
    words = words.replace("/usr/bin/docker-registry", f"{here.root}/here")
    argv = ["sh", "-c", words.replace("usleep 50000; done", "usleep 50000; done; exit 55"), "up", "", "", "", "", ""]
    (here.root / "here").touch(mode=0o700)
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as waits:
        until(lambda: here.slept() or waits.poll() is not None)
        (here.root / "marks/services").touch()
        assert waits.communicate(timeout=30) == (None, b"")
    assert waits.returncode == 55
