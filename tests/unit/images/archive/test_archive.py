"""The chain of trust: each of its links, edited, is refused."""

from __future__ import annotations

import contextlib
import lzma
from datetime import timedelta

import pytest

from images.archive import open_archive, suites_of
from images.archive.archive import Suite
from images.archive.keys import load_pinned_keys, verify_signed
from images.errors import HashError, MirrorError, OutOfDateError, SignatureError
from images.progress import NullProgress


@pytest.fixture
def opened(archive, fetcher):
    def open_it(**changes):
        settings = {"keys": archive.keys, "now": archive.now} | changes
        return open_archive([Suite("trixie", archive.mirror)], "amd64", fetcher, NullProgress(), **settings)

    return open_it


@pytest.fixture
def shop(archive, make):
    archive.add("hello", files=[make.entry("usr/bin/hello", b"hi")], Depends="libc6")
    archive.add("libc6")
    archive.publish()
    return archive


def test_a_signed_archive_gives_its_packages(shop, opened, cache):
    found = opened()
    packages = found.resolve(["hello"])
    paths = found.fetch(packages, NullProgress())
    assert [package.name for package in packages] == ["hello", "libc6"]
    assert [path.read_bytes() for path in paths] == [
        shop.path(f"pool/{name}_1.0_amd64.deb").read_bytes() for name in ("hello", "libc6")
    ]
    assert paths[0] == cache / "archive" / "sha256" / packages[0].sha256[:2] / packages[0].sha256


def test_an_edited_inrelease_is_refused(shop, opened, cache):
    path = shop.path("dists/trixie/InRelease")
    path.write_bytes(path.read_bytes().replace(b"Codename: trixie", b"Codename: trixiE"))
    with pytest.raises(SignatureError) as error:
        opened()
    assert error.value.brief == f"the signature of {shop.mirror}/dists/trixie/InRelease is not good"
    assert error.value.resolution
    assert shop.keys[0].fingerprint in error.value.details
    assert not list(cache.rglob("*.part"))


def test_an_edited_packages_index_is_refused(shop, opened, cache):
    for path in [
        shop.path("dists/trixie/main/binary-amd64/Packages.xz"),
        *shop.path("dists/trixie/main/binary-amd64/by-hash/SHA256").iterdir(),
    ]:
        text = lzma.decompress(path.read_bytes()).replace(b"Package: hello", b"Package: hellp")
        path.write_bytes(lzma.compress(text))
    with pytest.raises(HashError, match="not what the signed index promises"):
        opened()
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("only", [None, {"hello"}])
def test_a_packages_index_that_is_not_utf_8_is_refused(shop, opened, only):
    shop.stanzas[0] += "Description: \udcff\n"
    shop.publish()
    with pytest.raises(HashError, match="a package index cannot be read"):
        opened(only=only)


def test_an_edited_deb_is_refused(shop, opened, cache):
    found = opened()
    path = shop.path("pool/hello_1.0_amd64.deb")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    packages = found.resolve(["hello"])
    with pytest.raises(HashError) as error:
        found.fetch(packages, NullProgress())
    assert error.value.brief == "hello_1.0_amd64.deb is not what the signed index promises"
    assert not found.fetcher.path(packages[0].sha256).exists()
    assert not list(cache.rglob(f"{packages[0].sha256}.part"))
    data[-1] ^= 1
    path.write_bytes(data)  # the mirror is good again: a retry works
    assert found.fetch(packages, NullProgress())[0].read_bytes() == bytes(data)


def test_a_stranger_cannot_sign(shop, opened, stranger_key):
    shop.publish(key=stranger_key)
    with pytest.raises(SignatureError, match="is not good"):
        opened()


def test_one_pinned_key_among_several_is_enough(shop, opened, stranger_key):
    keys = [stranger_key.extract_certificate(), *shop.keys]
    assert opened(keys=keys).resolve(["libc6"])


def test_an_unsigned_release_is_refused(shop, opened):
    shop.path("dists/trixie/InRelease").write_text("Suite: stable\nCodename: trixie\n")
    with pytest.raises(SignatureError):
        opened()


def test_text_outside_the_signature_is_not_read(shop):
    data = shop.path("dists/trixie/InRelease").read_bytes()
    forged = b"Codename: forged\n\n" + data + b"\nCodename: forged\n"
    with contextlib.suppress(SignatureError):  # refusing it altogether is as good
        assert b"forged" not in verify_signed(forged, shop.keys, "InRelease")


def test_an_expired_release_is_refused(shop, opened):
    with pytest.raises(OutOfDateError) as error:
        opened(now=shop.now + timedelta(days=8))
    assert "is out of date" in error.value.brief
    assert "`date -u`" in error.value.resolution


def test_a_release_without_an_end_is_accepted(shop, opened):
    shop.publish(until=None)
    assert opened(now=shop.now + timedelta(days=800)).resolve(["libc6"])


def test_a_release_from_the_future_is_refused(shop, opened):
    with pytest.raises(SignatureError, match="comes from the future"):
        opened(now=shop.now - timedelta(days=3))


def test_a_release_of_another_suite_is_refused(shop, opened):
    shop.publish(Codename="bookworm", Suite="oldstable")
    with pytest.raises(SignatureError) as error:
        opened()
    assert error.value.details == "Asked for trixie, it names bookworm, oldstable."


def test_an_architecture_the_suite_lacks(shop, fetcher):
    suites = [Suite("trixie", shop.mirror)]
    with pytest.raises(MirrorError, match="no packages for arm64"):
        open_archive(suites, "arm64", fetcher, NullProgress(), keys=shop.keys, now=shop.now)


def test_a_mirror_without_the_suite(archive, opened):
    with pytest.raises(MirrorError) as error:
        opened()
    assert error.value.brief == f"there is no {archive.mirror}/dists/trixie/InRelease"


def test_the_newest_version_of_all_suites_wins(shop, fetcher, signing_key, tmp_path):
    from dataclasses import replace

    security = replace(shop, suite="trixie-security", stanzas=[])
    security.add("libc6", "1.0+deb13u1")
    security.publish()
    suites = [Suite("trixie", shop.mirror), Suite("trixie-security", shop.mirror)]
    found = open_archive(suites, "amd64", fetcher, NullProgress(), keys=shop.keys, now=shop.now)
    assert [(p.name, p.version) for p in found.resolve(["hello"])] == [("hello", "1.0"), ("libc6", "1.0+deb13u1")]


def test_security_lies_beside_the_main_archive():
    assert suites_of("trixie", "http://deb.debian.org/debian/", ["security", "updates"]) == [
        Suite("trixie", "http://deb.debian.org/debian"),
        Suite("trixie-security", "http://deb.debian.org/debian-security"),
        Suite("trixie-updates", "http://deb.debian.org/debian"),
    ]
    assert suites_of("trixie", "http://cache/deb", ["security"])[1].url == "http://cache/deb-security"


def test_the_shipped_keys_are_debians():
    prints = {cert.fingerprint for cert in load_pinned_keys()}
    assert prints == {
        "b8b80b5b623eab6ad8775c45b7c5d7d6350947f8",
        "05ab90340c0c5e797f44a8c8254cf3b5aec0a8f0",
        "4d64fec119c2029067d6e791f8d2585b8783d481",
        "04b54c3cdca79751b16bc6b5225629df75b188bd",
        "5e04a1e3223a19a20706e20f9904613d4cce68c6",
        "41587f7db8c774bccf131416762f67a0b2c39de4",
    }
