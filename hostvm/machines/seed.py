"""The machine's own files, carried into the guest behind the image's initramfs.

The kernel unpacks concatenated cpio archives one after the other, so this needs neither a disk, nor a network, nor
any driver feature (Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.ssh.keys import authorized_keys_line, make_keys
from images.cpio import CpioEntry, write_cpio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostvm.paths import MachinePaths


def seed_entries(paths: MachinePaths, boot_id: str, machine_uuid: str, more: Mapping[str, bytes]) -> list[CpioEntry]:
    """The files below /seed; the guest's init knows these names.

    :param more: files beside the machine's identity, in folders of one level at most.
    """
    keys = make_keys(paths.keys)
    host_key = keys.host_key.read_bytes()
    files = {
        "authorized_keys": (0o600, authorized_keys_line(keys.client_public).encode()),
        "boot_id": (0o644, boot_id.encode() + b"\n"),
        "hostname": (0o644, paths.name.encode() + b"\n"),
        "machine_id": (0o644, machine_uuid.replace("-", "").encode() + b"\n"),
        "ssh_host_ed25519_key": (0o600, host_key),
        "ssh_host_ed25519_key.pub": (0o644, keys.host_public.encode() + b"\n"),
        **{name: (0o600, data) for name, data in more.items()},
    }
    folders = sorted({name.partition("/")[0] for name in files if "/" in name})
    return [
        CpioEntry.folder("seed", 0o700),
        *(CpioEntry.folder(f"seed/{name}", 0o700) for name in folders),
        *(CpioEntry.file(f"seed/{name}", data, mode) for name, (mode, data) in sorted(files.items())),
    ]


def boot_initramfs(image_initramfs: bytes, entries: list[CpioEntry]) -> bytes:
    """The image's initramfs and the seed, each padded to 4 bytes as the kernel wants it."""
    padding = b"\0" * (-len(image_initramfs) % 4)
    return image_initramfs + padding + write_cpio(entries)
