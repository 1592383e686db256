"""Shared folders and the data disk that would hide them: what runs in the guest, run here with stand-ins."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hostvm.errors import MachineError
from hostvm.guest import Completed
from hostvm.shares import mounting
from hostvm.shares.device import DeviceShare

PROGRAMS = {"mount": 'echo "mount $*"', "mkdir": "", "busybox": ""}
# This computer has none of the targets.
THERE = {'cd "$target"': ":", "$(pwd -P)": "$target"}
PLACES = {"/run/hostvm/marks": "$root/marks", ". /usr/lib/hostvm/lib.sh": ""}
# Functions, which no applet of busybox goes before. The data disk comes after 2000 rounds of waiting.
PRELUDE = """\
seed=$root/seed rounds=0
usleep() { [ $((rounds += 1)) -lt 2000 ] || : > $root/marks/services; }
mark() { echo "mark $*"; }
mount() { echo "mount $*"; }
mkdir() { :; }
nice() { :; }
fail() { echo "fail $*"; }
"""


class Here:
    """Runs a guest's program on this computer; the data disk comes with the last of some calls."""

    def __init__(self, root, calls):
        self.root = root
        self.calls = calls
        self.there = THERE
        (root / "marks").mkdir()
        (root / "seed").mkdir()
        for name, text in PROGRAMS.items():
            (root / name).write_text(f"#!/bin/sh\n{text}\n")
            (root / name).chmod(0o755)

    def run(self, argv, *, timeout, stdin=b""):
        self.calls -= 1
        if self.calls == 0:
            (self.root / "marks/services").touch()
        env = {**os.environ, "PATH": f"{self.root}:{os.environ['PATH']}"}
        words = [word.replace("/run/hostvm", str(self.root)) for word in argv]
        for text, other in self.there.items():
            words = [word.replace(text, other) for word in words]
        done = subprocess.run(words, capture_output=True, env=env, timeout=timeout, check=False)
        return Completed(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def here(tmp_path):
    if sys.platform != "linux":
        pytest.skip("the guest is Linux")
    return lambda calls: Here(tmp_path, calls)


def share(target):
    return DeviceShare("9p", "share0", "/here", target, False)


def test_the_guests_own_wait_has_no_limit(run_script, tmp_path):
    (tmp_path / "marks").mkdir()
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed/shares").write_text("all\n/mnt/a\n9p share0 ro\n/home/me\n9p share1 rw\n")
    said = run_script("guest/usr/lib/hostvm/shares", PRELUDE, {}, PLACES | THERE, end='echo "$rounds rounds"')
    assert said == [
        "mount -t 9p -o ro share0 /mnt/a",
        "mount -t 9p -o rw share1 /home/me",
        "mark share-devices",
        "mark shares",
        "2000 rounds",
    ]


@pytest.mark.parametrize("by_nfs", [True, False])
def test_the_client_of_nfs_is_loaded_for_folders_by_nfs_alone(run_script, tmp_path, by_nfs):
    (tmp_path / "marks").mkdir()
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed/shares").write_text("wait\n")
    if by_nfs:
        (tmp_path / "seed/nfs").touch()
    prelude = PRELUDE.replace("nice() { :; }", 'nice() { echo "nice $*"; }')
    said = run_script("guest/usr/lib/hostvm/shares", prelude, {}, PLACES | THERE, end="wait")
    assert sorted(said) == ["mark share-devices", *["nice -n 10 /usr/sbin/modprobe -q nfsv3"] * by_nfs]


def test_a_folder_below_home_is_mounted_after_the_data_disk(here):
    guest = here(calls=3)
    mounting.mount_device(guest, share("/home/me"))
    assert guest.calls == 0


def test_a_folder_on_a_disk_is_mounted_after_it(run_script, here, tmp_path):
    guest = here(calls=2)
    (tmp_path / "seed/disks").write_text("a /mnt/b\nb /srv/x\n")
    mounting.mount_device(guest, share("/srv/x/y"))
    assert guest.calls == 0
    guest.calls = 9
    (tmp_path / "marks/services").unlink()
    mounting.mount_device(guest, share("/srv/xy"))
    assert guest.calls == 8
    (tmp_path / "seed/shares").write_text("wait\n/srv/xy\n9p share0 ro\n/srv/x\n9p share1 rw\n")
    said = run_script("guest/usr/lib/hostvm/shares", PRELUDE, {}, PLACES | THERE, end='echo "$rounds rounds"')
    assert [line.split()[-1] for line in said[:2]] == ["/srv/xy", "/srv/x"]
    assert said[2:] == ["mark share-devices", "2000 rounds"]


def test_others_wait_for_nothing(here):
    guest = here(calls=9)
    mounting.mount_device(guest, share("/mnt/a"))
    assert guest.calls == 8


def test_what_a_link_leads_to_is_not_covered(here, tmp_path, run_script):
    (tmp_path / "elsewhere/below").mkdir(parents=True)
    (tmp_path / "inner").symlink_to("elsewhere")
    (tmp_path / "real").mkdir()
    guest = here(calls=9)
    guest.there = {}
    for target in ("inner", "inner/below"):
        with pytest.raises(MachineError) as caught:
            mounting.mount_device(guest, share(f"{tmp_path}/{target}"))
        assert caught.value.details == "a link leads from there to elsewhere in the guest"
    mounting.mount_device(guest, share(f"{tmp_path}/real"))
    (tmp_path / "seed/shares").write_text(f"all\n{tmp_path}/inner\n9p share0 ro\n{tmp_path}/real\n9p share1 rw\n")
    said = run_script("guest/usr/lib/hostvm/shares", PRELUDE, {}, PLACES)
    assert said[0].startswith("fail share-share0")
    assert [line.split()[-1] for line in said if line.startswith("mount ")] == [f"{tmp_path}/real"]


def test_a_data_disk_that_never_comes_is_told(here, monkeypatch):
    monkeypatch.setattr(mounting, "_DATA_SECONDS", 0.0)
    with pytest.raises(MachineError) as caught:
        mounting.mount_device(here(calls=9), share("/home/me"))
    assert caught.value.details == "its data disk is not mounted yet"


def test_the_table_is_read_when_the_guest_has_mounted_its_own(here, monkeypatch):
    guest = here(calls=3)
    (guest.root / "seed/shares").touch()
    there = mounting.mounted(guest)
    assert there.types["/proc"] == "proc"
    assert (there.marked, guest.calls) == (False, 0)
    monkeypatch.setattr(mounting, "_DATA_SECONDS", 0.0)
    (guest.root / "marks/services").unlink()
    assert mounting.mounted(guest).types["/proc"] == "proc"


class Mounts:
    """Runs what a guest is told in mounts and processes of their own; a ramfs stands for a 9p folder.

    :param began: when a container with mounts of its own begins: "before", "meanwhile" (with the first umount), "".
    """

    def __init__(self, root, began):
        self.root = root
        self.began = began
        self.left = ""
        container = (
            f"unshare -m sh -c 'touch {root}/runs; exec sleep 60 > /dev/null 2>&1' & "
            f"while [ ! -e {root}/runs ]; do sleep 0.1; done"
        )
        (root / "umount").write_text(
            f'#!/bin/sh\n[ -e {root}/begun ] || {{ touch {root}/begun; {container}; }}\nexec /bin/umount "$@"\n'
        )
        (root / "umount").chmod(0o755)
        self.script = f"""
            for place in a b a/inner; do
                mkdir -p {root}/$place && mount -t ramfs ramfs {root}/$place || exit
                echo $place > {root}/$place/file
            done
            mkdir -p /run && mount -t tmpfs run /run || exit
            {container if began == "before" else ":"}
            [ "{began}" = meanwhile ] || touch {root}/begun
            "$@"
            for place in a b a/inner; do
                cat {root}/$place/file || echo none; touch {root}/$place/new && echo written
            done >&2 2> /dev/null
            grep -c ramfs /proc/self/mounts >&2
        """

    def run(self, argv, *, timeout, stdin=b""):
        words = [word.replace(" - 9p ", " - ramfs ") for word in argv]
        env = {**os.environ, "PATH": f"{self.root}:{os.environ['PATH']}"}
        own = ["unshare", "-rmpf", "--mount-proc", "sh", "-c", self.script, "rig", *words]
        done = subprocess.run(own, capture_output=True, env=env, timeout=timeout, check=False)
        self.left = done.stderr.decode()
        return Completed(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def mounts(tmp_path):
    """`Mounts`, and the targets in them."""
    own = ["unshare", "-rmpf", "--mount-proc", "true"]
    if sys.platform != "linux" or subprocess.run(own, capture_output=True, check=False).returncode != 0:
        pytest.skip("no mounts of one's own here")
    return lambda began: (Mounts(tmp_path, began), [str(tmp_path / place) for place in ("a", "a/inner", "b")])


def test_what_is_unmounted_for_a_suspend_is_covered(mounts):
    """A container that began in that moment wrote to what lies below, in the guest's memory."""
    here, targets = mounts("")
    assert mounting.release(here, targets) == []
    assert here.left.split() == ["none", "none", "none", "0"]


@pytest.mark.parametrize("began", ["before", "meanwhile"])
def test_a_container_that_begins_while_folders_are_unmounted_has_them(mounts, began):
    """None was told: the suspend went on to a hypervisor that refuses, and the folder could not be mounted again."""
    here, targets = mounts(began)
    holders = mounting.release(here, targets)
    assert {holder.program for holder in holders} & {"sh", "sleep"}, here.left
    assert here.left.split() == ["a", "written", "b", "written", "a/inner", "written", "3"]
