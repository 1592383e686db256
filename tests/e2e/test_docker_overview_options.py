"""What Docker's overview says of networks, storage and isolation of containers: a test per statement."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from machines import eventually

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1200)]

FOREVER = ("sleep", "3600")
HOST = "10.0.2.2"
"""This computer, as QEMU's network shows it to the guest."""


def serve(box, name: str, *options: str) -> None:
    """A container that answers HTTP requests with its own name."""
    program = f"mkdir /www && echo {name} > /www/index.html && exec httpd -f -p 80 -h /www"
    box.docker("run", "-d", "--name", name, *options, "busybox", "sh", "-c", program)


def fetch(box, name: str, url: str) -> bool:
    """Whether a running container can get `url`."""
    return box.try_docker("exec", name, "wget", "-q", "-T", "3", "-O", "/dev/null", url).status == 0


# ---- networks ------------------------------------------------------------------------------------------------

ONE, TWO = "inside-one", "inside-two"


@pytest.fixture(scope="module")
def inside(machine):
    """An internal network with two web servers, ONE and TWO."""
    with machine.clean():
        machine.docker("network", "create", "--internal", "--subnet", "172.30.1.0/24", "inside")
        for name in (ONE, TWO):
            serve(machine, name, "--network", "inside")
        yield "inside"


def test_container_is_connected_to_one_network(box, inside):
    assert set(box.container(ONE)["NetworkSettings"]["Networks"]) == {inside}
    found = box.docker("exec", ONE, "sh", "-c", "ls /sys/class/net; ip addr show eth0")
    assert found.split()[:2] == ["eth0", "lo"]
    assert "inet 172.30.1.2/24" in found


def test_two_containers_find_each_other_by_name(box, inside):
    for here, there in ((ONE, TWO), (TWO, ONE)):
        assert box.docker("exec", here, "wget", "-q", "-T", "10", "-O", "-", f"http://{there}/") == there


def test_internal_network_has_no_way_out(box, inside, residents, host_web):
    assert fetch(box, residents["busybox"], f"http://{HOST}:{host_web}/")  # from elsewhere there is a way out
    assert not fetch(box, ONE, f"http://{HOST}:{host_web}/")


def test_container_is_connected_to_several_networks(box, inside, host_web, unique):
    """Through the second network ONE gets what only that one offers, and keeps what the first one does."""
    second = unique("second")
    box.docker("network", "create", second)
    box.docker("network", "connect", second, ONE)
    try:
        assert set(box.container(ONE)["NetworkSettings"]["Networks"]) == {inside, second}
        get = "wget -q -T 10 -O -"
        program = f"ls /sys/class/net; {get} http://{TWO}/; {get} http://{HOST}:{host_web}/"
        assert box.docker("exec", ONE, "sh", "-c", program).split() == ["eth0", "eth1", "lo", TWO, "from", "outside"]
    finally:
        box.docker("network", "disconnect", second, ONE)
    assert set(box.container(ONE)["NetworkSettings"]["Networks"]) == {inside}


def ask(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return str(answer.read().decode().strip())


def try_ask(port: int) -> str:
    """The answer; "" while there is a listener without a service behind it."""
    try:
        return ask(port)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError):
        return ""


def is_refused(port: int) -> bool:
    try:
        ask(port)
    except urllib.error.URLError as fault:
        return isinstance(fault.reason, ConnectionRefusedError)
    except (http.client.HTTPException, ConnectionError):
        return False
    return False


def test_published_port_is_reached_on_this_computer(box, free_port, unique):
    name = unique("published")
    serve(box, name, "-p", f"{free_port}:80")
    eventually(lambda: try_ask(free_port) == name, f"127.0.0.1:{free_port} answers")


def test_published_port_goes_with_its_container(box, free_port, unique):
    name = unique("leaving")
    assert is_refused(free_port)
    serve(box, name, "-p", f"{free_port}:80")
    eventually(lambda: try_ask(free_port) == name, f"127.0.0.1:{free_port} answers")
    box.docker("rm", "-f", name)
    eventually(lambda: is_refused(free_port), f"127.0.0.1:{free_port} is closed")


