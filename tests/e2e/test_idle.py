"""Scale to zero: an unused machine sleeps by itself, and whoever comes to its docker.sock wakes it and is answered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import docker
import psutil
import pytest
from machines import HOSTVM, eventually, folders_of, hostvm, running_machine, small_machine, succeed

from hostvm import process_id
from hostvm.agent.client import request
from hostvm.agent.spawn import sleeper_status

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.name == "nt", reason="on Windows nothing listens at the pipe of a machine that sleeps"),
]


TALK = 16_000_000
"""Bytes of a log, more than ssh's window and all sockets on its way hold."""


@pytest.fixture(scope="module")
def drowsy():
    """A machine of this module's own: what keeps it awake must be this module's."""
    with small_machine(f"e2e-{os.getpid()}-idle", "--driver", "qemu") as made:
        made.sdk.close()  # an open connection is a use
        yield made


@pytest.fixture
def sleepy(drowsy):
    """Lets it sleep as it is told, and wakes it afterwards."""
    yield lambda action: drowsy.hostvm("set", f"idle={{after: 1s, action: {action}}}")
    drowsy.hostvm("set", "idle=")
    drowsy.hostvm("start")


def facts(machine):
    return json.loads(hostvm("status", machine.name, "--json").out)


def status(machine) -> str:
    return str(facts(machine)["status"])


def asleep(machine, word: str):
    eventually(lambda: status(machine) == word and facts(machine)["sleeper"], f"it is {word}", 60)


def images(machine) -> int:
    """Asked by a docker client that knows nothing of machines."""
    with contextlib.closing(docker.DockerClient(base_url=machine.docker_host, timeout=60)) as client:
        return len(client.images.list())


def would_leave(machine) -> bool:
    """What the agent says to whoever wants to put it to sleep now, however short the time."""
    return bool(request(folders_of(machine.name)[1], "leave", after=0.05)["left"])


def test_an_unused_machine_is_suspended_and_a_docker_client_wakes_it(drowsy, sleepy):
    boot, before = drowsy.boot_id(), images(drowsy)
    sleepy("suspend")
    asleep(drowsy, "suspended")
    assert (folders_of(drowsy.name)[0] / "suspended.ram").exists()
    assert f"{drowsy.name}  suspended,listening" in succeed(hostvm("ls"))
    assert "docker.sock: the first client wakes the machine" in hostvm("status", drowsy.name).out
    drowsy.hostvm("set", "idle=")  # counts at once
    assert images(drowsy) == before
    assert drowsy.boot_id() == boot
    assert sleeper_status(folders_of(drowsy.name)[1]) is None


def stays_awake(machine) -> bool:
    """Asked when a command that ended before is no use any more."""
    time.sleep(0.5)
    return not would_leave(machine)


@contextlib.contextmanager
def followed(machine, container: str, how: str):
    """What it says is followed by somebody who reads no further than its first line."""
    if how == "hostvm":
        words = [str(HOSTVM), "-m", machine.name, "docker", "logs", "-f", container]
        env = {**os.environ, "HOSTVM_CLIENT": "guest"}
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env, bufsize=0) as client:
            try:
                assert client.stdout.read(3) == b"up\n"
                yield
            finally:
                client.kill()
    else:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(machine.docker_host.removeprefix("unix://"))
            path = f"/containers/{container}/logs?follow=1&stdout=1"
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            yield


@pytest.mark.slow
def test_a_container_and_who_follows_its_log_count_as_use(drowsy):
    """A log that is longer than what fits between the two is followed on after the container's end."""
    talk = f"echo up; until [ -e /end ]; do sleep 0.2; done; head -c {TALK} /dev/zero | tr '\\0' x"
    for how in ("hostvm", "docker.sock"):
        drowsy.docker("run", "-d", "--name", "talks", "busybox", "sh", "-c", talk)
        try:
            assert stays_awake(drowsy), "a container that runs"
            with followed(drowsy, "talks", how):
                drowsy.docker("exec", "talks", "touch", "/end")
                assert drowsy.docker("wait", "talks") == "0"
                assert stays_awake(drowsy), f"docker logs -f by {how}"
        finally:
            drowsy.docker("rm", "-f", "talks")
    assert eventually(lambda: would_leave(drowsy), "nothing is left")
    drowsy.hostvm("start")


