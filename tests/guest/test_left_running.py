"""What a killed dockerd left running: folders like containerd's and dockerd's, with processes of this computer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from images.recipe import FILES

NAME = "docker/usr/lib/hostvm/left-running"
ID = "c0ffee" * 10

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guest is Linux")

PROGRAM = """
import signal, sys, time
def told(number, frame):
    print(signal.Signals(number).name if number in set(signal.Signals) else number, flush=True)
    if sys.argv[1] == "ends":
        sys.exit()
for one in (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGRTMIN, 37, 61):
    signal.signal(one, told)
print("up", flush=True)
while True:
    time.sleep(60)
"""


class Process:
    """Whoever waits for it does so at once, as containerd's shim does: no entry of /proc is left."""

    def __init__(self, does):
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, does], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "up\n"
        self.said = []
        self.waiting = threading.Thread(target=self._wait)
        self.waiting.start()

    def _wait(self):
        self.said = self.process.stdout.read().split()
        self.process.wait()

    def ended(self):
        """How, and which signals it was sent before."""
        self.waiting.join(20)
        assert not self.waiting.is_alive()
        return self.process.returncode, self.said


class Guest:
    def __init__(self, tmp_path, run_script):
        self.path, self.run_script = tmp_path, run_script
        self.processes = []
        for name in ("tasks/moby", "data", "cgroups", "sys"):
            (tmp_path / name).mkdir(parents=True)

    def container(self, ident=ID, does="ends", group=None, remapped="", **config):
        """One of an engine whose root is `remapped`: UID.GID."""
        made = Process(does)
        self.processes.append(made)
        process = made.process
        settings = json.dumps({"Config": config}, separators=(",", ":"))
        for place, text in (
            (f"tasks/moby{remapped and '-'}{remapped}/{ident}/init.pid", f"{process.pid}"),
            (f"data/{remapped}/containers/{ident}/config.v2.json", settings),
            (f"cgroups/{process.pid}", f"0::{f'/docker/{ident}' if group is None else group}\n"),
        ):
            (self.path / place).parent.mkdir(parents=True, exist_ok=True)
            (self.path / place).write_text(text)
        group = self.path / "sys" / "docker" / ident
        group.mkdir(parents=True)
        (group / "cgroup.freeze").write_text("1\n")
        return made

    @property
    def places(self):
        return {
            "/run/containerd/io.containerd.runtime.v2.task": f"{self.path}/tasks",
            "/var/lib/docker": f"{self.path}/data",
            "/proc/$pid/cgroup": f"{self.path}/cgroups/$pid",
            "/sys/fs/cgroup": f"{self.path}/sys",
        }

    def end(self, prelude="set -u"):
        return self.run_script(
            NAME,
            prelude + "; usleep() { echo slept >> $root/slept; command sleep 0.05; }",
            {},
            self.places,
        )


@pytest.fixture
def guest(tmp_path, run_script):
    made = Guest(tmp_path, run_script)
    yield made
    for one in made.processes:
        one.process.kill()
        one.ended()


@pytest.mark.parametrize(
    ("config", "signal"),
    [
        ({}, "SIGTERM"),
        ({"StopSignal": "SIGQUIT"}, "SIGQUIT"),
        ({"StopSignal": "USR1"}, "SIGUSR1"),
        ({"StopSignal": "3"}, "SIGQUIT"),
        ({"StopSignal": "sigquit"}, "SIGQUIT"),
        ({"StopSignal": "SIGRTMIN"}, "SIGRTMIN"),
        ({"StopSignal": "SIGRTMIN+3"}, "37"),  # of images with systemd
        ({"StopSignal": "RTMAX-3"}, "61"),
        ({"StopSignal": "NONSENSE"}, "SIGTERM"),
        ({"Env": ['A="StopSignal":"SIGQUIT"'], "StopTimeout": 30}, "SIGTERM"),
    ],
)
def test_a_container_ends_by_its_own_signal(guest, config, signal):
    process = guest.container(**config)
    assert guest.end() == []
    assert process.ended() == (0, [signal])
    assert (guest.path / "sys" / "docker" / ID / "cgroup.freeze").read_text() == "0\n"


def test_also_one_of_an_engine_whose_root_is_remapped(guest):
    """dockerd keeps those apart, in a namespace of containerd's and a folder that are called after their root."""
    there = guest.container(remapped="100000.100000", StopSignal="SIGQUIT", does="stays", StopTimeout=1)
    before = guest.container(f"{7:064x}", StopSignal="SIGUSR1")
    assert guest.end() == []
    assert there.ended() == (-9, ["SIGQUIT"])
    assert before.ended() == (0, ["SIGUSR1"])
    assert len((guest.path / "slept").read_text().split()) >= 20


def test_one_that_takes_no_notice_is_killed_at_its_own_time(guest):
    process = guest.container(does="stays", StopTimeout=1)
    assert guest.end() == []
    assert process.ended() == (-9, ["SIGTERM"])
    assert len((guest.path / "slept").read_text().split()) == 20


@pytest.mark.parametrize("seconds", [-1, 86400])
def test_none_is_waited_for_longer_than_a_stop_would(guest, seconds):
    process = guest.container(does="stays", StopTimeout=seconds)
    assert guest.end("set -u; most=30") == []
    assert process.ended() == (-9, ["SIGTERM"])
    assert len((guest.path / "slept").read_text().split()) == 30


RUN = {
    ". /usr/lib/hostvm/lib.sh": "seed=$root/seed",
    "/usr/sbin/modprobe": ":",
    "/usr/sbin/dockerd": "$root/dockerd",
    "/etc/docker/daemon.json": "$root/daemon.json",
    "/usr/lib/hostvm/left-running": "$root/left-running",
}


@pytest.mark.parametrize("stop", [False, True])
def test_a_stop_meanwhile_lets_them_have_their_time(guest, run_script, tmp_path, stop):
    process = guest.container(does="stays", StopTimeout=1)
    text = (FILES / NAME).read_text(encoding="utf-8")
    for there, here in guest.places.items():
        text = text.replace(there, here)
    (tmp_path / "left-running").write_text(text)
    (tmp_path / "daemon.json").write_text("{}")
    prelude = (
        "engine_env() { :; }; engine_waits() { :; }; engine_limits() { :; }\n"
        f"usleep() {{ echo slept >> $root/slept; {'kill -TERM $$;' if stop else ''} command sleep 0.05; }}\n"
        """trap 'echo "ended after $(grep -c . $root/slept) rounds"' EXIT"""
    )
    said = run_script("docker/usr/lib/hostvm/services/dockerd/run", prelude, {"dockerd": "echo begun"}, RUN)
    assert said == (["ended after 20 rounds"] if stop else ["begun"])
    assert process.ended() == (-9, ["SIGTERM"])


def test_another_process_that_has_its_number_by_now_is_left_alone(guest):
    process = guest.container(group="/system")
    assert guest.end() == []
    assert process.process.poll() is None


def test_all_are_told_at_once(guest):
    names = [f"{number:064x}" for number in range(3)]
    processes = [guest.container(name, does="stays", StopTimeout=2) for name in names]
    assert guest.end() == []
    assert [one.ended() for one in processes] == [(-9, ["SIGTERM"])] * 3


def test_nothing_is_there_after_a_boot(guest):
    (guest.path / "tasks" / "moby").rmdir()
    assert guest.end() == []
    (guest.path / "tasks" / "moby" / ID).mkdir(parents=True)  # a task that is being made
    assert guest.end() == []
