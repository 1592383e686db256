"""A guest image for all of tests/vm, and a tiny guest that tells what its hypervisor gave it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # helpers lie beside the tests

from hostvm.accel import select_accel
from hostvm.disks import create_disk
from hostvm.drivers.base import DomainSpec
from hostvm.errors import PortTaken
from hostvm.guest_images import ensure_image, guest_arch, kernel_cmdline
from hostvm.qemu_binary import find_qemu
from images.cpio import CpioEntry, write_cpio
from images.progress import NullProgress

MIB = 1024**2

# Instead of the image's own first program. What is loaded from the root image proves that it is readable; the
# button is pressed by the driver, port 22 is reached through the forward.
TINY_INIT = r"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
mount -t sysfs sys /sys
exec < /dev/null > /dev/console 2>&1
while read -r name; do [ "$name" = -- ] || insmod "/modules/$name.ko"; done < /modules/order
mount -t erofs -o ro /dev/vda /image
chroot /image /usr/bin/busybox true && echo "fact: image=readable"
for disk in vda vdb; do
    echo "fact: $disk.readonly=$(cat /sys/block/$disk/ro)"
    echo "fact: $disk.mib=$(( $(cat /sys/block/$disk/size) / 2048 ))"
    echo "fact: $disk.serial=$(cat /sys/block/$disk/serial)"
done
echo "fact: before=$(head -c 7 /dev/vdb)"
echo written | dd of=/dev/vdb conv=fsync 2>/dev/null
echo "fact: cpus=$(grep -c ^processor /proc/cpuinfo)"
echo "fact: kib=$(grep ^MemTotal /proc/meminfo | tr -dc 0-9)"
echo "fact: cx16=$(grep -o -m 1 cx16 /proc/cpuinfo | head -n 1)"
echo "fact: erms=$(grep -o -m 1 -w erms /proc/cpuinfo | head -n 1)"
echo "fact: mac=$(cat /sys/class/net/eth0/address)"
for device in /sys/bus/virtio/devices/*; do echo "fact: virtio=$(( $(cat $device/device) ))"; done
echo "fact: cmdline=$(cat /proc/cmdline)"
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
nc -ll -p 22 -e /bin/hello &
mount -t proc proc /image/proc
chroot /image /sbin/modprobe -a button evdev
mkdir -p /etc/acpi/PWRF
ln -s /bin/button /etc/acpi/PWRF/00000080
acpid -l /dev/null
echo "fact: up"
while :; do sleep 3600; done
"""
HELLO = "#!/bin/busybox sh\necho hello from the guest\n"
BUTTON = "#!/bin/busybox sh\necho 'fact: button' > /dev/console\nsync\npoweroff -f\n"


class TinyGuest:
    """A domain with files of its own, not yet started; `facts` is what its guest has told so far."""

    def __init__(self, folder: Path, run_dir: Path, image, accel: str) -> None:
        self.name = f"vmtest-{uuid4().hex[:8]}"
        arch = guest_arch()
        extra = [("init", TINY_INIT), ("bin/hello", HELLO), ("bin/button", BUTTON)]
        archive = write_cpio([CpioEntry.file(path, text.encode(), 0o755) for path, text in extra])
        initramfs = folder / "initramfs"
        initramfs.write_bytes(image.initramfs.read_bytes() + archive)
        create_disk(folder / "data, of a machine.qcow2", 64 * MIB)
        self.domain = DomainSpec(
            name=self.name,
            uuid=str(uuid4()),
            arch=arch,
            cpus=2,
            memory=384 * MIB,
            accel=accel,
            qemu=find_qemu(arch).path,
            kernel=image.kernel,
            initramfs=initramfs,
            cmdline=kernel_cmdline(image.manifest, accel),
            root_image=image.root,
            data_disk=folder / "data, of a machine.qcow2",
            mac="52:54:00:ab:cd:ef",
            ssh_port=free_port(),
            console=folder / "console.log",
            run_dir=run_dir,
        )

    @property
    def console(self) -> str:
        return self.domain.console.read_text(errors="replace") if self.domain.console.exists() else ""

    @property
    def facts(self) -> dict[str, list[str]]:
        told: dict[str, list[str]] = {}
        for key, value in re.findall(r"^fact: ([\w.]+)=?(.*?)\r?$", self.console, re.MULTILINE):
            told.setdefault(key, []).append(value)
        return told

    def wait_for(self, fact: str, timeout: float = 60.0) -> dict[str, list[str]]:
        deadline = time.monotonic() + timeout
        while fact not in self.facts:
            assert time.monotonic() < deadline, f"the guest did not tell {fact!r}:\n{self.console[-4000:]}"
            time.sleep(0.05)
        return self.facts

    def banner(self, timeout: float = 10.0) -> bytes:
        """What the guest's port 22 says; the forward accepts before the guest listens, so only data counts."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with socket.create_connection(("127.0.0.1", self.domain.ssh_port), timeout) as connection:
                said = connection.recv(100)
            if said:
                return said
            time.sleep(0.1)
        return b""

    def check_forwards(self, driver) -> None:
        """A second way to the guest's port 22, made and removed while it runs."""
        forwards, port = driver.forwards(), free_port()
        ssh = ("tcp", self.domain.ssh_port)
        assert forwards.listed() == [ssh]
        forwards.add("tcp", port, 22)
        forwards.add("udp", port, 22)
        assert set(forwards.listed()) == {ssh, ("tcp", port), ("udp", port)}
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            assert connection.recv(100) == b"hello from the guest\n"
        with pytest.raises(PortTaken):
            forwards.add("tcp", port, 22)
        for protocol in ("tcp", "udp", "udp"):
            forwards.remove(protocol, port)
        assert forwards.listed() == [ssh]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def image():
    """The stored guest image, built if there is none; HOSTVM_TEST_IMAGE names another by its digest."""
    return ensure_image(os.environ.get("HOSTVM_TEST_IMAGE", "docker"), NullProgress())


@pytest.fixture(scope="session")
def accel(image) -> str:
    return select_accel(
        "auto",
        qemu=find_qemu(guest_arch()),
        kernel=image.kernel,
        cache_dir=Path(os.environ["HOSTVM_CACHE"]),
        progress=NullProgress(),
    )


@pytest.fixture
def tiny(tmp_path, image, accel) -> TinyGuest:
    run_dir = Path(os.environ["HOSTVM_RUN"], f"t{uuid4().hex[:8]}")
    run_dir.mkdir(parents=True, mode=0o700)
    return TinyGuest(tmp_path, run_dir, image, accel)


FIRST_THREAD_ENDS = """
import ctypes, threading
threading.Thread(target=input).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def half_dead():
    """A process of Linux whose first thread is dead; a line of input ends the other one."""
    with subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS], stdin=subprocess.PIPE) as begun:
        deadline = time.monotonic() + 10
        while psutil.Process(begun.pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield begun


@pytest.fixture
def user(tmp_path_factory):
    """Name and home of a new ordinary user; the home is short, for it holds sockets."""
    name = f"hv{os.getpid()}"
    home = Path("/tmp", name)
    subprocess.run(["useradd", "--create-home", "--home-dir", home, "--shell", "/bin/sh", name], check=True)
    subprocess.run(["usermod", "--append", "--groups", "kvm", name], check=False, capture_output=True)
    yield name, home
    uid = home.stat().st_uid
    mine = [one for one in psutil.process_iter(["uids"]) if one.info["uids"] and one.info["uids"].real == uid]
    for one in mine:
        one.kill()
    psutil.wait_procs(mine, timeout=10)
    subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)
    assert not home.exists()
