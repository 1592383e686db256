from __future__ import annotations

import random
import tracemalloc

import pytest

from images.archive.packages import Against, PackageIndex, Relation, parse_relations, satisfies
from images.errors import MirrorError

INDEX = """\
Package: mawk
Version: 1.3
Architecture: amd64
Provides: awk
Filename: pool/mawk.deb
Size: 5
SHA256: aa
Description: one
 long: text, Łódź


Package: libx
Version: 2:1.0~rc1-1
Architecture: amd64
Multi-Arch: same
Pre-Depends: libc6 (>= 2.41)
Depends: awk | gawk, libz:any (<< 9)
Provides: libx-abi (= 7)
Essential: yes
Filename: pool/libx1.deb
Size: 7
SHA256: bb

Package: libx
Version: 2:1.0-1
Architecture: amd64
Filename: pool/libx2.deb
Size: 8
SHA256: cc
"""


@pytest.fixture
def index() -> PackageIndex:
    found = PackageIndex()
    found.add([INDEX.encode()], "http://mirror.test/debian")
    return found


def test_relations():
    assert parse_relations("libc6 (>= 2.41), awk | gawk:any , x (=1:2-3)") == (
        (Relation("libc6", ">=", "2.41"),),
        (Relation("awk"), Relation("gawk")),
        (Relation("x", "=", "1:2-3"),),
    )
    assert parse_relations("") == ()
    with pytest.raises(ValueError, match="not a dependency"):
        parse_relations("libc6 >= 2")


def test_what_a_package_is_against():
    text = INDEX.replace("Provides: awk\n", "Breaks: x:any (<< 2), y:i386\nProvides: awk\nConflicts: z (= 1:2-3)\n")
    index = PackageIndex()
    index.add([text.encode()], "http://mirror.test/debian")
    assert index.newest("mawk").against() == [
        Against("conflicts with", Relation("z", "=", "1:2-3")),
        Against("breaks", Relation("x", "<<", "2")),
        Against("breaks", Relation("y"), "i386"),
    ]
    assert index.newest("libx").against() == []


@pytest.mark.parametrize(
    ("have", "op", "want", "holds"),
    [
        ("1.0", "", "", True),
        ("1.0~rc1", "<<", "1.0", True),
        ("1:0.1", ">>", "9", True),
        ("1.0-1", "=", "1.0-1", True),
        ("1.0-1+b1", ">=", "1.0-1", True),
        ("2", "<=", "1", False),
    ],
)
def test_versions(have, op, want, holds):
    assert satisfies(have, op, want) is holds


def test_the_newest_version_is_taken(index):
    package = index.newest("libx")
    assert (package.version, package.url) == ("2:1.0-1", "http://mirror.test/debian/pool/libx2.deb")
    assert index.newest("nothing") is None


def test_provides(index):
    assert [package.name for package in index.providers(Relation("awk"))] == ["mawk"]
    assert index.providers(Relation("awk", ">=", "1")) == []  # an unversioned Provides meets no version


def test_required_packages(index):
    assert index.required() == ["libx"]


@pytest.mark.parametrize(
    ("line", "size"), [("Installed-Size: 12", 12 << 10), ("Installed-Size: many", 0), ("Essential: no", 0)]
)
def test_what_a_package_takes_unpacked(line, size):
    """It is the makers' guess, which some archives leave out: no fault of theirs."""
    index = PackageIndex()
    index.add(
        [f"Package: a\nVersion: 1\nArchitecture: all\nFilename: a\nSize: 1\nSHA256: a\n{line}\n".encode()], "http://m"
    )
    assert index.newest("a").unpacked == size


def test_misspelt_names(index):
    assert index.close_names("mwak") == ["mawk"]
    assert index.close_names("zzz") == []


@pytest.mark.parametrize("size", [1, 2, 7, 100, 300, 1000])
def test_pieces_may_end_anywhere(index, size):
    text = INDEX.encode()
    other = PackageIndex()
    other.add((text[at : at + size] for at in range(0, len(text), size)), "http://mirror.test/debian")
    for name in ("mawk", "libx", "nothing"):
        assert other.newest(name) == index.newest(name)
    assert other.providers(Relation("awk")) == index.providers(Relation("awk"))
    assert other.required() == ["libx"]


def test_each_file_has_its_own_base(index):
    index.add([b"Package: mawk\nVersion: 1.2\nArchitecture: all\nFilename: a\nSize: 1\nSHA256: a\n"], "http://older")
    index.add([b"Package: gawk\nVersion: 1\nArchitecture: all\nFilename: b\nSize: 1\nSHA256: b\n"], "http://other")
    assert index.newest("mawk").url == "http://mirror.test/debian/pool/mawk.deb"
    assert index.newest("gawk").url == "http://other/b"


@pytest.mark.parametrize("line", ["Provides: x (= 1", "Size: many"])
def test_an_entry_that_cannot_be_read_is_told(line):
    def read():
        index = PackageIndex()
        index.add([f"Package: a\nVersion: 1\nArchitecture: all\nFilename: a\nSHA256: a\n{line}\n".encode()], "http://m")
        index.newest("a")

    with pytest.raises(MirrorError, match="the package index of http://m cannot be read") as caught:
        read()
    assert "Its entry 'a'" in caught.value.details


def test_an_index_takes_less_memory_than_its_text():
    words = random.Random(1).choices(["library", "documentation", "for", "development", "server", "a"], k=100_000)
    stanzas = "".join(
        f"Package: lib{number}\nVersion: {number}\nDescription: {' '.join(words[number * 25 : (number + 4) * 25])}\n\n"
        for number in range(4000)
    ).encode()
    tracemalloc.start()
    try:
        index = PackageIndex()
        index.add((stanzas[at : at + 65536] for at in range(0, len(stanzas), 65536)), "http://mirror.test")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(stanzas)
