from __future__ import annotations

import gzip
import lzma

import pytest

from images.errors import ImageError
from images.module_search import module_name
from images.modules import SIGNATURE_MAGIC, ModuleSet, module_depends, plain_module
from images.tree import Slice, Tree

KERNEL = "usr/lib/modules/6.12-x/kernel"


def module(*depends: str) -> bytes:
    return b"\x7fELF...\0license=GPL\0depends=" + ",".join(depends).encode() + b"\0intree=Y\0vermagic=6\0"


@pytest.fixture
def modules() -> ModuleSet:
    tree = Tree()
    tree.add_file(f"{KERNEL}/fs/erofs/erofs.ko.xz", lzma.compress(module("libcrc32c", "netfs")))
    tree.add_file(f"{KERNEL}/lib/libcrc32c.ko.xz", lzma.compress(module("crc32c-generic")))
    tree.add_file(f"{KERNEL}/crypto/crc32c-generic.ko.gz", gzip.compress(module()))
    tree.add_file(f"{KERNEL}/fs/netfs.ko", module("libcrc32c"))
    tree.add_file(f"{KERNEL}/net/netfilter/nf_tables.ko", module())
    tree.add_file("usr/lib/modules/6.12-x/modules.builtin", b"kernel/drivers/acpi/button.ko\nkernel/lib/x/fuse.ko\n")
    return ModuleSet.of(tree)


def test_names():
    assert module_name("a/virtio-blk.ko.xz") == "virtio_blk"


def test_depends():
    assert module_depends(module("a-b", "c")) == ("a_b", "c")
    assert module_depends(module()) == ()
    assert module_depends(b"no section") == ()


def test_a_plain_module_is_decompressed_and_unsigned():
    signature = b"PKCS#7 ~Module" * 20
    facts = b"\0\0\2\0\0\0\0\0" + len(signature).to_bytes(4, "big")  # struct module_signature
    signed = module("crc16") + signature + facts + SIGNATURE_MAGIC
    assert plain_module("a.ko.xz", lzma.compress(signed)) == module("crc16")
    assert plain_module("a.ko.gz", gzip.compress(signed)) == module("crc16")
    assert plain_module("a.ko", signed) == module("crc16")
    assert plain_module("a.ko", module("crc16")) == module("crc16")


def test_load_order(modules):
    assert modules.closure(["erofs"]) == ["crc32c_generic", "libcrc32c", "netfs", "erofs"]
    assert modules.closure(["netfs", "erofs"]) == ["crc32c_generic", "libcrc32c", "netfs", "erofs"]


def test_patterns_match_names_and_paths(modules):
    assert modules.matching(["nf_*", "fs/*"]) == ["erofs", "netfs", "nf_tables"]


def test_what_is_built_in_is_known_but_needs_no_file(modules):
    assert modules.matching(["button", "lib/x/*", "erofs"]) == ["erofs"]
    assert modules.closure(["fuse", "libcrc32c"]) == ["crc32c_generic", "libcrc32c"]


def test_patterns_that_match_nothing_are_told(modules):
    with pytest.raises(ImageError) as error:
        modules.matching(["erofs", "erofz", "nope*"])
    assert error.value.details == "erofz, nope*"


def test_keeping_and_unpacking(modules):
    modules.keep_only(modules.closure(["libcrc32c"]))
    modules.decompress()
    assert sorted(path for path in modules.tree.nodes if path.endswith((".ko", ".xz", ".gz"))) == [
        f"{KERNEL}/crypto/crc32c-generic.ko",
        f"{KERNEL}/lib/libcrc32c.ko",
    ]
    assert modules.read("libcrc32c") == module("crc32c-generic")


def test_modules_with_a_store_are_decompressed_once_and_not_held(modules, tmp_path, monkeypatch):
    seen = []

    def counted(path, data):
        seen.append(path.rpartition("/")[2])
        return plain_module(path, data)

    monkeypatch.setattr("images.modules.plain_module", counted)
    stored = ModuleSet.of(modules.tree, tmp_path / "modules")
    stored.keep_only(stored.closure(["netfs"]))
    stored.decompress()
    assert sorted(seen) == ["crc32c-generic.ko.gz", "libcrc32c.ko.xz", "netfs.ko"]
    assert (stored.read("libcrc32c"), stored.read("crc32c_generic")) == (module("crc32c-generic"), module())
    node = stored.tree.nodes[f"{KERNEL}/lib/libcrc32c.ko"]
    assert isinstance(node.content, Slice)
    assert node.read() == module("crc32c-generic")


def test_an_unknown_module(modules):
    with pytest.raises(ImageError, match=r"kernel 6\.12-x has no module zfs"):
        modules.closure(["zfs"])


def test_not_exactly_one_kernel(modules):
    with pytest.raises(ImageError, match="hold 0 kernels"):
        ModuleSet.of(Tree())
    modules.tree.add_file("usr/lib/modules/6.13/kernel/a.ko", module())
    with pytest.raises(ImageError, match="hold 2 kernels"):
        ModuleSet.of(modules.tree)
