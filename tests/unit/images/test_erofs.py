from __future__ import annotations

import io
import random
import stat
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from erofs_reader import FLAT, FULL_INDEX, INLINE, Erofs
from lz4 import library_version_string

from images.erofs import FormerRoot, Stored, packed_by, write_erofs
from images.errors import ImageError
from images.tree import Kind, Node, Slice, Tree

BLOCK, CHUNK = 4096, 128 << 10
TIME = 1_700_000_000
NAME = UUID(int=7)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def words(size: int) -> bytes:
    return b"".join(b"%d bottles, " % number for number in range(size // 8 + 1))[:size]


def written(tree: Tree, level: int | None = 3, **more) -> bytes:
    out = io.BytesIO()
    size = write_erofs(tree, out, time=TIME, uuid=NAME, level=level, **more)
    assert len(out.getvalue()) == size
    return out.getvalue()


def holding(**files: bytes) -> Tree:
    tree = Tree()
    for name, data in files.items():
        tree.add_file(name, data)
    return tree


SIZES = (
    0,
    1,
    31,
    4063,
    4064,
    4065,
    4095,
    4096,
    4097,
    8192,
    CHUNK - 1,
    CHUNK,
    CHUNK + 1,
    CHUNK + BLOCK,
    3 * CHUNK + 5000,
)


@pytest.mark.parametrize("level", [None, 3, 12])
@pytest.mark.parametrize("make", [noise, words, bytes])
def test_files_of_every_size_are_read_back(make, level):
    contents = {f"f{size}": make(size) for size in SIZES}
    done: list[int] = []
    found = Erofs(written(holding(**contents), level, advance=done.append)).walk()
    assert {name: item.content for name, item in found.items() if name} == contents
    assert sum(done) == sum(size for size in SIZES if size + 32 > BLOCK)


def test_a_file_lies_where_it_takes_least():
    half = words(CHUNK) + noise(CHUNK)
    found = Erofs(written(holding(none=b"", small=noise(4064), noise=noise(9000), text=words(9000), half=half))).walk()
    assert {name: item.layout for name, item in found.items() if name} == {
        "none": FLAT, "small": INLINE, "noise": FLAT, "text": FULL_INDEX, "half": FULL_INDEX,
    }  # fmt: skip
    assert found["half"].content == half


def test_what_is_compressed_is_small():
    plain, packed = len(written(holding(file=noise(8 * CHUNK)))), len(written(holding(file=bytes(8 * CHUNK))))
    assert plain > 8 * CHUNK
    assert packed < 16 * BLOCK


def test_modes_owners_links_and_the_superblock(tmp_path):
    store = tmp_path / "data.tar"
    store.write_bytes(b"....shared content")
    shared = Slice(store, 4, 14)
    tree = Tree()
    tree.add_dir("var/tmp", 0o1777)
    tree.add_file("usr/bin/sudo", b"suid", 0o4755, 0, 27)
    tree.add_link("bin", "usr/bin")
    for path in ("usr/bin/one", "usr/share/two"):
        tree.put(path, Node(Kind.FILE, 0o644, 1000, 100_000, content=shared))
    image = Erofs(written(tree))
    found = image.walk()
    assert (image.time, image.uuid, image.inodes) == (TIME, NAME.bytes, len(found) - 1)
    assert sorted(item.number for item in found.values()) == sorted(
        [*range(1, len(found)), found["usr/bin/one"].number]
    )
    assert found["usr/bin/one"] == found["usr/share/two"]
    one = found["usr/bin/one"]
    assert (one.uid, one.gid, one.links, one.content) == (1000, 100_000, 2, b"shared content")
    assert (found["usr/bin/sudo"].mode, found["usr/bin/sudo"].gid) == (stat.S_IFREG | 0o4755, 27)
    assert found["var/tmp"].mode == stat.S_IFDIR | 0o1777
    assert (found["bin"].mode, found["bin"].content) == (stat.S_IFLNK | 0o777, b"usr/bin")
    assert {path: found[path].links for path in ("", "usr", "usr/bin", "var")} == {
        "": 4,
        "usr": 4,
        "usr/bin": 2,
        "var": 3,
    }


@pytest.mark.parametrize("count", [1, 150, 200, 5000])
def test_folders_of_every_size(count):
    """Names around "." and "..", since those are sorted among the others."""
    names = {"-first", "+", "..more", "...", "é", "~last", *(f"name-{number:04}" for number in range(count))}
    found = Erofs(written(holding(**{f"folder/{name}": name.encode() for name in names}))).walk()
    assert {path: item.content for path, item in found.items() if path.startswith("folder/")} == {
        f"folder/{name}": name.encode() for name in names
    }


def test_the_longest_name_and_target():
    tree = holding(**{"n" * 255: b"content"})
    sizes = (4032, 4064, 4065, 4095)
    for size in sizes:
        tree.add_link(f"link{size}", "t" * size)
    found = Erofs(written(tree)).walk()
    assert found["n" * 255].content == b"content"
    assert [found[f"link{size}"].content for size in sizes] == [b"t" * size for size in sizes]
    assert [found[f"link{size}"].layout for size in sizes] == [INLINE, INLINE, FLAT, FLAT]


def test_names_and_targets_that_are_no_utf8():
    def name(data: bytes) -> str:
        return data.decode("utf-8", "surrogateescape")

    tree = holding(**{name(b"caf\xe9"): b"latin"})
    tree.add_link("link", name(b"caf\xe9"))
    found = Erofs(written(tree)).walk()
    assert (found[name(b"caf\xe9")].content, found["link"].content) == (b"latin", b"caf\xe9")


@pytest.mark.parametrize("kind", ["name", "target", "empty target"])
def test_what_linux_does_not_take_is_refused(kind):
    tree = Tree()
    if kind == "name":
        tree.add_file("folder/" + "é" * 128, b"")
    else:
        tree.add_link("folder/link", "t" * 4096 if kind == "target" else "")
    with pytest.raises(ImageError, match=r"(?s)^/folder/.* cannot be stored\n.*(4095|255).*hostvm image build"):
        written(tree)


@pytest.mark.parametrize("fault", [OSError("full"), KeyboardInterrupt()])
def test_a_packages_file_is_closed_when_packing_is_broken_off(tmp_path, monkeypatch, fault):
    """Windows deletes no folder of which a file is open."""
    store = tmp_path / "data.tar"
    store.write_bytes(noise(40 * CHUNK))
    tree, opened = Tree(), []
    tree.put("file", Node(Kind.FILE, 0o644, content=Slice(store, 0, 40 * CHUNK)))
    real = Path.open

    def watched(self, *words, **more):
        opened.append(real(self, *words, **more))
        return opened[-1]

    def advance(_size):
        raise fault

    monkeypatch.setattr(Path, "open", watched)
    with pytest.raises(type(fault)) as raised:
        written(tree, advance=advance)
    assert [file.closed for file in opened] == [True]
    del raised


def test_the_same_tree_gives_the_same_bytes_whatever_the_processors(monkeypatch):
    names = [f"d{number % 7}/f{number}" for number in range(60)]
    contents = {name: words(number * 3000) for number, name in enumerate(names)}
    images = []
    for processors, order in ((1, names), (8, names[::-1])):
        monkeypatch.setattr("os.cpu_count", lambda processors=processors: processors)
        images.append(written(holding(**{name: contents[name] for name in order})))
    assert images[0] == images[1]


def test_a_package_that_becomes_shorter_meanwhile(tmp_path):
    store = tmp_path / "data.tar"
    store.write_bytes(words(9000))
    tree = Tree()
    tree.put("file", Node(Kind.FILE, 0o644, content=Slice(store, 0, 9001), origin="hello"))
    with pytest.raises(ImageError, match="became shorter"):
        written(tree)


def test_what_packed_it_is_told():
    assert packed_by() == f"lz4 {library_version_string()}"


def test_what_was_written_is_read_again_in_any_part_and_taken_as_it_is(tmp_path):
    contents = [b"few", noise(CHUNK + 5), words(3 * CHUNK + 7), words(2 * CHUNK), noise(CHUNK) + bytes(CHUNK) + b"end"]
    store, tree, again, places = tmp_path / "data", Tree(), Tree(), {}
    store.write_bytes(b"".join(contents))
    for number, data in enumerate(contents):
        content = Slice(store, sum(map(len, contents[:number])), len(data))
        tree.put(str(number), Node(Kind.FILE, 0o644, content=content))
    first = written(tree, placed=places.__setitem__)
    (tmp_path / "root").write_bytes(first)
    store.unlink()
    with (tmp_path / "root").open("rb") as file:
        for path, node in tree.nodes.items():
            content = node.content
            if isinstance(content, Slice):
                stored = Stored(FormerRoot(file), places[content], content.size)
                content = replace(content, source=stored)
                whole = contents[int(path)]
                for start in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 4096, len(whole) - 1, len(whole)):
                    for size in (0, 1, 4096, CHUNK, CHUNK + 2, None):
                        assert content.read(start, size) == whole[start : None if size is None else start + size]
            again.put(path, replace(node, content=content))
        assert written(again) == first
    (tmp_path / "short").write_bytes(b"")
    with (tmp_path / "short").open("rb") as file, pytest.raises(ImageError, match="short became shorter"):
        Stored(FormerRoot(file), places[tree.nodes["0"].content], 3).read(0, 3)