def test_what_counts_as_use(drowsy):
    drowsy.docker("run", "-d", "--restart", "always", "--name", "failing", "busybox", "false")
    try:
        assert not would_leave(drowsy), "a container that waits to be restarted"
    finally:
        drowsy.docker("rm", "-f", "failing")
    with socket.socket(socket.AF_UNIX) as events:
        events.connect(drowsy.docker_host.removeprefix("unix://"))
        events.sendall(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        assert events.recv(100).startswith(b"HTTP/1.1 200")
        assert not would_leave(drowsy), "a stream, though nothing comes"
    words = [str(HOSTVM), "-m", drowsy.name, "shell", "--", "sh", "-c", "echo begun; cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as command:
        assert command.stdout.readline() == b"begun\n"
        assert not would_leave(drowsy), "a command"
        command.stdin.close()
        command.wait(20)
    assert status(drowsy) == "running"
    assert eventually(lambda: would_leave(drowsy), "nothing is left")
    drowsy.hostvm("start")


def test_clients_that_come_while_it_falls_asleep_are_answered(drowsy):
    before, answers, run_dir = images(drowsy), [], folders_of(drowsy.name)[1]
    suspend = subprocess.Popen([HOSTVM, "suspend", drowsy.name], stderr=subprocess.DEVNULL)
    eventually(lambda: sleeper_status(run_dir), "somebody listens")
    threads = [threading.Thread(target=lambda: answers.append(images(drowsy))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert suspend.wait(60) == 0
    assert answers == [before] * 4


def test_a_machine_that_is_used_after_all_stays_awake_and_its_clients_are_answered(drowsy, sleepy):
    with socket.socket(socket.AF_UNIX) as events:
        events.connect(drowsy.docker_host.removeprefix("unix://"))
        events.sendall(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        assert events.recv(100).startswith(b"HTTP/1.1 200")
        sleepy("suspend")
        # As the agent would have it done, had nobody come in between.
        done = subprocess.run(
            [sys.executable, "-m", "cli.background", "sleep", drowsy.name], capture_output=True, check=True, text=True
        )
        assert "is in use after all" in done.stderr
        assert status(drowsy) == "running"
        assert images(drowsy) > 0
        eventually(lambda: sleeper_status(folders_of(drowsy.name)[1]) is None, "the sleeper is gone")


def test_a_paused_one_goes_on_at_once(drowsy, sleepy):
    boot, before = drowsy.boot_id(), images(drowsy)
    sleepy("pause")
    asleep(drowsy, "paused")
    drowsy.hostvm("set", "idle=")
    assert images(drowsy) == before
    assert drowsy.boot_id() == boot


@pytest.mark.slow
def test_one_that_cannot_be_suspended_is_paused_and_says_why(tmp_path):
    """Its 9p folder is open in a program that was left in the guest; that is no use."""
    options = ("--cpus", "1", "--memory", "512MiB", "--mount", "none", "--driver", "qemu")
    with running_machine(f"e2e-{os.getpid()}-held", *options, shares={"9p": tmp_path}) as made:
        made.sdk.close()
        boot, log = made.boot_id(), folders_of(made.name)[0] / "agent.log"
        # Its standard streams are no command's any more, or that would go on.
        made.shell("sh", "-c", f"cd {tmp_path}; setsid sleep 3603 < /dev/null > /dev/null 2>&1 &")
        made.hostvm("set", "idle={after: 1s, action: suspend}")
        for _ in range(2):
            asleep(made, "paused")
            assert f"a folder shared by 9p is in use: program {tmp_path} (" in facts(made)["paused_why"]
            assert f"{made.name}  paused,unsaved,listening" in succeed(hostvm("ls"))
            assert "it was to be suspended, which cannot be: a folder" in hostvm("status", made.name).out
            assert images(made) == 0, "a docker client wakes it"
            assert facts(made)["paused_why"] is None
        assert log.read_text().count("is paused, as it cannot be suspended: a folder shared by 9p is in use") == 1
        made.shell("pkill", "-f", "sleep 3603")
        asleep(made, "suspended")
        assert images(made) == 0
        made.hostvm("set", "idle=")
        assert made.boot_id() == boot


# What the guest has deleted is the computer's again.

LARGE = 130_000_000
EATEN = 400 << 20
# Not zeros, which the disk does not keep anyway. In memory first, so that the disk sees it once.
LOAD = "cd /dev/shm; yes hostvm | head -c $1 > large; tar -c large | docker import - large:1; rm large; sync"


def disk(machine) -> int:
    return (folders_of(machine.name)[0] / "data.qcow2").stat().st_blocks * 512


def used(machine):
    return json.loads(machine.hostvm("df", "--json"))


@pytest.mark.slow
def test_the_room_of_a_removed_image_comes_back_by_itself(drowsy):
    before = disk(drowsy)
    drowsy.shell("sh", "-c", LOAD, "load", str(LARGE))
    there = used(drowsy)
    assert disk(drowsy) - before > LARGE * 0.9
    assert there["host"]["disk"] == disk(drowsy)
    assert there["engine"]["images"]["size"] > LARGE
    assert there["engine"]["images"]["count"] == 2
    assert there["guest"]["size"] > there["guest"]["used"] > LARGE
    drowsy.docker("rmi", "large:1")
    eventually(lambda: disk(drowsy) - before < LARGE * 0.1, "its room is free here", 60)


def rss(machine) -> int:
    """Bytes of this computer's memory that the machine's QEMU holds."""
    pid = int((folders_of(machine.name)[1] / "qemu.pid").read_text())
    return psutil.Process(pid).memory_info().rss


@pytest.mark.skipif(sys.platform == "darwin", reason="its pages go back when the system is short of memory")
def test_the_memory_of_a_container_that_ended_comes_back(drowsy):
    eat = f"head -c {EATEN} /dev/zero > /dev/shm/x; touch /has-it; exec sleep 3600"
    before = rss(drowsy)
    drowsy.docker("run", "-d", "--name", "eats", "--shm-size", str(EATEN + (1 << 20)), "busybox", "sh", "-c", eat)
    try:
        # Waited for in there: to ask for it again and again costs an emulated guest more than to eat.
        drowsy.docker("exec", "eats", "sh", "-c", "until [ -e /has-it ]; do sleep 1; done")
        most = rss(drowsy)
    finally:
        drowsy.docker("rm", "-f", "eats")
    assert most - before > EATEN * 0.25
    eventually(lambda: most - rss(drowsy) >= EATEN * 0.6, f"of {before} and {most} bytes enough is free again", 120)


def test_prune_deletes_only_what_it_is_told_to(drowsy):
    drowsy.docker("run", "--name", "ended", "busybox", "dd", "if=/dev/urandom", "of=/x", "bs=1M", "count=8")
    drowsy.docker("volume", "create", "kept")
    told = json.loads(drowsy.hostvm("prune", "--json"))
    assert told["deleted"] == {}
    assert told["disk_after"] == disk(drowsy)
    assert drowsy.state("ended") == "exited"
    told = json.loads(drowsy.hostvm("prune", "--containers", "--json"))
    assert told["deleted"]["containers"] >= 8 << 20
    assert told["freed"] >= 4 << 20
    assert "ended" not in drowsy.docker("ps", "-a")
    told = json.loads(drowsy.hostvm("prune", "--all", "--json"))
    assert "busybox" not in drowsy.docker("images"), "no container uses it"
    assert drowsy.docker("volume", "ls", "-q") == "kept", "volumes are not in --all"
    drowsy.docker("volume", "rm", "kept")
    drowsy.hostvm("image", "base", "busybox:latest")


def test_a_sleeper_that_is_killed_costs_nobody_anything_but_the_next_command(drowsy):
    drowsy.hostvm("suspend")
    os.kill(sleeper_status(folders_of(drowsy.name)[1])["pid"], signal.SIGKILL)
    assert facts(drowsy)["sleeper"] is None
    with pytest.raises(docker.errors.DockerException):
        images(drowsy)
    assert "busybox" in drowsy.docker("images")
    assert images(drowsy) > 0


def test_a_machine_that_cannot_wake_says_so_to_docker_clients(drowsy):
    drowsy.hostvm("suspend")
    ram = folders_of(drowsy.name)[0] / "suspended.ram"
    last = ram.read_bytes()[-1:]
    os.truncate(ram, ram.stat().st_size - 1)
    with pytest.raises(docker.errors.DockerException, match="cannot be resumed"):
        images(drowsy)
    assert facts(drowsy)["sleeper"], "it listens on"
    with ram.open("ab") as file:
        file.write(last)
    drowsy.hostvm("resume")
    assert images(drowsy) > 0


@pytest.fixture(scope="module")
def small_disk(drowsy, tmp_path_factory):
    """Where the stopped machine's disk can be moved to: a file system of its own, with a size that can be set."""
    folder = tmp_path_factory.mktemp("small")
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root mounts a tmpfs, and only on Linux")

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

    yield folder, resize
    drowsy.hostvm("stop", "--force")
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_one_that_stopped_when_idle_is_started_by_a_docker_client(drowsy, sleepy, small_disk):
    boot, before = drowsy.boot_id(), images(drowsy)
    sleepy("stop")
    asleep(drowsy, "stopped")
    drowsy.hostvm("set", "idle=")
    folder, resize = small_disk
    place = folders_of(drowsy.name)[0] / "data.qcow2"
    resize(disk(drowsy) + (40 << 20))
    subprocess.run(["cp", "--sparse=always", place, folder / "disk"], check=True)
    place.unlink()
    place.symlink_to(folder / "disk")
    assert images(drowsy) == before
    assert drowsy.boot_id() != boot


@pytest.mark.slow
def test_a_machine_stands_still_while_this_computers_disk_is_full(drowsy, small_disk):
    folder, resize = small_disk
    there, size = disk(drowsy), 60_000_000
    write = f"yes hostvm | head -c {size} > /f; sync; echo 3 > /proc/sys/vm/drop_caches; md5sum /f"
    words = [HOSTVM, "-m", drowsy.name, "docker", "run", "--rm", "--privileged", "busybox", "sh", "-c", write]
    writer = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "HOSTVM_CLIENT": "guest"}
    )
    # Not asked of hostvm all the time: each of its commands takes the emulated guest's processor for a while.
    eventually(lambda: shutil.disk_usage(folder).free == 0 or writer.poll() is not None, "the disk is full", 120)
    assert writer.poll() is None, writer.communicate()
    eventually(lambda: status(drowsy) == "stalled", "it stands still", 30)
    assert any("this computer's disk is full" in fault for fault in facts(drowsy)["faults"])
    eventually(lambda: (facts(drowsy)["agent"] or {}).get("state") == "failed", "its agent knows", 30)
    refused = drowsy.try_docker("ps")
    assert refused.status == 125
    assert "stands still: this computer's disk is full" in refused.err
    assert "free at least" in refused.err
    assert "stands still" in hostvm("stop", drowsy.name).err, "its guest cannot end in order"
    assert writer.poll() is None
    resize(there + (300 << 20))
    out, err = writer.communicate(timeout=90)
    assert writer.returncode == 0
    assert out.split()[0] == hashlib.md5((b"hostvm\n" * (size // 7 + 1))[:size]).hexdigest()
    assert "stands still: this computer's disk is full" in err
    assert "the machine goes on" in err
    assert status(drowsy) == "running"
    assert " rw," in drowsy.shell("grep", " /var ", "/proc/mounts")


@pytest.mark.slow
def test_a_stop_is_finished_when_this_computers_disk_has_room_again(drowsy, small_disk):
    """What a container has written, and the guest had not put on the disk yet, is there afterwards."""
    _, resize = small_disk
    size = 20_000_000
    count = ("run", "--rm", "-v", "kept:/kept", "busybox", "wc", "-c", "/kept/f")
    drowsy.docker("run", "--rm", "-v", "kept:/kept", "busybox", "sh", "-c", f"yes | head -c {size} > /kept/f")
    resize(disk(drowsy))
    refused = hostvm("stop", drowsy.name)
    assert refused.status == 1, refused.both
    assert "stands still: this computer's disk is full" in refused.err
    assert status(drowsy) == "stalled"
    resize(disk(drowsy) + (300 << 20))
    eventually(lambda: status(drowsy) == "stopped", "it is stopped", 60)
    drowsy.hostvm("start")
    assert drowsy.docker(*count).split()[0] == str(size)
    drowsy.docker("volume", "rm", "kept")


def test_what_the_user_stops_stays_stopped(drowsy):
    drowsy.hostvm("suspend")
    sleeper = process_id.identify(sleeper_status(folders_of(drowsy.name)[1])["pid"])
    drowsy.hostvm("stop")
    assert not process_id.is_alive(sleeper)
    with pytest.raises(docker.errors.DockerException):
        images(drowsy)
    assert status(drowsy) == "stopped"
