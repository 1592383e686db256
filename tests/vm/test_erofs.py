"""The file system of a guest's root, as Linux reads what we write."""

from __future__ import annotations

import hashlib
import random
from uuid import UUID

import pytest
from looking import look_into  # a helper beside this file

from hostvm.guest_images import ensure_image
from images.erofs import write_erofs
from images.progress import NullProgress
from images.tree import Kind, Node, Slice, Tree

pytestmark = pytest.mark.vm

TIME = 1_700_000_000

LOOK = r"""
echo "middle: $(dd if=mixed bs=1000 skip=300 count=7 2> /dev/null | sha256sum)"
echo "facts: $(find . ! -type d -exec stat -c '%n %f %u %g %h %s %Y' {} + | sort | sha256sum)"
echo "folders: $(find . -type d -exec stat -c '%n:%f:%h:%Y' {} + | tr '\n' ' ')"
echo "contents: $(find . -type f | sort | xargs cat | sha256sum)"
echo "links: $(readlink bin) $(readlink long | wc -c) $(stat -c %i one) $(stat -c %i two)"
echo 3 > /proc/sys/vm/drop_caches
echo "cold: $(find . -type f | sort -r | xargs tail -q -c 3000 | sha256sum)"
"""


def contents() -> dict[str, bytes]:
    """Files of sizes around a block, what fits behind an inode, a cluster; that pack well, badly and in part."""
    noise = random.Random(1).randbytes(700_000)
    words = b"".join(b"%d bottles, " % number for number in range(70_000))
    sizes = (0, 1, 4063, 4064, 4065, 4096, 4097, 131_071, 131_072, 131_073, 400_001)
    found = {f"{name}{size}": data[:size] for name, data in (("n", noise), ("w", words)) for size in sizes}
    mixed = words[:200_000] + noise[:200_000] + words[:300_000]
    return found | {"mixed": mixed} | {f"many/file-{number:04}": b"%d\n" % number for number in range(500)}


def test_linux_reads_what_was_written(accel, tmp_path):
    image = ensure_image("docker", NullProgress())
    files, tree = contents(), Tree()
    for path, data in files.items():
        tree.add_file(path, data, 0o640, 1000, 100)
    store = tmp_path / "store"
    store.write_bytes(b"....shared")
    for path in ("one", "two"):
        tree.put(path, Node(Kind.FILE, 0o4755, 100_000, 7, content=Slice(store, 4, 6)))
    tree.add_link("bin", "usr/bin")
    tree.add_link("long", "t" * 4095)
    tree.add_dir("usr/bin", 0o1777)
    with (tmp_path / "root").open("wb") as file:
        write_erofs(tree, file, time=TIME, uuid=UUID(int=1), level=9)
    console = look_into(tmp_path / "root", image, LOOK, accel, tmp_path)
    listed = {f"./{path}": data for path, data in files.items()} | {"./one": b"shared", "./two": b"shared"}
    in_order = [listed[path] for path in sorted(listed, key=str.encode)]
    assert f"middle: {sha(files['mixed'][300_000:307_000])}" in console
    assert f"contents: {sha(b''.join(in_order))}" in console
    assert f"cold: {sha(b''.join(data[-3000:] for data in reversed(in_order)))}" in console
    (links,) = (line.split()[1:] for line in console.splitlines() if line.startswith("links: "))
    assert links[:2] == ["usr/bin", "4096"]
    assert links[2] == links[3]
    lines = [f"./{path} 81a0 1000 100 1 {len(data)} {TIME}" for path, data in files.items()]
    lines += [f"./{name} 89ed 100000 7 2 6 {TIME}" for name in ("one", "two")]
    lines += [f"./bin a1ff 0 0 1 7 {TIME}", f"./long a1ff 0 0 1 4095 {TIME}"]
    text = "".join(f"{line}\n" for line in sorted(lines, key=str.encode))
    assert f"facts: {sha(text.encode())}" in console
    folders = {"./many": ("41ed", 2), "./usr": ("41ed", 3), "./usr/bin": ("43ff", 2), ".": ("41ed", 4)}
    for path, (mode, links) in folders.items():
        assert f" {path}:{mode}:{links}:{TIME}" in console


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
