"""The builder guest with real boots."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from hostvm.builder import QemuBuilder
from hostvm.errors import DriverError
from hostvm.guest_images import guest_arch
from images.bake import BakeDisk, BakeJob
from images.cpio import CpioEntry, write_cpio
from images.progress import NullProgress

pytestmark = pytest.mark.vm

INIT = r"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
exec < /dev/null > /dev/console 2>&1
while read -r name; do [ "$name" = -- ] || insmod "/modules/$name.ko"; done < /modules/order
tr a-z A-Z < /dev/vda | dd of=/dev/vdb conv=fsync 2>/dev/null
echo xx | dd of=/dev/vda 2>/dev/null && echo "a read-only disk was written"
ip link 2>/dev/null | grep eth && echo "there is a network"
echo "all went well"
poweroff -f
"""


@pytest.fixture
def make_job(image, tmp_path, accel):
    def make(init: str = INIT, **changes) -> BakeJob:
        initramfs = tmp_path / "initramfs"
        archive = write_cpio([CpioEntry.file("init", init.encode(), 0o755)])
        initramfs.write_bytes(image.initramfs.read_bytes() + archive)
        (tmp_path / "in, put").write_bytes(b"some text".ljust(4096, b"\0"))
        (tmp_path / "output").write_bytes(bytes(4096))
        job = {
            "title": "test",
            "arch": guest_arch(),
            "kernel": image.kernel,
            "initramfs": initramfs,
            "cmdline": f"console={image.manifest['console']} panic=-1 quiet",
            "disks": (BakeDisk(tmp_path / "in, put", readonly=True), BakeDisk(tmp_path / "output")),
            "success": "all went well",
            "memory": 384 * 1024**2,
            "timeout": 90.0,
        }
        return BakeJob(**{**job, **changes})

    return make


@pytest.fixture
def builder(accel):
    return QemuBuilder(lambda *_: accel)


def leftovers() -> list[str]:
    """Builder guests of this process' making; others may be baking on the same computer."""
    own = psutil.Process().children(recursive=True)
    return [line for child in own if "guest=hostvm-builder" in (line := " ".join(child.cmdline()))]


def test_disks_in_order_and_the_console_back(builder, make_job, tmp_path):
    console = builder.run(make_job(), NullProgress())
    assert (tmp_path / "output").read_bytes()[:9] == b"SOME TEXT"
    assert (tmp_path / "in, put").read_bytes()[:9] == b"some text"
    assert "read-only disk was written" not in console
    assert "there is a network" not in console
    assert leftovers() == []


def test_power_off_without_success_is_a_failure_with_the_console_s_last_lines(builder, make_job):
    with pytest.raises(DriverError) as caught:
        builder.run(make_job(INIT.replace("all went well", "it went wrong")), NullProgress())
    assert caught.value.brief == "the builder guest failed: test"
    assert "powered off without reporting success" in (caught.value.details or "")
    assert "it went wrong" in (caught.value.details or "")
    assert leftovers() == []


# As QEMU's emulation crashes some kernels that have several processors, and none that has one.
CRASH = """\
[ $(grep -c ^processor /proc/cpuinfo) -eq 1 ] || { echo rest > /dev/vdb; sync; echo c > /proc/sysrq-trigger; }
tr a-z"""


def test_a_guest_that_panics_is_begun_anew_with_one_processor(builder, make_job, tmp_path):
    console = builder.run(make_job(INIT.replace("tr a-z", CRASH)), NullProgress())
    assert "all went well" in console
    assert (tmp_path / "output").read_bytes() == b"SOME TEXT".ljust(4096, b"\0")
    assert leftovers() == []


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_after_a_crash_of_qemu_it_is_begun_anew_with_one_processor(builder, make_job, tmp_path):
    """QEMU 7.2 had an access violation in the first second of one build in some twenty."""
    job = make_job(INIT.replace("tr a-z", "[ $(grep -c ^processor /proc/cpuinfo) -eq 1 ] || sleep 1000; tr a-z"))
    with ThreadPoolExecutor() as pool:
        done = pool.submit(builder.run, job, NullProgress())
        until = time.monotonic() + 20
        while not (own := [one for one in psutil.Process().children() if "guest=hostvm-builder" in one.cmdline()]):
            assert time.monotonic() < until, "it was not started"
            time.sleep(0.05)
        own[0].send_signal(signal.SIGSEGV)
        assert "all went well" in done.result()
    assert (tmp_path / "output").read_bytes() == b"SOME TEXT".ljust(4096, b"\0")
    assert leftovers() == []


@pytest.mark.slow
def test_a_guest_that_panics_again_is_a_failure(builder, make_job):
    with pytest.raises(DriverError, match="the builder guest failed: test") as caught:
        builder.run(make_job(INIT.replace("tr a-z", "echo c > /proc/sysrq-trigger; tr a-z")), NullProgress())
    assert "-smp 1 " in caught.value.details
    assert leftovers() == []


def test_a_job_that_takes_too_long_is_ended(builder, make_job):
    began = time.monotonic()
    with pytest.raises(DriverError, match="not done within 2 s"):
        builder.run(make_job(INIT.replace("poweroff -f", "sleep 1000"), timeout=2.0), NullProgress())
    assert time.monotonic() - began < 10
    assert leftovers() == []


def test_qemu_s_own_words(builder, make_job):
    with pytest.raises(DriverError, match="/no/kernel"):
        builder.run(make_job(kernel=Path("/no/kernel")), NullProgress())


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_the_guest_ends_with_who_started_it(make_job, number, tmp_path):
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux can bind a child's life to its parent's")
    job = make_job(INIT.replace("poweroff -f", "sleep 1000"))
    program = (
        "import signal; from pathlib import Path; from images.bake import *; from hostvm.builder import QemuBuilder;"
        "from images.progress import NullProgress; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"QemuBuilder().run(BakeJob(title='t', arch={job.arch!r}, kernel=Path({str(job.kernel)!r}),"
        f"initramfs=Path({str(job.initramfs)!r}), cmdline={job.cmdline!r}, disks=(), success='never',"
        f"memory={job.memory}), NullProgress())"
    )
    root = Path(__file__).parent.parent.parent
    temporary = {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stderr=subprocess.DEVNULL, env={**os.environ, **temporary}
    ) as runner:
        deadline = time.monotonic() + 30
        while not (guests := psutil.Process(runner.pid).children(recursive=True)):
            assert time.monotonic() < deadline
            assert runner.poll() is None
            time.sleep(0.05)
        runner.send_signal(number)
        assert runner.wait(10) != 0
    _, alive = psutil.wait_procs(guests, timeout=5)
    assert [guest for guest in alive if guest.status() != psutil.STATUS_ZOMBIE] == []
    if number == signal.SIGINT:
        assert list(tmp_path.glob("hostvm-bake-*")) == []
