"""The reference guest: an ordinary Debian with systemd, cloud-init and docker.io, what most VM managers boot.

Built once by mmdebstrap into a folder, then booted under the very flags of QEMU that hostvm uses (board, CPU,
accelerator, disks, network), its kernel and initrd directly, so that what differs is the guest alone.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from measure import BootTimes, free_port, measure, power_off, powered_on
from report import ROOT

from hostvm.drivers.qemu import hardware
from hostvm.qemu_binary import find_qemu_img
from hostvm.ssh.keys import Keys, make_keys

MIRROR = "http://deb.debian.org/debian"
SUITE = "trixie"

# What Debian's own cloud image holds for this purpose: netplan and networkd are what cloud-init configures there.
PACKAGES = (
    "systemd", "systemd-sysv", "systemd-resolved", "udev", "dbus", "netplan.io", "cloud-init", "openssh-server",
    "sudo", "iproute2", "iptables", "ca-certificates", "linux-image-{arch}", "initramfs-tools", "kmod", "e2fsprogs",
    "docker.io", "docker-cli",
)  # fmt: skip

# The tree is copied within one file system first: mmdebstrap has /proc and /sys mounted while hooks run.
HOOK = """#!/bin/sh
set -e
rm -rf "$1"/var/cache/apt/archives/*.deb
# sshd would refuse the many connections of a wait for it.
printf 'PerSourcePenalties no\\nMaxStartups 1000\\n' >"$1"/etc/ssh/sshd_config.d/measured.conf
mkdir {work}/tree
cp -ax "$1"/. {work}/tree/
cp "$1"/boot/vmlinuz-* {out}/vmlinuz
cp "$1"/boot/initrd.img-* {out}/initrd.img
truncate -s 8G {out}/root.img
mke2fs -q -F -t ext4 -L root -d {work}/tree {out}/root.img
rm -rf {work}/tree
"""

BUILD = ROOT / "build" / "bench" / "reference"
"""Where the benchmarks have it built."""

CMDLINE = "root=LABEL=root rw console={console} panic=-1"


@dataclass(frozen=True, slots=True)
class ReferenceGuest:
    """A built guest.

    :param seed: folder that QEMU shows the guest as a small disk labelled `cidata` (NoCloud).
    """

    kernel: Path
    initrd: Path
    root: Path
    seed: Path
    keys: Keys


def build(folder: Path, arch: str) -> ReferenceGuest:
    """Build it in `folder` unless it is there; about a minute and 700 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = make_keys(folder / "keys")
    seed = folder / "seed"
    seed.mkdir(exist_ok=True)
    (seed / "meta-data").write_text("instance-id: reference-1\nlocal-hostname: reference\n")
    (seed / "user-data").write_text(_user_data(keys))
    if not (folder / "done").exists():
        print("reference guest: mmdebstrap …", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            Path(work).chmod(0o777)  # mmdebstrap's unshare mode writes as another user
            hook = Path(work, "hook")
            hook.write_text(HOOK.format(work=shlex.quote(work), out=shlex.quote(str(folder))))
            hook.chmod(0o755)
            packages = ",".join(PACKAGES).format(arch=arch)
            argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", f"--customize-hook={hook}"]
            subprocess.run([*argv, "--format=null", SUITE, "/dev/null", MIRROR], check=True)
        (folder / "done").touch()
    return ReferenceGuest(folder / "vmlinuz", folder / "initrd.img", folder / "root.img", seed, keys)


def fresh_disk(guest: ReferenceGuest, path: Path) -> Path:
    """An overlay for one machine: its first boot is a first boot."""
    path.unlink(missing_ok=True)
    argv = [find_qemu_img(), "create", "-q", "-f", "qcow2", "-b", guest.root.resolve(), "-F", "raw", path]
    subprocess.run(argv, check=True)
    return path


def argv(guest: ReferenceGuest, disk: Path, port: int, console: Path, host: Host) -> list[str]:
    """QEMU's whole command line."""
    serial = "ttyAMA0" if host.arch == "arm64" else "ttyS0"
    cmdline = hardware.with_parameters(CMDLINE.format(console=serial), host.arch, host.accel, host.version)
    seed = f"driver=vvfat,node-name=seed,read-only=on,label=cidata,dir={hardware.escape(guest.seed)}"
    root = f"qcow2,node-name=root,discard=unmap,file.driver=file,file.filename={hardware.escape(disk)}"
    # fmt: off
    return [
        str(host.qemu),
        "-name", "guest=reference",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", hardware.machine(host.arch),
        "-accel", hardware.accelerator(host.arch, host.accel, host.version),
        "-cpu", hardware.cpu(host.arch, host.accel),
        "-smp", str(host.cpus),
        "-m", f"{host.memory // hardware.MIB}M",
        "-kernel", str(guest.kernel),
        "-initrd", str(guest.initrd),
        "-append", cmdline,
        "-chardev", f"file,id=console,path={hardware.escape(console)}", "-serial", "chardev:console",
        "-blockdev", root,
        "-device", "virtio-blk-pci,drive=root",
        "-blockdev", seed,
        "-device", "virtio-blk-pci,drive=seed",
        "-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=net0,romfile=",
        "-device", "virtio-rng-pci",
    ]
    # fmt: on


def boot(guest: ReferenceGuest, disk: Path, host: Host, scratch: Path) -> BootTimes:
    """From power-on to the engine's answer, then powered off in order.

    :param disk: by `fresh_disk`; its first boot is a first boot.
    :param scratch: where QEMU's and the console's words go.
    """
    port = free_port()
    words = argv(guest, disk, port, scratch / "reference.console", host)
    with powered_on(words, scratch / "reference.log") as started:
        times, connection = measure(started, port, guest.keys)
        power_off(connection, ["systemctl", "poweroff"])
    return times


@dataclass(frozen=True, slots=True)
class Host:
    """What all guests of one run share.

    :param memory: bytes, of each guest.
    :param cpus: of each guest.
    """

    arch: str
    accel: str
    qemu: Path
    version: tuple[int, int, int]
    cpus: int
    memory: int


def _user_data(keys: Keys) -> str:
    """cloud-config is YAML, of which JSON is a part."""
    config = {
        "users": [{"name": "root", "lock_passwd": True, "ssh_authorized_keys": [keys.client_public]}],
        "disable_root": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": keys.host_key.read_text(), "ed25519_public": keys.host_public},
    }
    return "#cloud-config\n" + json.dumps(config, indent=1) + "\n"
