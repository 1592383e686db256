"""QEMU, its disks' tool, the accelerator, libvirt, and the guest images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm import paths as places
from hostvm.accel import native_accel, select_accel
from hostvm.doctor.finding import FAIL, OK, WARN, Finding, looked_at
from hostvm.errors import DriverError
from hostvm.guest_images import guest_arch
from hostvm.platform.words import in_turn
from hostvm.qemu_binary import find_qemu, find_qemu_img
from images.progress import NullProgress
from images.store import list_damaged, list_images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images.store import Image

AREA = "hypervisor"
RACES_BELOW = (8, 1)
"""QEMU before this, emulating several CPUs, now and then crashes a guest's kernel (docs/limitations.md)."""

_LIBVIRT_SECONDS = 5.0


def look_at_hypervisors() -> Iterator[Finding]:
    """What runs the guests."""
    images = list_images(places.cache())
    yield from looked_at(AREA, "qemu", _qemu)
    yield from looked_at(AREA, "qemu-img", _qemu_img)
    yield from looked_at(AREA, "accelerator", lambda: _accelerator(images))
    yield from looked_at(AREA, "libvirt", _libvirt)
    yield from looked_at("images", "guest images", lambda: _images(images))


def _qemu() -> Iterator[Finding]:
    qemu = find_qemu(guest_arch())
    yield Finding(AREA, "qemu", OK, f"{qemu.path}, version {qemu.version_text}")


def _qemu_img() -> Iterator[Finding]:
    yield Finding(AREA, "qemu-img", OK, str(find_qemu_img()))


def _accelerator(images: list[Image]) -> Iterator[Finding]:
    """Needs a kernel to try it with."""
    qemu = find_qemu(guest_arch())
    kernel = next((image.kernel for image in images if image.arch == qemu.arch), None)
    if kernel is None:
        yield Finding(AREA, "accelerator", WARN, "not tried: there is no guest image yet", "hostvm image build")
        return
    try:
        # By name, not "auto": a failure that is remembered is looked at anew.
        accel = select_accel(
            native_accel(), qemu=qemu, kernel=kernel, cache_dir=places.cache(), progress=NullProgress()
        )
    except DriverError as error:
        found = f"guests are emulated (tcg), which is slower: {error.brief}: {error.details}"
        if qemu.version[:2] < RACES_BELOW:
            found += f"; QEMU {qemu.version_text} now and then crashes an emulated guest with several CPUs"
        yield Finding(AREA, "accelerator", WARN, found, error.resolution or "hostvm doctor -v")
    else:
        yield Finding(AREA, "accelerator", OK, accel)


def _libvirt() -> Iterator[Finding]:
    from hostvm.drivers.libvirt.connection import DEFAULT_URI, connected

    try:
        with connected(DEFAULT_URI, _LIBVIRT_SECONDS) as connection:
            number = int(connection.getLibVersion())
    except DriverError as error:
        found = f"not used: {error.brief}" + (f": {error.details}" if error.details else "")
        yield Finding(AREA, "libvirt", OK, f"{found}; machines run on QEMU itself")
        return
    version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    yield Finding(AREA, "libvirt", OK, f"{DEFAULT_URI}, version {version}")


def _images(images: list[Image]) -> Iterator[Finding]:
    for folder in list_damaged(places.cache()):
        name = folder.name[:12]
        fix = in_turn(f"hostvm image rm {name}", "hostvm image build", between="; ")
        yield Finding("images", name, FAIL, "it is damaged", fix)
    if images:
        yield Finding("images", "guest images", OK, ", ".join(f"{each.name} {each.digest[:12]}" for each in images))
    else:
        yield Finding("images", "guest images", WARN, "there is none yet", "hostvm image build")
