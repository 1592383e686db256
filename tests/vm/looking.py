"""A guest that does nothing but look at a root's file system and tell what it sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.builder import QemuBuilder
from hostvm.guest_images import kernel_cmdline
from images.bake import BakeDisk, BakeJob
from images.cpio import CpioEntry, write_cpio
from images.progress import NullProgress

if TYPE_CHECKING:
    from pathlib import Path

    from images.store import Image

INIT = r"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
exec < /dev/null > /dev/console 2>&1
while read -r name; do [ "$name" = -- ] || insmod "/modules/$name.ko"; done < /modules/order
mount -t erofs -o ro /dev/vda /image || poweroff -f
cd /image
%s
echo "looked"
poweroff -f
"""


def look_into(root: Path, image: Image, commands: str, accel: str, work: Path) -> str:
    """What `commands` (shell) say in the root's folder, under the image's kernel."""
    initramfs = work / "initramfs"
    init = CpioEntry.file("init", (INIT % commands).encode(), 0o755)
    initramfs.write_bytes(image.initramfs.read_bytes() + write_cpio([init]))
    job = BakeJob(
        title="looking at an image",
        arch=image.arch,
        kernel=image.kernel,
        initramfs=initramfs,
        cmdline=kernel_cmdline(image.manifest | {"cmdline": "quiet panic=-1"}, "tcg"),
        disks=(BakeDisk(root, readonly=True),),
        success="looked",
        memory=384 << 20,
        timeout=120,
    )
    return QemuBuilder(lambda *_: accel).run(job, NullProgress())
