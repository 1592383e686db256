"""virtiofs: FUSE over shared memory, served by a virtiofsd per folder; Linux hosts only."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from hostvm.drivers.qemu.hardware import escape

if TYPE_CHECKING:
    from hostvm.shares.device import DeviceShare


class VirtiofsKind:
    """Implements `DeviceKind`. The guest's whole memory must be shared with the daemon (memory-backend-memfd)."""

    name = "virtiofs"
    fstype = "virtiofs"
    options: tuple[str, ...] = ()

    def qemu_options(self, share: DeviceShare) -> list[str]:
        """See `DeviceKind`."""
        # fmt: off
        return [
            "-chardev", f"socket,id={share.tag},path={escape(share.socket)}",
            "-device", f"vhost-user-fs-pci,chardev={share.tag},tag={share.tag},queue-size=1024",
        ]
        # fmt: on

    def filesystem(self, share: DeviceShare) -> ET.Element:
        """See `DeviceKind`. libvirt starts the daemon itself."""
        element = ET.Element("filesystem", type="mount", accessmode="passthrough")
        ET.SubElement(element, "driver", type="virtiofs", queue="1024")
        ET.SubElement(element, "source", dir=str(share.source))
        ET.SubElement(element, "target", dir=share.tag)
        if share.readonly:
            ET.SubElement(element, "readonly")
        return element
