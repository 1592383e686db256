"""The kernel in the form that starts soonest.

Debian's vmlinuz for amd64 is a bzImage: a small program that decompresses the kernel proper. Under emulation that
program alone takes about a second, and so this is done once, here. QEMU starts the uncompressed kernel by its PVH
entry point (docs/system/i386, "PVH"; Linux has had it since 4.18), which the ELF file names in a note. The layout
of a bzImage is in Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from images.errors import ImageError
from images.zstd import load_zstd

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOT_MAGIC = b"HdrS"
BOOT_MAGIC_AT = 0x202
SETUP_SECTORS_AT = 0x1F1
PAYLOAD_AT = 0x248  # payload_offset and payload_length, since protocol 2.08
SECTOR = 512
SIZE_TRAILER = 4  # the payload ends with the uncompressed size
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ELF64_MAGIC = b"\x7fELF\x02\x01"
PT_NOTE = 4
PVH_ENTRY = (b"Xen\0", 18)  # XEN_ELFNOTE_PHYS32_ENTRY


def bootable_kernel(vmlinuz: bytes) -> bytes:
    """The uncompressed kernel out of a bzImage, if it can be started by PVH; anything else as it is.

    :raises ImageError: a damaged bzImage, or no zstd for this Python.
    """
    payload = _payload(vmlinuz)
    if not payload.startswith(ZSTD_MAGIC):
        return vmlinuz
    kernel = _unzstd(payload[:-SIZE_TRAILER])
    (size,) = struct.unpack_from("<I", payload, len(payload) - SIZE_TRAILER)
    if len(kernel) != size:
        raise ImageError("the kernel is damaged", f"{len(kernel)} bytes instead of {size}", "hostvm image build")
    return kernel if has_pvh_entry(kernel) else vmlinuz


def has_pvh_entry(kernel: bytes) -> bool:
    """Whether an ELF file has the note that QEMU's PVH loader looks for."""
    return kernel.startswith(ELF64_MAGIC) and any(note == PVH_ENTRY for note in _notes(kernel))


def _payload(vmlinuz: bytes) -> bytes:
    """The compressed kernel inside a bzImage, b"" when it is none."""
    if vmlinuz[BOOT_MAGIC_AT : BOOT_MAGIC_AT + len(BOOT_MAGIC)] != BOOT_MAGIC:
        return b""
    offset, length = struct.unpack_from("<II", vmlinuz, PAYLOAD_AT)
    start = (vmlinuz[SETUP_SECTORS_AT] + 1) * SECTOR + offset
    return vmlinuz[start : start + length]


def _notes(elf: bytes) -> Iterator[tuple[bytes, int]]:
    """(name, type) of every note in an ELF64 little-endian file's note segments."""
    (headers,) = struct.unpack_from("<Q", elf, 0x20)
    size, count = struct.unpack_from("<HH", elf, 0x36)
    for number in range(count):
        kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", elf, headers + number * size)
        position, end = start, start + length
        while kind == PT_NOTE and position + 12 <= end:
            name_size, data_size, note_type = struct.unpack_from("<III", elf, position)
            position += 12
            yield elf[position : position + name_size], note_type
            position += -(-name_size // 4) * 4 + -(-data_size // 4) * 4


def _unzstd(data: bytes) -> bytes:
    zstd = load_zstd("the kernel")
    try:
        return bytes(zstd.decompress(data))
    except (zstd.ZstdError, EOFError) as error:
        raise ImageError("the kernel is damaged", str(error), "hostvm image build") from error
