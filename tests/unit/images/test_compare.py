from __future__ import annotations

import pytest

from images import compare
from images.archive import archive as archives
from images.compare import Outdated, diff, outdated
from images.progress import NullProgress
from images.prune import remove_unneeded


def test_two_images(make_image):
    old = make_image(packages=(("a", "1"), ("b", "1"), ("c", "1")), kernel_release="6.1")
    new = make_image(packages=(("b", "1"), ("c", "2"), ("d", "5")), kernel_release="6.2", root=b"bigger" * 1000)
    found = diff(old.manifest, new.manifest)
    assert (found.added, found.removed, found.changed) == ((("d", "5"),), (("a", "1"),), (("c", "1", "2"),))
    assert found.facts == (("kernel_release", "6.1", "6.2"),)
    assert found.size == (old.size, new.size)
    assert not found.is_empty
    assert diff(old.manifest, old.manifest).is_empty


def test_what_recipes_added_of_other_makers(make_image):
    def made(**sums):
        return make_image(
            downloads=[{"name": name, "sha256": one * 64, "url": "", "paths": ["x"]} for name, one in sums.items()]
        )

    found = diff(made(gone="a", other="b", same="c").manifest, made(other="d", same="c", new="e").manifest)
    assert found.changed == (("other", "sha256:" + "b" * 12, "sha256:" + "d" * 12),)
    assert (found.added, found.removed) == ((("new", "sha256:" + "e" * 12),), (("gone", "sha256:" + "a" * 12),))


def test_a_download_hides_no_package_of_its_name_nor_another_download(make_image):
    def made(version, *sums):
        downloads = [{"name": "a", "sha256": one * 64, "url": "", "paths": [one]} for one in sums]
        return make_image(packages=(("a", version),), downloads=downloads).manifest

    def sha(one):
        return "sha256:" + one * 12

    assert diff(made("1"), made("1", "a", "b")).added == (("a", sha("a")), ("a", sha("b")))
    assert diff(made("1", "a"), made("1")).removed == (("a", sha("a")),)
    assert diff(made("1", "a"), made("2", "a")).changed == (("a", "1", "2"),)
    assert diff(made("1", "a", "b"), made("1", "c", "b")).changed == (("a", sha("a"), sha("c")),)
    both = diff(made("1", "a"), made("2", "c", "a"))
    assert set(both.changed) == {("a", "1", "2"), ("a", sha("a"), sha("c"))}
    assert both.added == (("a", sha("a")),)


def test_what_the_archive_has_newer(make_image, archive, fetcher, cache):
    image = make_image(packages=(("same", "1.0"), ("older", "1.0"), ("gone", "1.0"), ("ours", "2.0~rc1")))
    for name, version in (("same", "1.0"), ("older", "1.0+deb13u2"), ("ours", "1.9"), ("unrelated", "9")):
        archive.add(name, version)
    archive.publish(until=None)
    found = outdated(
        image.manifest, archive.mirror, cache, NullProgress(), pockets=(), keys=archive.keys, fetcher=fetcher
    )
    assert found == [Outdated("older", "1.0", "1.0+deb13u2", security=False)]


def test_the_security_pocket_is_marked(make_image, archive, fetcher, cache):
    image = make_image(packages=(("openssl", "3.0"), ("bash", "5.0")))
    archive.add("bash", "5.1")
    archive.publish(until=None)
    security = type(archive)(archive.root, archive.key, suite="trixie-security")
    security.path = archive.path
    write = security.write
    security.write = lambda path, data: write(f"../debian-security/{path}", data)
    security.add("openssl", "3.1")
    security.publish(until=None, Suite="stable-security")
    found = outdated(image.manifest, archive.mirror, cache, NullProgress(), keys=archive.keys, fetcher=fetcher)
    assert found == [Outdated("bash", "5.0", "5.1", security=False), Outdated("openssl", "3.0", "3.1", security=True)]


def test_indexes_alone_are_fetched(make_image, archive, fetcher, cache, adapter):
    archive.add("a", "2")
    archive.publish(until=None)
    outdated(
        make_image().manifest, archive.mirror, cache, NullProgress(), pockets=(), keys=archive.keys, fetcher=fetcher
    )
    assert not [path for path, _ in adapter.requests if path.endswith(".deb")]


def test_the_indexes_stay_until_they_are_read(make_image, archive, fetcher, cache, monkeypatch):
    class Impatient(NullProgress):
        def note(self, text):
            raise TimeoutError(text)  # somebody works there

    def prune_first(*words):
        with pytest.raises(TimeoutError, match="archive"):
            remove_unneeded(cache, set, Impatient(), everything=True)
        return read(*words)

    read = archives._read_index
    monkeypatch.setattr(archives, "_read_index", prune_first)
    archive.add("openssl", "4.0")
    archive.publish(until=None)
    found = outdated(
        make_image().manifest, archive.mirror, cache, NullProgress(), pockets=(), keys=archive.keys, fetcher=fetcher
    )
    assert [one.name for one in found] == ["openssl"]


def test_a_mirror_that_is_updated_meanwhile_is_asked_once_more(make_image, archive, fetcher, cache, adapter, noting):
    def update():
        archive.add("libc6", "3.0")
        archive.publish(until=None)

    archive.add("openssl", "4.0")
    archive.publish(until=None, Acquire_By_Hash="no")
    adapter.before["Packages"] = update
    found = outdated(
        make_image().manifest, archive.mirror, cache, noting, pockets=(), keys=archive.keys, fetcher=fetcher
    )
    assert [one.name for one in found] == ["libc6", "openssl"]
    assert len(noting.notes) == 1


@pytest.mark.parametrize("key", compare.FACTS)
def test_every_fact_is_compared(make_image, key):
    old = make_image().manifest
    assert [row[0] for row in diff(old, old | {key: "other"}).facts] == [key]
