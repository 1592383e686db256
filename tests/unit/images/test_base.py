from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import replace

import pytest

from images.base import build_base, find_base, read_configured, sources_list
from images.base_busybox import busybox_applets, busybox_tree
from images.errors import ImageError, MirrorError, RecipeError
from images.oci import write_layout, write_layout_folder
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
            changes.pop("progress", NullProgress()),
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


def test_one_made_from_another_mirror_is_found_unless_one_is_named(busybox, cache, shop):
    """As at a site without a network, by the documented command."""
    path = busybox()
    assert find_base("busybox", "amd64", [], None, None, cache) == path
    assert find_base("busybox", "amd64", [], None, "http://other.test/debian", cache) is None
    assert find_base("busybox", "amd64", [], "bookworm", None, cache) is None


def test_what_the_image_says_of_itself(busybox):
    _, config, _ = saved(busybox(tag="bb:1"))
    assert config["config"]["Labels"] == {
        "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
        "org.opencontainers.image.description": "Debian trixie, 1 package",
        "org.opencontainers.image.ref.name": "bb:1",
        "org.opencontainers.image.title": "busybox",
        "org.opencontainers.image.version": "1.0",
    }
    assert config["config"]["Env"] == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]


def test_the_same_packages_are_the_same_bytes(busybox, cache):
    first = busybox()
    before = first.read_bytes()
    shutil.rmtree(cache / "base")
    assert busybox() == first
    assert first.read_bytes() == before


def test_a_mirror_that_is_updated_meanwhile(busybox, shop, make, adapter, noting, cache):
    def update():
        shop.path("pool/busybox-static_1.0_amd64.deb").unlink()
        shop.stanzas.clear()
        shop.add("busybox-static", "2.0", files=[make.entry("usr/bin/busybox", BUSYBOX, mode=0o755)])
        shop.publish(until=None)

    adapter.before["pool/"] = update
    _, config, _ = saved(busybox(progress=noting))
    assert config["config"]["Labels"]["org.opencontainers.image.version"] == "2.0"
    assert len(noting.notes) == 1
    assert sorted(path.name for path in (cache / "base").iterdir()) == [".lock", "sha256"]


def test_a_mirror_that_stays_other_than_its_index(busybox, shop, noting, cache):
    shop.path("pool/busybox-static_1.0_amd64.deb").unlink()
    with pytest.raises(MirrorError, match="the mirror has no busybox-static"):
        busybox(progress=noting)
    assert len(noting.notes) == 1
    assert sorted(path.name for path in (cache / "base").iterdir()) == [".lock"]


def test_as_an_oci_layout_alone(busybox, tmp_path):
    path = busybox()
    with (tmp_path / "plain.tar").open("wb") as file:
        write_layout(path, file)
    write_layout_folder(path, tmp_path / "folder")
    with tarfile.open(path) as tar:
        wanted = {m.name: tar.extractfile(m).read() for m in tar if m.name != "manifest.json"}
    with tarfile.open(tmp_path / "plain.tar") as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar} == wanted
    there = [p for p in (tmp_path / "folder").rglob("*") if p.is_file()]
    assert {p.relative_to(tmp_path / "folder").as_posix(): p.read_bytes() for p in there} == wanted


def test_a_bare_python(archive, make, fetcher, cache):
    """No shell, its user, the authorities in one file."""
    masters = {"passwd": b"root:*:0:0:root:/root:/bin/bash\n", "group": b"root:*:0:\nshadow:*:42:\n"}
    archive.add(
        "base-files", files=[make.entry("usr/bin/"), make.entry("bin/"), make.entry("etc/os-release", b"ID=debian\n")]
    )
    files = [make.entry(f"usr/share/base-passwd/{n}.master", t) for n, t in masters.items()]
    archive.add("base-passwd", files=files, Depends="libselinux1")
    archive.add("libselinux1", files=[make.entry("usr/lib/libselinux.so.1", b"")])
    archive.add("coreutils", files=[make.entry("usr/bin/cp", b"", mode=0o755)], Depends="libselinux1")
    archive.add("ca-certificates", files=[make.entry("usr/share/ca-certificates/a.crt", b"A\n")])
    archive.add(
        "python3-minimal", files=[make.link("usr/bin/python3", "python3.13")], Depends="python3.13-minimal, dpkg"
    )
    archive.add("python3.13-minimal", "3.13.5-2", files=[make.entry("usr/bin/python3.13", b"py", mode=0o755)])
    for name in ("libpython3-stdlib", "netbase", "tzdata"):
        archive.add(name, files=[make.entry(f"usr/share/man/{name}", b"")])
    archive.publish(until=None)
    for pocket in ("security", "updates"):
        replace(archive, suite=f"trixie-{pocket}", stanzas=[]).publish(until=None)
    shutil.copytree(archive.root / "debian", archive.root / "debian-security")
    path, more = (
        build_base(
            "distroless-python", "amd64", packages, None, archive.mirror, cache, NoBuilder(), NullProgress(),
            nonroot=True, keys=archive.keys, fetcher=fetcher,
        )
        for packages in ([], ["coreutils"])
    )  # fmt: skip
    manifest, config, layer = saved(path)
    names = set(layer.getnames())
    # What only base-passwd's scripts want is there where a program wants it, too.
    assert {"./usr/bin/cp", "./usr/lib/libselinux.so.1"} <= set(saved(more)[2].getnames()) - names
    assert manifest["RepoTags"] == ["distroless-python:trixie"]
    assert config["config"]["User"] == "65532"
    assert config["config"]["Entrypoint"] == ["/usr/bin/python3"]
    assert config["config"]["Labels"]["org.opencontainers.image.version"] == "3.13.5-2"
    assert layer.extractfile("./etc/ssl/certs/ca-certificates.crt").read() == b"A\n"
    assert layer.getmember("./bin").linkname == "usr/bin"
    assert layer.getmember("./usr/lib/ssl/cert.pem").linkname == "/etc/ssl/certs/ca-certificates.crt"
    assert layer.getmember("./home/nonroot").uid == 65532
    assert b"nonroot:x:65532:" in layer.extractfile("./etc/passwd").read()
    assert "./usr/bin/python3.13" in names
    assert not [name for name in names if name.startswith(("./usr/share/man/", "./usr/share/base-passwd/"))]


