from __future__ import annotations

import fnmatch
import struct

import pytest

from images.depmod import index_modules
from images.errors import ImageError
from images.module_index import write_index
from images.modules import ModuleSet
from images.tree import Tree

FOLDER = "usr/lib/modules/6.12-x"
ORDER = """\
kernel/crypto/crc32c-generic.ko
kernel/fs/ext4/ext4.ko
kernel/fs/gone.ko
kernel/fs/jbd2/jbd2.ko
kernel/fs/mbcache.ko
kernel/drivers/loop.ko
"""
BUILTIN = "kernel/fs/fuse/fuse.ko\nkernel/lib/zlib-deflate.ko\nkernel/fs/fuse/fuse.ko\n"
BUILTIN_INFO = b"fuse.license=GPL\0fuse.alias=devname:fuse\0fuse.alias=fs-fuse\0ext-x.alias=fs-fuse\0fuse.alias=odd[\0"


class Index:
    """Reads a .bin as libkmod does."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        magic, version, self.root = struct.unpack_from(">3I", data)
        assert (magic, version) == (0xB007F457, 0x00020001)

    def text(self, place: int) -> tuple[str, int]:
        end = self.data.index(b"\0", place)
        return self.data[place:end].decode(), end + 1

    def node(self, offset: int) -> tuple[str, dict[str, int], list[tuple[int, str]]]:
        """Its prefix, children and values."""
        place, prefix, children, values = offset & 0x0FFFFFFF, "", {}, []
        if offset & 0x80000000:
            prefix, place = self.text(place)
        if offset & 0x20000000:
            first, last = self.data[place : place + 2]
            offsets = struct.unpack_from(f">{last - first + 1}I", self.data, place + 2)
            children = {chr(first + number): child for number, child in enumerate(offsets) if child}
            place += 2 + 4 * len(offsets)
        if offset & 0x40000000:
            count = struct.unpack_from(">I", self.data, place)[0]
            place += 4
            for _ in range(count):
                priority = struct.unpack_from(">I", self.data, place)[0]
                value, place = self.text(place + 4)
                values.append((priority, value))
        return prefix, children, values

    def find(self, key: str) -> list[tuple[int, str]]:
        """The values of exactly this key."""
        offset = self.root
        while True:
            prefix, children, values = self.node(offset)
            if not key.startswith(prefix):
                return []
            key = key.removeprefix(prefix)
            if not key:
                return values
            if key[0] not in children:
                return []
            offset, key = children[key[0]], key[1:]

    def match(self, wanted: str) -> list[str]:
        """The values of the keys that match as patterns, lowest priority number first."""
        return [value for _, value in sorted(self.matches(wanted, self.root, ""))]

    def matches(self, wanted: str, offset: int, before: str) -> list[tuple[int, str]]:
        prefix, children, values = self.node(offset)
        here = before + prefix
        found = values if fnmatch.fnmatchcase(wanted, here) else []
        return [*found, *(hit for char, child in children.items() for hit in self.matches(wanted, child, here + char))]


@pytest.fixture
def modules(make) -> ModuleSet:
    """ext4 needs three modules, one of them over jbd2 too; a driver stands in no order."""
    tree = Tree()

    def add(path: str, *info: str, **symbols) -> None:
        tree.add_file(f"{FOLDER}/kernel/{path}.ko", make.module("license=GPL", *info, **symbols))

    crc = ("softdep=pre: crc32c", "weakdep=crc-fast", "alias=crypto-crc32c", "alias=crypto-crc32c")
    add("crypto/crc32c-generic", *crc, exports=("crc32c",))
    add("fs/ext4/ext4", "alias=fs-ext4", needs=("mb_get", "printk", "jbd2_start", "", "mb_put", "crc32c"))
    add("fs/jbd2/jbd2", exports=("jbd2_start", "jbd2_stop"), needs=("crc32c", "kfree"))
    add("fs/mbcache", exports=("mb_get", "mb_put"), sums=False)
    numbers = ("alias=block-major-7-*", "alias=char-major-10-0237", "alias=devname:loop-control")
    add("drivers/loop", *numbers, "alias=devname:other")
    add("drivers/usb", "alias=usb:v*p-1d[0-9]-*", "alias=virtio:d*", "alias=half]", "alias=[half")
    tree.add_file(f"{FOLDER}/modules.order", ORDER.encode())
    tree.add_file(f"{FOLDER}/modules.builtin", BUILTIN.encode())
    tree.add_file(f"{FOLDER}/modules.builtin.modinfo", BUILTIN_INFO)
    return ModuleSet.of(tree)


@pytest.fixture
def text(modules):
    index_modules(modules)
    return lambda name: modules.tree.read(f"{FOLDER}/modules.{name}").decode()


@pytest.fixture
def index(modules):
    index_modules(modules)
    return lambda name: Index(modules.tree.read(f"{FOLDER}/modules.{name}.bin"))


def test_the_files_are_depmods(modules):
    before = set(modules.tree.nodes)
    index_modules(modules)
    added = {path.removeprefix(f"{FOLDER}/modules.") for path in modules.tree.nodes.keys() - before}
    assert added == {
        *("alias", "dep", "devname", "softdep", "symbols", "weakdep"),
        *("alias.bin", "builtin.alias.bin", "builtin.bin", "dep.bin", "symbols.bin"),
    }


def test_dependencies_follow_the_symbols_and_the_order_of_the_kernel(text):
    assert text("dep") == (
        "kernel/crypto/crc32c-generic.ko:\n"
        "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/crypto/crc32c-generic.ko kernel/fs/mbcache.ko\n"
        "kernel/fs/jbd2/jbd2.ko: kernel/crypto/crc32c-generic.ko\n"
        "kernel/fs/mbcache.ko:\n"
        "kernel/drivers/loop.ko:\n"
        "kernel/drivers/usb.ko:\n"
    )


def test_what_modules_tell_of_themselves(text):
    assert text("alias") == (
        "# Aliases extracted from modules themselves.\n"
        "alias crypto-crc32c crc32c_generic\n"
        "alias crypto-crc32c crc32c_generic\n"
        "alias fs-ext4 ext4\n"
        "alias block-major-7-* loop\n"
        "alias char-major-10-0237 loop\n"
        "alias devname:loop-control loop\n"
        "alias devname:other loop\n"
        "alias usb:v*p-1d[0-9]-* usb\n"
        "alias virtio:d* usb\n"
        "alias half] usb\n"
        "alias [half usb\n"
    )
    assert text("softdep") == (
        "# Soft dependencies extracted from modules themselves.\nsoftdep crc32c_generic pre: crc32c\n"
    )
    assert text("weakdep") == (
        "# Weak dependencies extracted from modules themselves.\nweakdep crc32c_generic crc-fast\n"
    )
    assert text("devname") == ("# Device nodes to trigger on-demand module loading.\nloop loop-control c10:237\n")
    assert text("symbols") == (
        "# Aliases for symbols, used by symbol_request().\n"
        "alias symbol:crc32c crc32c_generic\n"
        "alias symbol:jbd2_start jbd2\n"
        "alias symbol:jbd2_stop jbd2\n"
        "alias symbol:mb_get mbcache\n"
        "alias symbol:mb_put mbcache\n"
    )


def test_modprobe_finds_modules_and_what_they_need(index):
    found = index("dep")
    assert found.find("crc32c_generic") == [(0, "kernel/crypto/crc32c-generic.ko:")]
    assert found.find("ext4")[0][1].startswith("kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko ")
    assert found.find("mbcache") == [(3, "kernel/fs/mbcache.ko:")]
    assert not found.find("ext")
    assert not found.find("ext4x")
    assert not found.find("xfs")


def test_modprobe_finds_modules_by_their_aliases(index):
    found = index("alias")
    assert found.match("fs_ext4") == ["ext4"]
    assert found.match("usb:v0001p_1d7_x") == ["usb"], "a dash in brackets stays one"
    assert not found.match("usb:v0001p_1d-_x")
    assert found.match("virtio:d0002") == ["usb"]
    assert found.match("crypto_crc32c") == ["crc32c_generic"] * 2
    assert not found.find("half]")
    assert not found.find("[half"), "a bracket without a partner is no pattern"


def test_modprobe_finds_symbols_and_what_is_built_in(index):
    assert index("symbols").find("symbol:jbd2_stop") == [(2, "jbd2")]
    assert index("builtin").find("zlib_deflate") == [(0, "")]
    assert index("builtin").find("fuse") == [(0, ""), (0, "")], "as often as modules.builtin has it"
    assert index("builtin.alias").find("devname:fuse") == [(0, "fuse")]
    assert index("builtin.alias").find("fs_fuse") == [(0, "ext-x"), (0, "fuse")], "the last of the same priority first"
    assert not index("builtin.alias").find("odd[")


def test_an_index_is_kmods_byte_for_byte():
    """kmod 34.2's modules.builtin.bin for ask, on, ate and once: each node before those below it."""
    root = "616f 2000004a" + "00000000" * 13 + "e000006a"  # children from a to o: a has some, on has all
    below_a = "7374 c0000054 c000005f"  # s and t
    ask = "6b00 00000001 00000000 00"  # the rest of its letters, one value, its priority, its text
    ate = "6500 00000001 00000000 00"
    on = "6e00 6363 c000007b 00000001 00000000 00"  # a prefix, one child, a value
    once = "6500 00000001 00000000 00"
    data = bytes.fromhex("b007f457 00020001 2000000c" + root + below_a + ask + ate + on + once)
    assert write_index((name, "", 0) for name in ("ask", "on", "ate", "once")) == data
    assert Index(data).find("once") == [(0, "")]


