"""A machine that is suspended and goes on: what its containers, its user and its files see, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from functools import partial

import off_clock
import psutil
import pytest
from guest_clock import CLOSE, asking, most_off
from machines import HOSTVM, eventually, flip_bit, folders_of, hostvm, kill_agent, running_machine, succeed

from hostvm import process, process_id
from hostvm.agent import config as settings
from hostvm.agent.client import wait_ready
from hostvm.own import search_path
from images.progress import NullProgress

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.name == "nt", reason="QEMU's states are not saved on Windows"),
]

FOLLOWED_SECONDS = 10.0
"""Within which a step is followed for certain: five times what is wanted, a sixth of the time between two looks."""

# Its file in /n is open all the time.
COUNT = (
    "httpd -h /t; i=0; exec 3>> /n/lines; while :; do i=$((i + 1)); echo $i > /t/new; mv /t/new /t/n; "
    "echo $i >&3 || echo $i >> /n/lost; sleep 0.1; done"
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folders = {kind: tmp_path_factory.mktemp(f"kept-by-{kind}") for kind in ("sftp", "9p", "nfs")}
    for kind, folder in folders.items():
        (folder / "note").write_text(f"by {kind}\n")
    return folders


@pytest.fixture(scope="module")
def sleeper(shared):
    """A machine of this module's own: the one that others share has a virtiofs folder, which cannot be saved."""
    options = ("--cpus", "2", "--memory", "1GiB", "--mount", "none", "--driver", "qemu")
    # Over the guest's /root, as a root user's home folder is by default: the guest's own home must not hold it.
    there = {**shared, "9p": f"{shared['9p']}:/root"}
    with running_machine(f"e2e-{os.getpid()}-sleep", *options, shares=there.items()) as made:
        made.hostvm("image", "base", "busybox:latest")
        yield made


@pytest.fixture
def counter(sleeper, shared, free_port):
    """A container that counts in memory and shows it on a port."""
    for name in ("lines", "lost"):  # of the one before
        (shared["nfs"] / name).unlink(missing_ok=True)
    words = ("--tmpfs", "/t", "-p", f"{free_port}:80", "-v", f"{shared['sftp']}:/s", "-v", f"{shared['nfs']}:/n")
    sleeper.docker("run", "-d", "--name", "counting", *words, "busybox", "sh", "-c", COUNT)
    eventually(lambda: counted(free_port), "it counts")
    yield free_port
    hostvm("-m", sleeper.name, "docker", "rm", "-f", "counting")


