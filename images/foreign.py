"""Architectures that emulators are known for, and how the kernel tells their programs."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Foreign:
    """How the kernel knows an architecture's programs by their first 20 bytes (elf(5), include/uapi/linux/elf-em.h).

    :param qemu: QEMU's name of it.
    :param bits: 32 or 64.
    :param machine: ELF's e_machine.
    """

    qemu: str
    bits: int
    machine: int
    big: bool = False

    @property
    def pattern(self) -> str:
        r"""OFFSET:MAGIC:MASK in binfmt_misc's form, as \xNN.

        Open are the system (byte 7: some linkers write 0, some 3) and whether the program is a PIE (2 or 3).
        """
        ident = b"\x7fELF" + bytes([1 if self.bits == 32 else 2, 2 if self.big else 1, 1]) + bytes(9)  # noqa: PLR2004
        order = ">" if self.big else "<"
        magic = ident + struct.pack(f"{order}HH", 2, self.machine)
        mask = b"\xff" * 7 + b"\0" + b"\xff" * 8 + struct.pack(f"{order}HH", 0xFFFE, 0xFFFF)
        return ":".join(["0", *("".join(f"\\x{byte:02x}" for byte in part) for part in (magic, mask))])


FOREIGN = {
    "386": Foreign("i386", 32, 0x03),
    "amd64": Foreign("x86_64", 64, 0x3E),
    "arm": Foreign("arm", 32, 0x28),
    "arm64": Foreign("aarch64", 64, 0xB7),
    "ppc64le": Foreign("ppc64le", 64, 0x15),
    "riscv64": Foreign("riscv64", 64, 0xF3),
    "s390x": Foreign("s390x", 64, 0x16, big=True),
}
"""By the names that container platforms have."""
DEBIAN = {"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}
"""Debian's names where they differ."""
VARIANTS = {"arm": "v7", "arm64": "v8"}
"""What Debian's packages of an architecture need at least, as platforms say it."""
