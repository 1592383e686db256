"""`hostvm` with a guest that stops in its initramfs, and less patience: for test_start.py."""

from __future__ import annotations

from cli.main import entry
from hostvm.machines import agents, boot, domain
from images.cpio import CpioEntry

INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
exec < /dev/null > /dev/console 2>&1
echo "test: no root image"
while :; do /bin/busybox sleep 3600; done
"""

agents.BOOT_SECONDS = 10.0  # the agent gives its first look at a guest 30
boot.START_SECONDS = 60.0
whole = domain.boot_initramfs
domain.boot_initramfs = lambda image, seed: whole(image, [*seed, CpioEntry.file("init", INIT.encode(), 0o755)])

if __name__ == "__main__":
    entry()