# ---- storage -------------------------------------------------------------------------------------------------


def test_named_volume_is_shared(box, unique):
    volume, first = unique("data"), unique("first")
    program = "echo one > /data/file; exec sleep 3600"
    box.docker("run", "-d", "--name", first, "-v", f"{volume}:/data", "busybox", "sh", "-c", program)
    box.docker("run", "--rm", "-v", f"{volume}:/elsewhere", "busybox", "sh", "-c", "echo two >> /elsewhere/file")
    assert box.docker("exec", first, "cat", "/data/file").splitlines() == ["one", "two"]
    written = {change["Path"] for change in box.sdk.api.diff(first) or ()}
    assert written <= {"/data"}  # the mount point; what was written is not in the container's layer


def test_tmpfs_lives_in_memory_only(box, unique):
    name = unique("tmpfs")
    program = "grep ' /fast ' /proc/mounts; echo fleeting > /fast/file; exec sleep 3600"
    box.docker("run", "-d", "--name", name, "--tmpfs", "/fast:size=1m", "busybox", "sh", "-c", program)
    full = box.try_docker("exec", name, "dd", "if=/dev/zero", "of=/fast/big", "bs=64k", "count=64")
    assert "No space left" in full.err
    assert box.docker("logs", name).split()[:3] == ["tmpfs", "/fast", "tmpfs"]
    assert not [change for change in box.sdk.api.diff(name) or () if change["Path"].startswith("/fast/")]
    box.docker("restart", "-t", "0", name)
    assert box.docker("exec", name, "ls", "/fast") == "file"  # written anew; what was there is gone


def test_read_only_mount_refuses_writes(box, unique):
    program = "ls -d /data; echo changed > /data/file"
    done = box.try_docker("run", "--rm", "-v", f"{unique('fixed')}:/data:ro", "busybox", "sh", "-c", program)
    assert (done.status, done.out) == (1, "/data\n")
    assert "Read-only file system" in done.err


# ---- isolation -----------------------------------------------------------------------------------------------


def test_network_none_leaves_only_the_loopback(box, host_web, unique):
    name = unique("alone")
    box.docker("run", "-d", "--name", name, "--network", "none", "busybox", *FOREVER)
    assert box.docker("exec", name, "ls", "/sys/class/net").split() == ["lo"]
    assert not fetch(box, name, f"http://{HOST}:{host_web}/")


def test_read_only_root_refuses_writes(box):
    program = "touch /tmp/allowed && echo allowed; touch /forbidden"
    done = box.try_docker("run", "--rm", "--read-only", "--tmpfs", "/tmp", "busybox", "sh", "-c", program)
    assert (done.status, done.out) == (1, "allowed\n")
    assert "Read-only file system" in done.err


def test_dropped_capability_is_missing(box, residents):
    program = ("sh", "-c", "touch /tmp/file && chown 1:1 /tmp/file && stat -c %u /tmp/file; rm /tmp/file")
    assert box.docker("exec", residents["busybox"], *program) == "1"
    done = box.try_docker("run", "--rm", "--cap-drop", "CHOWN", "busybox", *program)
    assert done.out == ""
    assert "Operation not permitted" in done.err


def test_pids_limit_stops_a_fork_bomb(box, unique):
    name = unique("forks")
    box.docker("run", "-d", "--name", name, "--pids-limit", "10", "busybox", *FOREVER)
    program = "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 3600 & done; echo started"
    done = box.try_docker("exec", name, "sh", "-c", program)
    assert "can't fork" in done.err
    cgroup = box.cgroup(name)
    assert int(box.shell("cat", f"{cgroup}/pids.current")) <= 10
    assert "max 0" not in box.shell("cat", f"{cgroup}/pids.events")