def counted(port: int) -> int:
    """The number that the container shows; 0 while it shows none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/n", timeout=10) as answer:
            return int(answer.read() or 0)
    except OSError:
        return 0


def identity(machine) -> tuple[object, ...]:
    state = machine.inspect("counting")["State"]
    return state["Pid"], state["StartedAt"], state["Status"], machine.boot_id()


def status(machine) -> str:
    return str(json.loads(hostvm("status", machine.name, "--json").out)["status"])


def clock_error(machine) -> float:
    """As `most_off`, once."""
    with asking(machine) as ask:
        return most_off(ask)


def files(machine) -> set[str]:
    return {path.name for path in folders_of(machine.name)[0].glob("suspended*")}


def qemu_of(machine) -> int:
    return int((folders_of(machine.name)[1] / "qemu.pid").read_text())


def test_a_suspended_machine_goes_on_where_it_was(sleeper, counter, shared):
    before, number, qemu = identity(sleeper), counted(counter), qemu_of(sleeper)
    sleeper.hostvm("suspend")
    assert status(sleeper) == "suspended"
    assert "suspended" in sleeper.hostvm("ls")
    assert json.loads(sleeper.hostvm("inspect"))["observed"]["status"] == "suspended"
    assert files(sleeper) == {"suspended.json", "suspended.ram"}
    assert process_id.identify(qemu) is None, "its memory is free"
    assert counted(counter) == 0, "its port is closed"
    assert "was suspended already" in hostvm("suspend", sleeper.name).err
    found = {row["name"]: row["level"] for row in json.loads(hostvm("doctor", sleeper.name, "--json").out)}
    assert found["saved memory"] == "ok"

    sleeper.hostvm("start")
    assert clock_error(sleeper) <= CLOSE
    assert identity(sleeper) == before
    there = eventually(lambda: counted(counter), "its port is open")
    assert there >= number
    assert eventually(lambda: counted(counter) > there, "it counts on")
    assert sleeper.docker("exec", "counting", "cat", "/s/note") == "by sftp"
    assert sleeper.shell("cat", "/root/note") == "by 9p"
    assert files(sleeper) == set()
    lines = shared["nfs"] / "lines"
    eventually(lambda: int(lines.read_text().split()[-1]) > there, "it writes on to the file that it had open")
    numbers = [int(line) for line in lines.read_text().split()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert not (shared["nfs"] / "lost").exists()


def test_the_next_docker_command_resumes(sleeper, counter):
    before = identity(sleeper)
    sleeper.hostvm("suspend")
    assert sleeper.docker("ps", "--format", "{{.Names}}") == "counting"
    assert identity(sleeper) == before


def test_a_paused_machine_goes_on_with_the_right_time(sleeper, counter):
    before = identity(sleeper)
    sleeper.hostvm("suspend", "--pause")
    assert status(sleeper) == "paused"
    assert files(sleeper) == set()
    time.sleep(1.0)  # for the guest's clock to be behind
    sleeper.hostvm("resume")
    assert clock_error(sleeper) <= CLOSE
    assert identity(sleeper) == before


@pytest.mark.parametrize("seconds", ["-7200", "3600"])
def test_a_clock_that_is_hours_off_is_set_at_the_next_connection(sleeper, seconds):
    sleeper.shell("sh", "-c", f"date -s @$(($(date +%s) + {seconds}))")
    assert clock_error(sleeper) > 3000
    kill_agent(sleeper)
    sleeper.hostvm("start")
    eventually(lambda: clock_error(sleeper) <= CLOSE, "the clock is right")


@pytest.fixture
def agent_off_clock(sleeper, tmp_path):
    """The machine's agent as one that sees another time of day: `agent_off_clock(3600)` sets its clock an hour ahead.

    Not this computer's own clock: everybody else on it has that, too.
    """
    (python, file), run_dir = off_clock.write_python(tmp_path), folders_of(sleeper.name)[1]
    sleeper.hostvm("start")
    kill_agent(sleeper)
    argv = [str(python), "-P", "-m", "cli.agent_main", str(run_dir)]
    agent = process.spawn_detached(argv, folders_of(sleeper.name)[0] / "agent.log", env=search_path())
    try:
        settings.store(settings.load(run_dir), run_dir, agent)
        wait_ready(run_dir, time.monotonic() + 60, NullProgress())
        yield partial(off_clock.put, file)
    finally:
        process_id.kill(agent)
        sleeper.hostvm("start")


def is_followed(ask, ahead: float, what: str) -> None:
    """Wanted are two seconds; how long it took, and how far off the guest is then at most, is printed."""
    began = time.monotonic()
    off = eventually(lambda: (found := most_off(ask, ahead)) <= CLOSE and found, what, FOLLOWED_SECONDS)
    sys.stdout.write(f"{what}: {1000 * off:.0f} ms off at most, seen after {time.monotonic() - began:.1f} s\n")  # -rP


def test_a_step_of_this_computers_clock_either_way_is_followed(sleeper, agent_off_clock):
    """By an agent that has a connection; what its own looks would find a minute later is not waited for."""
    with asking(sleeper) as ask:
        assert most_off(ask) <= CLOSE
        for ahead in (7200.0, -3600.0, -86400.0, 0.0):
            agent_off_clock(ahead)
            is_followed(ask, ahead, f"a step to {ahead:+.0f} s")
    assert json.loads(sleeper.hostvm("status", "--json"))["agent"]["services"]["clock"]["set"] >= 4


@pytest.mark.parametrize("hours", [0.01, 9.0])
def test_after_a_sleep_of_this_computer_the_guest_has_its_time(sleeper, agent_off_clock, hours):
    """Nothing ran meanwhile, and the clock went on while the count of seconds stood still: as the agent sees it."""
    agent = json.loads((folders_of(sleeper.name)[1] / "agent.json").read_text())["process"][0]
    processes = [psutil.Process(pid) for pid in (qemu_of(sleeper), agent)]
    with asking(sleeper) as ask:
        for one in processes:
            one.suspend()
        try:
            agent_off_clock(3600 * hours)
            time.sleep(0.5)
        finally:
            for one in processes:
                one.resume()
        is_followed(ask, 3600 * hours, f"a sleep of {hours:g} h")


def test_who_has_a_9p_folder_is_named_and_the_machine_runs_on(sleeper, shared):
    sleeper.docker("run", "-d", "--name", "holding", "-v", f"{shared['9p']}:/x", "busybox", "sleep", "3602")
    done = hostvm("suspend", sleeper.name)
    assert done.status == 1
    assert "container holding has it" in done.err
    assert f"hostvm -m {sleeper.name} docker stop holding" in done.err
    assert sleeper.docker("exec", "holding", "cat", "/x/note") == "by 9p"
    sleeper.docker("rm", "-f", "holding")


def test_a_suspend_whose_command_is_killed_leaves_a_running_machine(sleeper, counter):
    before = identity(sleeper)
    kill_during_suspend(sleeper, lambda command: command.pid)
    assert sleeper.docker("ps", "--format", "{{.Names}}") == "counting"
    assert identity(sleeper) == before
    assert files(sleeper) == set()


def test_a_damaged_state_is_refused_and_may_be_discarded(sleeper, counter):
    before = identity(sleeper)
    sleeper.hostvm("suspend")
    folder = folders_of(sleeper.name)[0]
    put_back = flip_bit(folder / "suspended.ram")
    refused = sleeper.try_docker("ps")
    assert refused.status == 125
    assert "suspended.ram is damaged" in refused.err
    assert f"hostvm start --discard-state {sleeper.name}" in refused.err
    assert status(sleeper) == "suspended", "nothing was lost by the attempt"
    put_back()
    assert identity_after_start(sleeper) == before

    sleeper.hostvm("suspend")
    disk = folder / "data.qcow2"
    os.utime(disk, ns=(0, disk.stat().st_mtime_ns + 1))
    refused = hostvm("start", sleeper.name)
    assert refused.status == 1
    assert "was changed after the machine was suspended" in refused.err
    sleeper.hostvm("start", "--discard-state")
    assert files(sleeper) == set()
    assert sleeper.state("counting") == "exited", "as after a power cut"
    assert sleeper.boot_id() != before[-1]


def identity_after_start(machine) -> tuple[object, ...]:
    machine.hostvm("start")
    return identity(machine)


def test_a_qemu_that_dies_in_mid_suspend_leaves_a_stopped_machine(sleeper):
    boot = sleeper.boot_id()
    qemu = qemu_of(sleeper)
    done = kill_during_suspend(sleeper, lambda _: qemu)
    assert "QEMU has ended" in done
    assert status(sleeper) == "stopped"
    assert files(sleeper) == set()
    sleeper.hostvm("start")
    assert sleeper.boot_id() != boot


def kill_during_suspend(machine, whom) -> str:
    """Kill one process as soon as the state begins to be written; what the command said."""
    ram = folders_of(machine.name)[0] / "suspended.ram"
    command = subprocess.Popen([HOSTVM, "suspend", machine.name], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not ram.exists():
        assert time.monotonic() < deadline
        assert command.poll() is None, command.communicate()[1]
    os.kill(whom(command), signal.SIGKILL)
    said = command.communicate(timeout=60)[1]
    assert command.returncode != 0
    return said


def test_stopping_a_suspended_machine_lets_its_guest_end_in_order(sleeper):
    sleeper.hostvm("suspend")
    done = hostvm("stop", sleeper.name)
    assert "cutting its power" not in succeed_err(done)
    assert status(sleeper) == "stopped"
    assert files(sleeper) == set()


def succeed_err(done) -> str:
    succeed(done)
    return str(done.err)


def test_what_containers_write_last_is_kept_when_the_agent_is_gone(sleeper, shared):
    """`hostvm stop` brings it back first: their folders are served until they have ended."""
    last = "trap 'echo last > /n/last; exit' TERM; echo ready > /n/ready; while :; do sleep 0.1; done"
    sleeper.hostvm("start")
    sleeper.docker("run", "-d", "--name", "leaving", "-v", f"{shared['nfs']}:/n", "busybox", "sh", "-c", last)
    eventually((shared["nfs"] / "ready").exists, "it runs")
    kill_agent(sleeper)
    sleeper.hostvm("stop")
    assert (shared["nfs"] / "last").read_text() == "last\n"
    assert "mark off" in (folders_of(sleeper.name)[0] / "console.log").read_text(), "its power was not cut"
