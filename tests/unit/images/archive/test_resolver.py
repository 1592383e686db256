from __future__ import annotations

import pytest

from images.archive.packages import PackageIndex
from images.archive.resolver import resolve
from images.errors import ImageError


def index(*packages: str) -> PackageIndex:
    """Each package as `name[=version] [<field>: value; ...]`."""
    found = PackageIndex()
    for package in packages:
        head, _, rest = package.partition(" ")
        name, _, version = head.partition("=")
        fields = "".join(f"{field.strip()}\n" for field in rest.split(";") if field.strip())
        stanza = (
            f"Package: {name}\nVersion: {version or '1'}\nArchitecture: all\n{fields}"
            f"Filename: {name}.deb\nSize: 1\nSHA256: {name}\n"
        )
        found.add([stanza.encode()], "http://mirror.test")
    return found


def names(*args, **kwargs) -> list[str]:
    return [package.name for package in resolve(*args, **kwargs)]


def test_the_closure_follows_depends_and_pre_depends_only():
    shop = index("a Depends: b; Recommends: r; Suggests: s", "b Pre-Depends: c", "c", "r", "s")
    assert names(shop, ["a"]) == ["a", "b", "c"]


def test_circles_end():
    assert names(index("a Depends: b", "b Depends: a"), ["a"]) == ["a", "b"]


def test_the_first_alternative_that_exists_is_taken():
    assert names(index("a Depends: none | b | c", "b", "c"), ["a"]) == ["a", "b"]


def test_a_wanted_alternative_saves_the_first():
    assert names(index("a Depends: b | c", "b", "c"), ["a", "c"]) == ["a", "c"]
    assert names(index("a Depends: b | c", "b", "c"), ["c", "a"]) == ["a", "c"]


def test_provides_meet_a_dependency():
    shop = index("a Depends: mta", "exim Provides: mta", "postfix Provides: mta")
    assert names(shop, ["a"]) == ["a", "exim"]
    assert names(shop, ["a", "postfix"]) == ["a", "postfix"]


def test_a_versioned_provides():
    shop = index("a Depends: abi (>= 2)", "old Provides: abi (= 1)", "new Provides: abi (= 2)")
    assert names(shop, ["a"]) == ["a", "new"]


def test_excluded_packages_count_as_present():
    shop = index("a Depends: b, c | d", "b Depends: e", "c", "d", "e")
    assert names(shop, ["a"], {"b", "c"}) == ["a"]


def test_every_fault_is_told_at_once_with_close_names():
    shop = index("openssh-server Depends: libfoo (>= 2)", "libfoo=1")
    with pytest.raises(ImageError) as error:
        resolve(shop, ["openssh-servr", "openssh-server", "zzz", "libfoo"], {"libfoo"})
    assert error.value.details.splitlines() == [
        "openssh-servr: no such package; close: openssh-server",
        "zzz: no such package",
        "libfoo: both wanted and excluded",
    ]
    with pytest.raises(ImageError, match=r"openssh-server needs libfoo \(>= 2\), which nothing offers"):
        resolve(shop, ["openssh-server"])


def test_what_is_no_version_is_met_by_none():
    with pytest.raises(ImageError, match=r"a needs b \(>= 1_0\), which nothing offers"):
        resolve(index("a Depends: b (>= 1_0)", "b=2"), ["a"])
    with pytest.raises(ImageError, match=r"a needs v \(>= 1\), which nothing offers"):
        resolve(index("a Depends: v (>= 1)", "b Provides: v (= 1_0)"), ["a"])


def test_the_order_of_names_does_not_matter():
    shop = index("a Depends: x", "b Depends: y", "x", "y")
    assert names(shop, ["a", "b"]) == names(shop, ["b", "a"])