def test_memory_limit_kills_inside_and_the_guest_lives(box, residents, unique):
    name, guest = unique("greedy"), box.boot_id()
    allocate = ("dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1")
    assert box.try_docker("exec", residents["busybox"], *allocate).status == 0
    limits = ("--memory", "32m", "--memory-swap", "32m")
    assert box.try_docker("run", "--name", name, *limits, "busybox", *allocate).status == 137
    assert box.container(name)["State"]["OOMKilled"]
    assert {box.state(other) for other in residents.values()} == {"running"}
    assert box.boot_id() == guest


def test_user_option_decides_who_runs(box):
    program = "id -u; id -g; touch /forbidden"
    done = box.try_docker("run", "--rm", "--user", "1234:4321", "busybox", "sh", "-c", program)
    assert (done.status, done.out.split()) == (1, ["1234", "4321"])
    assert "Permission denied" in done.err


def test_seccomp_filter_is_on_by_default(box, residents):
    program = ("sh", "-c", "grep ^Seccomp: /proc/self/status; unshare -r true && echo made a namespace")
    done = box.try_docker("exec", residents["busybox"], *program)
    assert done.out.split() == ["Seccomp:", "2"]
    assert "Operation not permitted" in done.err
    open_door = box.docker("run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", *program)
    assert open_door.splitlines() == ["Seccomp:\t0", "made a namespace"]


# ---- the example ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guestbook(machine):
    """examples/web, built from its folder here with what its Dockerfile installs from Debian's archive."""
    folder = Path(__file__).parent.parent.parent / "examples" / "web"
    with machine.clean():
        machine.docker("build", "-q", "-t", "guestbook", str(folder))
        yield "guestbook"


def test_run_apt_get_install_in_a_dockerfile(box, residents, guestbook, unique):
    """Through QEMU's network, by the guest's resolver, with Debian's signatures checked in the container."""
    name = unique("installed")
    box.docker("create", "--name", name, guestbook)
    wanted, status = "Package: python3-minimal\n", "/var/lib/dpkg/status"
    before, after = (box.holds(container, status) for container in (residents["debian"], name))
    assert wanted not in before
    assert wanted in after


@pytest.mark.slow
@pytest.mark.timeout(900)  # the image is made first, by its packages' own scripts
def test_apt_get_in_a_container_of_the_release_before(box):
    """Whatever cannot be fetched or is not signed as it should be fails the update, which else ends with a warning."""
    box.hostvm("image", "base", "debian:bookworm")
    program = (
        "apt-get update -o APT::Update::Error-Mode=any && apt-get install -y --no-install-recommends hello && hello"
    )
    told = box.docker(
        "run", "--rm", "debian:bookworm", "sh", "-ec", f". /etc/os-release; echo $VERSION_CODENAME; {program}"
    )
    lines = told.splitlines()
    assert (lines[0], lines[-1]) == ("bookworm", "Hello, world!")
    fetched = [line for line in lines if re.match(r"Get:\d+ http", line)]
    for suite in ("bookworm", "bookworm-updates", "bookworm-security"):
        assert any(f" {suite} InRelease" in line for line in fetched), told


def test_web_service_answers_on_this_computer_and_keeps_its_data(box, guestbook, free_port, unique):
    name, volume = unique("book"), unique("pages")
    options = ("--name", name, "-p", f"{free_port}:8000", "-v", f"{volume}:/data", "-e", "GREETING=Moin")
    for visit in (1, 2):
        box.docker("run", "-d", *options, guestbook)
        answer = eventually(lambda: try_ask(free_port), f"127.0.0.1:{free_port} answers")
        assert answer.startswith("Moin from ")
        assert box.shell("uname", "-r") in answer
        assert answer.count("visited") == visit - 1
        urllib.request.urlopen(f"http://127.0.0.1:{free_port}/", b"visited", timeout=10).close()
        box.docker("rm", "-f", name)
        eventually(lambda: is_refused(free_port), f"127.0.0.1:{free_port} is closed")