def test_only_the_python_has_a_user(cache):
    with pytest.raises(RecipeError, match="no user nonroot"):
        find_base("debian", "amd64", [], None, None, cache, nonroot=True)


def test_it_is_made_once_and_kept(busybox, cache):
    first = busybox()
    time = first.stat().st_mtime_ns
    assert busybox() == first
    assert first.stat().st_mtime_ns == time
    assert sorted(path.name for path in (cache / "base").iterdir()) == [".lock", "sha256"]


def test_another_tag(busybox):
    manifest, _, _ = saved(busybox(tag="localhost:5000/bb"))
    assert manifest["RepoTags"] == ["localhost:5000/bb:latest"]


@pytest.mark.parametrize(
    "manifest",
    [
        *(None, b"", b"{}", b"[]", b"\xff", b"[" * 100_000),
        *(b'{"revision": 4, "request": 7, "date": 1}', b'{"revision": 4, "request": {}, "date": 1, "sha256": 7}'),
    ],
)
def test_a_stored_one_with_an_odd_manifest_is_passed_over_and_made_again(busybox, cache, shop, manifest):
    path = busybox()
    content, beside = path.read_bytes(), path.with_name("manifest.json")
    beside.unlink()
    if manifest is not None:
        beside.write_bytes(manifest)
    assert find_base("busybox", "amd64", [], None, shop.mirror, cache) is None
    assert (busybox(), path.read_bytes()) == (path, content)
    assert find_base("busybox", "amd64", [], None, shop.mirror, cache) == path
    assert sorted(one.name for one in path.parent.parent.iterdir()) == [path.parent.name]


def test_a_stored_one_that_is_damaged_is_passed_over_and_made_again(busybox, cache, shop, noting):
    path = busybox()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")  # of the right size
    assert find_base("busybox", "amd64", [], None, shop.mirror, cache) is None
    assert (busybox(progress=noting), path.read_bytes()) == (path, content)
    assert noting.notes == ["the stored busybox:latest is damaged and is made again"]
    assert find_base("busybox", "amd64", [], None, shop.mirror, cache) == path


def test_of_two_that_are_stored_a_damaged_one_leaves_the_other(busybox, cache, shop, make):
    old = busybox()
    entry = make.entry("usr/bin/busybox", BUSYBOX, mode=0o755, mtime=1_700_000_100)
    shop.stanzas.clear()
    shop.add("busybox-static", "2.0", files=[entry])
    shop.publish(until=None)
    new = busybox()
    assert find_base("busybox", "amd64", [], None, shop.mirror, cache) == new
    new.write_bytes(b"")
    assert find_base("busybox", "amd64", [], None, shop.mirror, cache) == old


def test_one_that_cannot_be_read_is_passed_over(busybox, cache, shop, monkeypatch):
    busybox()

    def refuse(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("images.base_stored.sha256_file", refuse)
    assert find_base("busybox", "amd64", [], None, shop.mirror, cache) is None


def test_a_stored_one_without_its_image_is_made_again(busybox, cache, shop):
    path = busybox()
    content = path.read_bytes()
    path.unlink()
    assert find_base("busybox", "amd64", [], None, shop.mirror, cache) is None
    assert busybox().read_bytes() == content


@pytest.mark.parametrize("name", ["alpine", "python", "debian:13", "busybox:1.36", "debian/x", ""])
def test_unknown_names(name, cache):
    with pytest.raises(RecipeError) as error:
        find_base(name, "amd64", [], None, None, cache)
    assert "debian:trixie" in error.value.details
    assert error.value.resolution == "Type `hostvm image base debian:trixie`"


def test_busybox_takes_no_packages(cache):
    with pytest.raises(RecipeError, match="with packages"):
        find_base("busybox", "amd64", ["curl"], None, None, cache)


def test_a_login_of_the_mirror_is_in_nothing_that_is_kept(shop, busybox, cache):
    plain, shop.mirror = shop.mirror, shop.mirror.replace("://", "://anna:secret@")
    made = busybox()
    facts = (made.parent / "manifest.json").read_bytes()
    assert json.loads(facts)["request"]["mirror"] == plain
    assert b"secret" not in facts + made.read_bytes()
    assert find_base("busybox", "amd64", [], None, shop.mirror, cache) == made


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


def test_a_device_that_packages_scripts_made_is_told_with_a_way_out(tmp_path, make):
    (tmp_path / "t.tar").write_bytes(make.tar([make.entry("srv/null", type=tarfile.CHRTYPE)]))
    with pytest.raises(ImageError) as caught:
        read_configured(tmp_path / "t.tar")
    assert caught.value.brief == "/srv/null of the configured tree is neither file, folder nor link"
    assert "`--package`" in caught.value.resolution


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