def test_an_index_of_keys_that_each_begin_with_the_one_before():
    """A module may have any number of them; each is a node below the other's."""
    keys = ["a" * length for length in range(1, 3001)]
    data = write_index((key, f"m{len(key)}", 0) for key in keys)
    index = Index(data)
    for key in keys[::500]:
        assert index.find(key) == [(0, f"m{len(key)}")]
    assert not index.find("a" * 3001)
    assert not index.find("")


def test_an_index_of_nothing():
    data = write_index([])
    assert data == bytes.fromhex("b007f457 00020001 0000000c")
    assert not Index(data).find("a")


def test_a_kernel_without_lists(modules):
    modules.tree.remove(lambda path: path.startswith(f"{FOLDER}/modules."))
    index_modules(modules)
    lines = modules.tree.read(f"{FOLDER}/modules.dep").decode().splitlines()
    assert [line.split(":")[0] for line in lines] == sorted(line.split(":")[0] for line in lines)
    assert not Index(modules.tree.read(f"{FOLDER}/modules.builtin.bin")).find("fuse")


def test_modules_that_need_each_other_are_named(modules, make):
    for name, own, other in (("one", "a", "b"), ("two", "b", "a"), ("user", "c", "a")):
        path = f"{FOLDER}/kernel/{name}.ko"
        modules.tree.add_file(path, make.module(exports=(own,), needs=(other,)))
        modules.paths[name] = path
    with pytest.raises(ImageError) as error:
        index_modules(modules)
    assert error.value.brief == "kernel modules need each other in a circle"
    assert error.value.details == "one, two"


