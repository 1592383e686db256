"""virtio-9p: QEMU itself serves the folder. No daemon, no shared memory; Linux and macOS hosts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from hostvm.drivers.qemu.hardware import escape

if TYPE_CHECKING:
    from hostvm.shares.device import DeviceShare

MSIZE = 512 * 1024
"""Bytes of one message: the most that the kernel's virtio transport takes (128 pages of 4 KiB) on QEMU's side."""


class NinepKind:
    """Implements `DeviceKind`.

    Security model "none": what the guest creates belongs to the user who runs QEMU, with the mode it asked for, and
    a chown that this user may not do succeeds without effect. "mapped" would hide modes, owners and links in
    extended attributes, so that files made in a container would be 0600 and links plain files here.
    """

    name = "9p"
    fstype = "9p"
    # cache=mmap lets programs map files. Alone it also writes behind, which Linux (6.12) does wrongly: a program that
    # looks at a file while another writes it loses what was written, or hangs for ever. directio writes at once.
    options: tuple[str, ...] = ("trans=virtio", "version=9p2000.L", f"msize={MSIZE}", "cache=mmap", "directio")

    def qemu_options(self, share: DeviceShare) -> list[str]:
        """See `DeviceKind`."""
        # multidevs: two files of two file systems below one folder never get the same inode number.
        access = ",readonly=on" if share.readonly else ""
        place = f"id={share.tag},path={escape(share.source)}"
        # fmt: off
        return [
            "-fsdev", f"local,{place},security_model=none,multidevs=remap{access}",
            "-device", f"virtio-9p-pci,fsdev={share.tag},mount_tag={share.tag}",
        ]
        # fmt: on

    def filesystem(self, share: DeviceShare) -> ET.Element:
        """See `DeviceKind`. libvirt calls security model "none" squash."""
        element = ET.Element("filesystem", type="mount", accessmode="squash", multidevs="remap")
        ET.SubElement(element, "source", dir=str(share.source))
        ET.SubElement(element, "target", dir=share.tag)
        if share.readonly:
            ET.SubElement(element, "readonly")
        return element
