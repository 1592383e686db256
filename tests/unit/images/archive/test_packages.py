from __future__ import annotations

import pytest

from images.archive.packages import PackageIndex, Relation, parse_relations, satisfies

INDEX = """\
Package: mawk
Version: 1.3
Architecture: amd64
Provides: awk
Filename: pool/mawk.deb
Size: 5
SHA256: aa
Description: one
 long: text

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
    found.add(INDEX, "http://mirror.test/debian")
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


def test_misspelt_names(index):
    assert index.close_names("mwak") == ["mawk"]
    assert index.close_names("zzz") == []
