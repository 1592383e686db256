from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from images import prune
from images.disk import temporary_folder, work_lock
from images.progress import NullProgress
from images.prune import YOUNG_SECONDS, find_unneeded, remove_unneeded
from images.records import add_record, read_record
from images.store import list_images, note_use, remove_image

GONE = 999_999_999
"""No process has this number: Linux counts to 4 million at most."""


@pytest.fixture
def three(make_image):
    """Oldest first; none came just now."""
    images = [make_image(root=bytes([n]) * 100, date=1_700_000_000 + n) for n in range(3)]
    for image in images:
        os.utime(image.path, (1_700_000_000, 1_700_000_000))
    return images


def test_the_newest_and_what_machines_boot_stay(three, make_image, cache):
    old, middle, new = three
    other = make_image("podman", date=1)
    add_record(cache, middle.digest, references=("r.test/a:1",))
    found = find_unneeded(cache, {old.digest})
    assert [(item.kind, item.path, item.size) for item in found] == [("image", middle.path, middle.size)]
    assert len(list_images(cache)) == 4, "finding removes nothing"
    assert remove_unneeded(cache, lambda: {old.digest}, NullProgress(), everything=False) == found
    assert {image.digest for image in list_images(cache)} == {old.digest, new.digest, other.digest}
    assert read_record(cache, middle.digest).references == ()


def test_what_was_asked_for_just_now_stays(three, make_image, cache):
    fresh = make_image("podman")
    note_use(three[0])
    remove_unneeded(cache, set, NullProgress(), everything=True)
    assert {image.digest for image in list_images(cache)} == {three[0].digest, fresh.digest}


def test_what_was_asked_for_stays_though_the_clock_is_set_back_then(three, cache):
    """A day; from then on it is of now, so that it does not stay for longer than others."""
    asked = three[0].path
    os.utime(asked, (time.time() + 86_400,) * 2)
    assert remove_unneeded(cache, set, NullProgress(), everything=False) != []
    assert [image.digest for image in list_images(cache)] == [three[2].digest, three[0].digest]
    assert asked.stat().st_mtime <= time.time()
    os.utime(asked, (time.time() - YOUNG_SECONDS - 1,) * 2)
    remove_unneeded(cache, set, NullProgress(), everything=False)
    assert [image.digest for image in list_images(cache)] == [three[2].digest]


def test_everything_is_all_but_what_machines_boot(three, cache):
    package = cache / "archive" / "sha256" / "ab" / "abc"
    package.parent.mkdir(parents=True)
    package.write_bytes(b"x" * 10)
    kinds = [item.kind for item in remove_unneeded(cache, lambda: {three[1].digest}, NullProgress(), everything=True)]
    assert kinds == ["image", "image", "download"]
    assert [image.digest for image in list_images(cache)] == [three[1].digest]
    assert not package.exists()


@pytest.fixture
def half_written(cache):
    """Notes on images that are being written, by a process that is gone and by one that lives."""
    folder = cache / "images" / "records"
    folder.mkdir(parents=True, exist_ok=True)
    gone, alive = folder / f"{'a' * 64}.{GONE}", folder / f"{'b' * 64}.{os.getppid()}"
    for path in (gone, alive, folder / f"{'c' * 64}.json", folder / f"notes.{GONE}"):
        path.write_bytes(b"12345")
    return gone, alive


def test_notes_of_a_process_that_was_killed_are_unfinished(cache, half_written):
    gone, alive = half_written
    found = remove_unneeded(cache, set, NullProgress(), everything=False)
    assert [(item.kind, item.path, item.size) for item in found] == [("unfinished", gone, 5)]
    assert (gone.exists(), alive.exists()) == (False, True)


def test_they_go_with_the_next_notes(make_image, cache, half_written):
    gone, alive = half_written
    image = make_image()
    add_record(cache, image.digest, references=("r.test/a:1",))
    assert read_record(cache, image.digest).references == ("r.test/a:1",)
    names = {f"{image.digest}.json", alive.name, f"{'c' * 64}.json", f"notes.{GONE}"}
    assert {path.name for path in gone.parent.iterdir()} == names


def test_what_was_left_unfinished(three, cache):
    left = [cache / "images" / ".new-abc" / "root", cache / "archive/partial/x.part", cache / "images/uploads/x.json"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    locks = [cache / "archive" / "partial" / "x.lock", cache / "images" / "uploads" / "x.lock"]
    for path in locks:
        path.touch()
    needed = {image.digest for image in three}
    found = remove_unneeded(cache, lambda: needed, NullProgress(), everything=False)
    assert [(item.kind, item.size) for item in found] == [("unfinished", 5)] * 3
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in locks), "somebody may hold it"


def test_a_damaged_image_goes_unless_a_machine_names_it(three, cache):
    for image in three[1:]:
        image.root.write_bytes(b"")
    found = remove_unneeded(cache, lambda: {three[2].digest}, NullProgress(), everything=False)
    assert [(item.kind, item.path) for item in found] == [("damaged image", three[1].path)]
    assert three[2].path.exists()


@pytest.mark.parametrize("folder", ["images", "base", "builder", "emulators", "firmware", "archive"])
def test_what_a_running_command_makes_is_waited_for(folder, cache):
    waits, done = threading.Event(), threading.Event()

    class Telling(NullProgress):
        def note(self, text):
            assert folder in text
            waits.set()

    def prune():
        remove_unneeded(cache, set, Telling(), everything=False)
        done.set()

    with work_lock(cache / folder, NullProgress()), temporary_folder(cache / folder) as work:
        threading.Thread(target=prune, daemon=True).start()
        assert waits.wait(10)
        assert work.exists()
        work.rename(cache / folder / "made")
    assert done.wait(10)
    assert (cache / folder / "made").is_dir()


def test_a_download_that_runs_is_left_alone(cache):
    partial = cache / "archive" / "partial"
    partial.mkdir(parents=True)
    for name in ("a", "b"):
        (partial / f"{name}.part").write_bytes(b"12345")
    with FileLock(partial / "a.lock"):
        found = remove_unneeded(cache, set, NullProgress(), everything=False)
    assert [item.path.name for item in found] == ["b.part"]
    assert (partial / "a.part").exists()


def test_what_others_finish_or_remove_while_it_is_measured(cache, monkeypatch):
    part, folder = cache / "archive" / "partial" / "a.part", cache / "base" / ".new-abc"
    for path in (part, folder / "root.tar", folder / "in" / "deep"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    seen, stat = set(), Path.stat

    def gone_after_the_first_look(path, **words):
        if path in (part, folder / "root.tar"):
            if path in seen:
                raise FileNotFoundError(path)
            seen.add(path)
        return stat(path, **words)

    monkeypatch.setattr(Path, "stat", gone_after_the_first_look)
    assert {item.path for item in find_unneeded(cache, set())} == {part, folder}


def test_an_image_that_is_removed_before_its_turn(three, cache, monkeypatch):
    first, second, _ = (image.digest for image in three)
    find = prune._find

    def find_and_lose(*words, **more):
        found = find(*words, **more)
        remove_image(cache, first)
        return found

    monkeypatch.setattr(prune, "_find", find_and_lose)
    removed = remove_unneeded(cache, set, NullProgress(), everything=False)
    assert [item.path.name for item in removed] == [second]


def test_no_folder_is_made_for_its_lock(cache):
    remove_unneeded(cache, set, NullProgress(), everything=True)
    assert [path.name for path in cache.iterdir()] == ["images"]
