from __future__ import annotations

import pytest

from images.progress import NullProgress
from images.prune import find_unneeded, remove_unneeded
from images.records import add_record, read_record
from images.store import list_images


@pytest.fixture
def three(make_image):
    """Oldest first."""
    return [make_image(root=bytes([n]) * 100, date=1_700_000_000 + n) for n in range(3)]


def test_the_newest_and_what_machines_boot_stay(three, make_image, cache):
    old, middle, new = three
    other = make_image("podman", date=1)
    add_record(cache, middle.digest, references=("r.test/a:1",))
    found = find_unneeded(cache, {old.digest})
    assert [(item.kind, item.path, item.size) for item in found] == [("image", middle.path, middle.size)]
    assert len(list_images(cache)) == 4, "finding removes nothing"
    assert remove_unneeded(cache, {old.digest}, NullProgress(), everything=False) == found
    assert {image.digest for image in list_images(cache)} == {old.digest, new.digest, other.digest}
    assert read_record(cache, middle.digest).references == ()


def test_everything_is_all_but_what_machines_boot(three, cache):
    package = cache / "archive" / "sha256" / "ab" / "abc"
    package.parent.mkdir(parents=True)
    package.write_bytes(b"x" * 10)
    kinds = [item.kind for item in remove_unneeded(cache, {three[1].digest}, NullProgress(), everything=True)]
    assert kinds == ["image", "image", "download"]
    assert [image.digest for image in list_images(cache)] == [three[1].digest]
    assert not package.exists()


def test_what_was_left_unfinished(three, cache):
    left = [cache / "images" / ".new-abc" / "root", cache / "archive/partial/x.part", cache / "images/uploads/x.json"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    (cache / "archive" / "partial" / "x.lock").touch()
    needed = {image.digest for image in three}
    found = remove_unneeded(cache, needed, NullProgress(), everything=False)
    assert [(item.kind, item.size) for item in found] == [("unfinished", 5)] * 3
    assert not any(path.exists() for path in left)
    assert (cache / "archive" / "partial" / "x.lock").exists(), "somebody may hold it"


def test_a_damaged_image_goes_unless_a_machine_names_it(three, cache):
    for image in three[1:]:
        image.root.write_bytes(b"")
    found = remove_unneeded(cache, {three[2].digest}, NullProgress(), everything=False)
    assert [(item.kind, item.path) for item in found] == [("damaged image", three[1].path)]
    assert three[2].path.exists()
