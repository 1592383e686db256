from __future__ import annotations

import hashlib

import pytest

from images.dpkg import install_unpacked, parse_interests, status_stanza, trigger_files
from images.errors import ImageError
from images.tree import Tree


@pytest.fixture
def package(tmp_path, make):
    def package(name: str, control: dict[str, bytes], *entries):
        deb, data = tmp_path / f"{name}.deb", tmp_path / f"{name}.tar"
        deb.write_bytes(make.deb(control, list(entries)))
        data.write_bytes(make.tar(list(entries)))
        return deb, data, name

    return package


def test_the_database_of_an_unpacked_package(package, make):
    control = b"Package: libx\nArchitecture: amd64\nMulti-Arch: same\nDescription: x\n more\n"
    tree = Tree()
    libx = package(
        "libx",
        {
            "control": control,
            "conffiles": b"/etc/x.conf\nremove-on-upgrade /etc/old\n",
            "postinst": b"#!/bin/sh\n",
            "triggers": b"# comment\ninterest-noawait /usr/lib/x\nactivate-noawait ldconfig\n",
        },
        make.entry("/"),
        make.entry("etc/"),
        make.entry("etc/x.conf", b"a=1\n"),
    )
    bin_ = package("a", {"control": b"Package: a\nArchitecture: all\n", "triggers": b"interest ldconfig\n"})
    install_unpacked(tree, [libx, bin_])
    md5 = hashlib.md5(b"a=1\n").hexdigest()
    assert tree.read("var/lib/dpkg/status").decode() == (
        "Package: a\nStatus: install ok unpacked\nArchitecture: all\n\n"
        "Package: libx\nStatus: install ok unpacked\nArchitecture: amd64\nMulti-Arch: same\nDescription: x\n more\n"
        f"Conffiles:\n /etc/x.conf {md5}\n\n"
    )
    assert tree.read("var/lib/dpkg/info/libx:amd64.list") == b"/.\n/etc\n/etc/x.conf\n"
    assert tree.nodes["var/lib/dpkg/info/libx:amd64.postinst"].mode == 0o755
    assert tree.read("var/lib/dpkg/triggers/File") == b"/usr/lib/x libx:amd64/noawait\n"
    assert tree.read("var/lib/dpkg/triggers/ldconfig") == b"a\n"
    assert "var/lib/dpkg/info/a.control" not in tree.nodes


def test_a_conffile_that_is_not_shipped(package):
    broken = package("b", {"control": b"Package: b\nArchitecture: all\n", "conffiles": b"/etc/none\n"})
    with pytest.raises(ImageError, match="/etc/none is missing"):
        install_unpacked(Tree(), [broken])


def test_a_name_that_is_not_utf_8_is_listed_as_it_is(package, make):
    tree, name = Tree(), b"usr/\xe4".decode("utf-8", "surrogateescape")
    install_unpacked(tree, [package("b", {"control": b"Package: b\nArchitecture: all\n"}, make.entry(name))])
    assert tree.read("var/lib/dpkg/info/b.list") == b"/usr/\xe4\n"


def test_interests():
    found = parse_interests("interest-await a\ninterest b # why\ninterest-noawait /c\nactivate d\n", "p")
    assert trigger_files(found) == {"File": "/c p/noawait\n", "Unincorp": "", "a": "p\n", "b": "p\n"}


def test_a_package_without_conffiles():
    assert status_stanza("Package: x\nVersion: 1", []) == "Package: x\nStatus: install ok unpacked\nVersion: 1\n"
