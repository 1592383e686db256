"""Control groups of every engine's containers: version 2, with all controllers, theirs to divide further."""

from __future__ import annotations

import docker
import pytest
from engine_rig import BUSYBOX, TABLE  # helpers beside this file

pytestmark = pytest.mark.vm

CONTROLLERS = {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}  # docs/configuration.md
LIMITS = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "50")
LOOK = "cd /sys/fs/cgroup && cat cgroup.controllers memory.max cpu.max pids.max"

# What a container of containers does. A group that has groups below it has no process of its own.
DIVIDE = """\
set -e
cd /sys/fs/cgroup
mkdir own
for process in $(cat cgroup.procs); do echo $process > own/cgroup.procs || [ ! -e /proc/$process ]; done
echo "+cpu +io +memory +pids" > cgroup.subtree_control
mkdir small
echo 32M > small/memory.max
cat cgroup.subtree_control memory.max small/memory.max
status=0
sh -c 'echo $$ > small/cgroup.procs; exec dd if=/dev/zero of=/dev/null bs=48M count=1' 2> /dev/null || status=$?
echo $status
exec dd if=/dev/zero of=/dev/null bs=40M count=1
"""


LIMITED = "limits of memory, processors, processes"
DIVIDED = "control groups that a `--privileged` container divides further"


def says_yes(rig, ability: str) -> bool:
    return TABLE[ability][rig.kind].startswith("yes")


def test_the_engine_has_control_groups_of_version_two_and_nothing_to_warn_of(rig):
    if not rig.can("Docker's API on this computer", "env"):
        return
    client = docker.DockerClient(base_url=rig.facts()["docker_host"], timeout=60)
    told = client.info()
    client.close()
    assert told["CgroupVersion"] == "2"
    if says_yes(rig, LIMITED):
        assert told["CgroupDriver"] == "cgroupfs"
        assert not told["Warnings"]


def test_a_container_has_every_controller_and_the_limits_it_was_given(rig):
    if rig.engine == "containerd":  # in ctr's containers there is no cgroup file system: seen from the guest
        rig.ok("ctr", "run", "-d", "--memory-limit", "67108864", "--cpus", "0.5", BUSYBOX, "limited", "sleep", "600")
        look = "cd /sys/fs/cgroup/default/limited && cat cgroup.controllers memory.max cpu.max"
        told = rig.ok("shell", "--", "sh", "-c", look).splitlines()
        rig.ok("ctr", "tasks", "rm", "--force", "limited")
        rig.ok("ctr", "containers", "rm", "limited")
        assert set(told[0].split()) >= CONTROLLERS
        assert told[1:] == ["67108864", "50000 100000"]
        return
    done = rig.words("docker", "run", "--rm", *LIMITS, "busybox", "sh", "-c", LOOK)
    if says_yes(rig, LIMITED):
        assert done.status == 0, str(done)
        controllers, *limits = done.out.splitlines()
        assert set(controllers.split()) >= CONTROLLERS
        assert limits == ["67108864", "50000 100000", "50"]
    else:
        assert "67108864" not in done.out, str(done)


def test_a_container_that_may_divides_its_group_further(rig):
    """Each part with a limit of its own, which the kernel keeps; who may not has its group to read."""
    if rig.engine == "containerd":
        assert not says_yes(rig, DIVIDED)
        seen = rig.run("ls", "/sys/fs/cgroup")
        assert (seen.status, seen.out) == (0, ""), str(seen)
        return
    words = ("docker", "run", "--rm", "--memory", "64m")
    done = rig.words(*words, "--privileged", "busybox", "sh", "-c", DIVIDE)
    if says_yes(rig, DIVIDED):
        assert done.status == 0, str(done)
        parts, *limits, status = done.out.splitlines()
        assert set(parts.split()) >= {"cpu", "io", "memory", "pids"}
        assert limits == ["67108864", "33554432"]
        assert status == "137", "what took more than its part was ended, and nothing else"
        refused = rig.words(*words, "busybox", "mkdir", "/sys/fs/cgroup/own")
        assert (refused.status, "Read-only file system" in refused.err) == (1, True), str(refused)
    else:
        assert done.status != 0, str(done)
