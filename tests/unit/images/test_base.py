from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import replace

import pytest

from images.base import build_base, busybox_applets, busybox_tree, find_base, read_configured, sources_list
from images.errors import ImageError, RecipeError
from images.progress import NullProgress

BUSYBOX = b"\x7fELF code\0 [\0[[\0acpid\0ash\0busybox\0sh\0uname\0\0/var/log\0"


class NoBuilder:
    def run(self, job, progress):
        raise AssertionError("busybox needs no guest")


@pytest.fixture
def shop(archive, make):
    archive.add("busybox-static", files=[make.entry("usr/bin/busybox", BUSYBOX, mode=0o755)])
    archive.publish(until=None)
    replace(archive, suite="trixie-security", stanzas=[]).publish(until=None)
    shutil.copytree(archive.root / "debian", archive.root / "debian-security")
    return archive


@pytest.fixture
def busybox(shop, fetcher, cache):
    def build(**changes):
        return build_base(
            changes.pop("name", "busybox:latest"),
            "amd64",
            [],
            None,
            shop.mirror,
            cache,
            NoBuilder(),
            NullProgress(),
            keys=shop.keys,
            fetcher=fetcher,
            **changes,
        )

    return build


def saved(path) -> tuple[dict, dict, tarfile.TarFile]:
    with tarfile.open(path) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))[0]
        config = json.load(tar.extractfile(manifest["Config"]))
        layer = io.BytesIO(tar.extractfile(manifest["Layers"][0]).read())
    return manifest, config, tarfile.open(fileobj=layer)


def test_busybox(busybox, cache, shop):
    path = busybox()
    manifest, config, layer = saved(path)
    assert manifest["RepoTags"] == ["busybox:latest"]
    assert config["config"]["Cmd"] == ["sh"]
    assert config["created"] == "2023-11-14T22:13:20Z"
    assert layer.extractfile("./bin/busybox").read() == BUSYBOX
    assert layer.getmember("./bin/sh").linkname == "busybox"
    assert layer.getmember("./tmp").mode == 0o1777
    assert layer.extractfile("./etc/passwd").read().startswith(b"root:x:0:0:")
    assert find_base("busybox", "amd64", [], None, shop.mirror, cache) == path
    assert find_base("busybox", "arm64", [], None, shop.mirror, cache) is None


def test_it_is_made_once_and_kept(busybox, cache):
    first = busybox()
    time = first.stat().st_mtime_ns
    assert busybox() == first
    assert first.stat().st_mtime_ns == time
    assert sorted(path.name for path in (cache / "base").iterdir()) == [".lock", "sha256"]


def test_another_tag(busybox):
    manifest, _, _ = saved(busybox(tag="localhost:5000/bb"))
    assert manifest["RepoTags"] == ["localhost:5000/bb:latest"]


@pytest.mark.parametrize("name", ["alpine", "debian:13", "busybox:1.36", "debian/x", ""])
def test_unknown_names(name, cache):
    with pytest.raises(RecipeError) as error:
        find_base(name, "amd64", [], None, None, cache)
    assert "debian:trixie" in error.value.details
    assert error.value.resolution == "Type `hostvm image base debian:trixie`"


def test_busybox_takes_no_packages(cache):
    with pytest.raises(RecipeError, match="with packages"):
        find_base("busybox", "amd64", ["curl"], None, None, cache)


def test_applets():
    assert busybox_applets(BUSYBOX) == ["[", "[[", "acpid", "ash", "sh", "uname"]
    assert "bin/uname" in busybox_tree(BUSYBOX).nodes
    for other in (b"", b"[\0[[\0", b"[\0[[\0a b\0\0"):
        with pytest.raises(ImageError, match="applets"):
            busybox_applets(other)


def test_sources():
    assert sources_list("trixie", "http://deb.debian.org/debian") == (
        "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: trixie trixie-updates\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        "\n"
        "Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: trixie-security\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_traces_of_the_moment_are_removed(tmp_path, make):
    (tmp_path / "t.tar").write_bytes(
        make.tar(
            [
                make.entry("etc/shadow", b"root:*:20780:0:99999:7:::\n"),
                make.entry("etc/shadow-", b""),
                make.entry("etc/machine-id", b"abc\n"),
                make.entry("var/log/"),
                make.entry("var/log/dpkg.log", b"now"),
                make.entry("var/lib/dpkg/status-old", b""),
                make.entry("dev/"),
                make.entry("dev/null", b""),
            ]
        )
    )
    tree = read_configured(tmp_path / "t.tar")
    assert tree.read("etc/shadow") == b"root:*:0:0:99999:7:::\n"
    assert tree.read("etc/machine-id") == b""
    assert sorted(tree.nodes) == [
        "", "dev", "etc", "etc/machine-id", "etc/shadow", "var", "var/lib", "var/lib/dpkg", "var/log",
    ]  # fmt: skip
