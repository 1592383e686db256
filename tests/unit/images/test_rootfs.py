from __future__ import annotations

from types import SimpleNamespace

import pytest

from images.errors import DiskFullError, ImageError, RecipeError
from images.progress import NullProgress
from images.rootfs import add_ca_bundle, apply_modes, unpack_packages
from images.tree import Tree


def test_the_ca_bundle_holds_every_certificate_in_order():
    tree = Tree()
    tree.add_file("usr/share/ca-certificates/mozilla/B.crt", b"BBB")
    tree.add_file("usr/share/ca-certificates/mozilla/A.crt", b"AAA\n\n")
    tree.add_file("usr/share/ca-certificates/README", b"no")
    add_ca_bundle(tree)
    assert tree.read("etc/ssl/certs/ca-certificates.crt") == b"AAA\nBBB\n"


def test_no_bundle_without_certificates():
    tree = Tree()
    add_ca_bundle(tree)
    assert tree.get("etc/ssl/certs/ca-certificates.crt") is None


def test_modes_by_pattern():
    tree = Tree()
    tree.add_file("etc/ssh/key", b"")
    tree.add_link("etc/ssh/link", "/etc/passwd")
    apply_modes(tree, {"/etc/ssh/*": 0o600})
    assert tree.nodes["etc/ssh/key"].mode == 0o600
    assert tree.nodes["etc/ssh/link"].mode == 0o777
    with pytest.raises(RecipeError) as error:
        apply_modes(tree, {"etc/ssh/key": 0o600, "etc/shh/*": 0o600})
    assert error.value.details == "etc/shh/*"


def test_unpacking_stops_at_what_is_no_package(tmp_path):
    deb = tmp_path / "x.deb"
    deb.write_bytes(b"no")
    with pytest.raises(ImageError, match="not a Debian package"):
        unpack_packages([SimpleNamespace(name="x", size=2, unpacked=0)], [deb], tmp_path, NullProgress())


def test_packages_that_will_not_fit_are_not_unpacked(tmp_path, make, monkeypatch):
    """Whatever else works on this disk would have none meanwhile."""
    deb, work = tmp_path / "x.deb", tmp_path / "cache" / "work"
    deb.write_bytes(make.deb({}, [make.entry("usr/x", b"content")]))
    work.mkdir(parents=True)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=5 << 20))
    package = SimpleNamespace(name="x", size=2, unpacked=3 << 20)
    with pytest.raises(DiskFullError) as error:
        unpack_packages([package, package], [deb, deb], work, NullProgress())
    assert error.value.brief == f"not enough space in {tmp_path / 'cache'}"
    assert error.value.details == "6 MiB are needed, 5 MiB are free."
    assert list(work.iterdir()) == []
    assert len(unpack_packages([package], [deb], work, NullProgress())) == 1
