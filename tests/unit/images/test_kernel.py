"""Taking the kernel proper out of a bzImage."""

from __future__ import annotations

import importlib
import random
import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from images.disk import CHUNK
from images.errors import ImageError
from images.kernel import ZSTD_MAGIC, has_pvh_entry, write_kernel
from images.tree import Kind, Node, Slice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def zstd(data: bytes) -> bytes:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return bytes(importlib.import_module(name).compress(data))
        except ImportError:
            continue
    raise AssertionError("no zstd")


def elf(*notes: tuple[bytes, int, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<III", len(name), len(data), kind)
        + name
        + b"\0" * (-len(name) % 4)
        + data
        + b"\0" * (-len(data) % 4)
        for name, kind, data in notes
    )
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 0x20, 64)
    struct.pack_into("<HH", header, 0x36, 56, 1)
    segment = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(body), len(body), 4)
    return bytes(header) + segment + body


def bzimage(payload: bytes, sectors: int = 3, offset: int = 40) -> bytes:
    setup = bytearray((sectors + 1) * 512)
    setup[0x1F1] = sectors
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, offset, len(payload))
    return bytes(setup) + b"\xcc" * offset + payload + b"\xcc" * 100


PVH = elf((b"Linux\0", 0x101, b"x"), (b"Xen\0", 18, b"\0" * 8))
OTHER = elf((b"Xen\0", 6, b"linux\0"))


def sized(kernel: bytes) -> bytes:
    return zstd(kernel) + struct.pack("<I", len(kernel))


@pytest.fixture
def bootable_kernel(tmp_path: Path) -> Callable[[bytes], bytes]:
    """What is written of a vmlinuz."""

    def write(vmlinuz: bytes) -> bytes:
        write_kernel(Node(Kind.FILE, 0o644, content=vmlinuz), tmp_path / "vmlinuz")
        return (tmp_path / "vmlinuz").read_bytes()

    return write


def test_the_kernel_proper_comes_out_of_a_bzimage(bootable_kernel: Callable[[bytes], bytes]) -> None:
    assert bootable_kernel(bzimage(sized(PVH))) == PVH


def test_a_kernel_without_pvh_entry_stays_a_bzimage(bootable_kernel: Callable[[bytes], bytes]) -> None:
    image = bzimage(sized(OTHER))
    assert bootable_kernel(image) == image


@pytest.mark.parametrize(
    "image",
    [b"MZ@\xfa" + b"\0" * 4096, bzimage(b"\xfd7zXZ\0" + b"\0" * 100), b"", b"short"],
    ids=["arm64 Image", "xz bzImage", "empty", "short"],
)
def test_other_kernels_are_left_alone(bootable_kernel: Callable[[bytes], bytes], image: bytes) -> None:
    assert bootable_kernel(image) == image


@pytest.mark.parametrize(
    "payload",
    [ZSTD_MAGIC + b"\0" * 40, zstd(PVH) + struct.pack("<I", 1), zstd(PVH)[:-20] + b"\0" * 4],
    ids=["no frame", "wrong size", "cut"],
)
def test_a_damaged_kernel_is_told(bootable_kernel: Callable[[bytes], bytes], payload: bytes) -> None:
    with pytest.raises(ImageError, match="damaged"):
        bootable_kernel(bzimage(payload))


def test_a_large_kernel_is_written_in_pieces(tmp_path: Path, bootable_kernel: Callable[[bytes], bytes]) -> None:
    kernel = PVH + random.Random(1).randbytes(3 * CHUNK) + bytes(12 * CHUNK)
    image = bzimage(sized(kernel))
    assert bootable_kernel(image) == kernel
    (tmp_path / "data.tar").write_bytes(b"before" + image + b"behind")
    node = Node(Kind.FILE, 0o644, content=Slice(tmp_path / "data.tar", 6, len(image)))
    tracemalloc.start()
    try:
        write_kernel(node, tmp_path / "again")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "again").read_bytes() == kernel
    assert peak < len(kernel) / 4


@pytest.mark.parametrize(("content", "has"), [(PVH, True), (OTHER, False), (b"not an ELF", False), (b"", False)])
def test_notes_are_told_apart(tmp_path: Path, content: bytes, *, has: bool) -> None:
    (tmp_path / "kernel").write_bytes(content)
    assert has_pvh_entry(tmp_path / "kernel") is has