def test_an_alias_that_is_not_ascii(modules, make):
    modules.tree.add_file(modules.paths["jbd2"], make.module("alias=größe"))
    with pytest.raises(ImageError, match="'größe', which is not ASCII\nof module jbd2"):
        index_modules(modules)


FAULTS = {  # where, counted from what; and what is there instead
    "32 bits": ("file", 4, b"\1"),
    "big-endian": ("file", 5, b"\2"),
    "table far away": ("file", 40, b"\xff" * 8),
    "table's entries too long": ("file", 58, b"\x48"),
    "names of sections not there": ("file", 62, b"\x63"),
    "names of sections behind the end": (".shstrtab", 24, b"\xff" * 8),
    "symbols behind the end": (".symtab", 32, b"\xff" * 8),
    "half a symbol": (".symtab", 32, b"\x19"),
    "a symbol's name behind the names": ("last symbol", 0, b"\xff" * 4),
}


def damaged(data: bytes, fault: str) -> bytes:
    table = int.from_bytes(data[40:48], "little")
    symtab = table + 3 * 64
    start, size = struct.unpack_from("<2Q", data, symtab + 24)
    places = {"file": 0, ".symtab": symtab, ".shstrtab": table + 5 * 64, "last symbol": start + size - 24}
    base, offset, new = FAULTS[fault]
    place = places[base] + offset
    return data[:place] + new + data[place + len(new) :]


@pytest.mark.parametrize("fault", [*FAULTS, "empty", "a text", "cut in the header", "cut in the table"])
def test_a_damaged_module_is_named(modules, make, fault):
    path = modules.paths["jbd2"]
    whole = make.module(exports=("a",), needs=("b",))
    cuts = {"empty": b"", "a text": b"no module", "cut in the header": whole[:60], "cut in the table": whole[:-1]}
    modules.tree.add_file(path, cuts[fault] if fault in cuts else damaged(whole, fault))
    with pytest.raises(ImageError) as error:
        index_modules(modules)
    assert error.value.brief == f"/{path} is not a kernel module, or a damaged one"
    assert error.value.details
    assert "hostvm image build" in error.value.resolution
