from __future__ import annotations

import pytest

from images.errors import ImageError
from images.initramfs import initramfs_entries, load_order, own_files
from images.modules import ModuleSet
from images.tree import Tree


@pytest.fixture
def tree() -> Tree:
    tree = Tree()
    tree.add_file("usr/bin/busybox", b"BUSYBOX", 0o755)
    for name, needs in {"virtio_blk": b"", "erofs": b"crc", "crc": b"", "ext4": b"crc,mbcache", "mbcache": b""}.items():
        tree.add_file(f"usr/lib/modules/6/kernel/{name}.ko", b"\0depends=" + needs + b"\0" + name.encode())
    return tree


def test_load_order_keeps_stage_marks_and_loads_nothing_twice(tree):
    modules = ModuleSet.of(tree)
    assert load_order(modules, ["virtio_blk", "erofs", "--", "ext4"]) == [
        "virtio_blk", "crc", "erofs", "--", "mbcache", "ext4",
    ]  # fmt: skip


def test_entries(tree, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "init").write_bytes(b"#!/bin/busybox sh\n")
    (tmp_path / "etc" / "x").write_bytes(b"data")
    entries = {entry.path: entry for entry in initramfs_entries(tree, ModuleSet.of(tree), ["erofs", "--"], tmp_path)}
    assert entries["init"].mode == 0o100755
    assert entries["etc/x"].mode == 0o100644
    assert entries["bin/busybox"].data == b"BUSYBOX"
    assert entries["bin/sh"].data == b"busybox"
    assert entries["modules/order"].data == b"crc\nerofs\n--\n"
    assert entries["modules/erofs.ko"].data.endswith(b"erofs")
    assert entries["dev/console"].rdev == (5, 1)


def test_a_folder_without_init(tree, tmp_path):
    with pytest.raises(ImageError, match="has no init"):
        initramfs_entries(tree, ModuleSet.of(tree), [], tmp_path)


def test_modes_come_from_the_content(tmp_path):
    (tmp_path / "b").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "a").chmod(0o777)
    assert own_files(tmp_path) == [("a", b"x", 0o644), ("b", b"#!/bin/sh\n", 0o755)]
