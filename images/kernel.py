"""The kernel in the form that starts soonest.

Debian's vmlinuz for amd64 is a bzImage: a small program that decompresses the kernel proper. Under emulation that
program alone takes about a second, and so this is done once, here. QEMU starts the uncompressed kernel by its PVH
entry point (docs/system/i386, "PVH"; Linux has had it since 4.18), which the ELF file names in a note. The layout
of a bzImage is in Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING

from images.disk import CHUNK
from images.errors import ImageError
from images.zstd import load_zstd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from images.tree import Node

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


def write_kernel(vmlinuz: Node, target: Path) -> None:
    """Write the uncompressed kernel out of a bzImage, if it can be started by PVH; anything else as it is.

    :raises ImageError: a damaged bzImage, or no zstd for this Python.
    """
    start, end = _payload(vmlinuz)
    if start < end and vmlinuz.read(start, len(ZSTD_MAGIC)) == ZSTD_MAGIC:
        _unzstd(vmlinuz, start, end - SIZE_TRAILER, target)
        found = target.stat().st_size
        size = int.from_bytes(vmlinuz.read(end - SIZE_TRAILER, SIZE_TRAILER), "little")
        if found != size:
            raise ImageError("the kernel is damaged", f"{found} bytes instead of {size}", "hostvm image build")
        if has_pvh_entry(target):
            return
    target.write_bytes(vmlinuz.read())


def has_pvh_entry(kernel: Path) -> bool:
    """Whether it is an ELF file with the note that QEMU's PVH loader looks for."""
    with kernel.open("rb") as file:
        if file.read(len(ELF64_MAGIC)) != ELF64_MAGIC:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as elf:
            return PVH_ENTRY in _notes(elf)


def _payload(vmlinuz: Node) -> tuple[int, int]:
    """Where the compressed kernel inside a bzImage begins and ends; nothing when it is none."""
    head = vmlinuz.read(0, SECTOR * 2)
    if head[BOOT_MAGIC_AT : BOOT_MAGIC_AT + len(BOOT_MAGIC)] != BOOT_MAGIC:
        return 0, 0
    offset, length = struct.unpack_from("<II", head, PAYLOAD_AT)
    start = (head[SETUP_SECTORS_AT] + 1) * SECTOR + offset
    return start, min(start + length, vmlinuz.size)


def _notes(elf: mmap.mmap) -> Iterator[tuple[bytes, int]]:
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


def _unzstd(vmlinuz: Node, start: int, end: int, target: Path) -> None:
    """In pieces: the whole takes 57 MB, and zstd as much beside it."""
    zstd = load_zstd("the kernel")
    decoder = zstd.ZstdDecompressor()
    try:
        with target.open("wb") as file:
            for at in range(start, end, CHUNK):
                file.write(decoder.decompress(vmlinuz.read(at, min(CHUNK, end - at)), CHUNK))
                while not (decoder.needs_input or decoder.eof):
                    file.write(decoder.decompress(b"", CHUNK))
    except (zstd.ZstdError, EOFError) as error:
        raise ImageError("the kernel is damaged", str(error), "hostvm image build") from error
    if not decoder.eof:
        raise ImageError("the kernel is damaged", "It ends early.", "hostvm image build")
