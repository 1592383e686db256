"""Notes on images: what several processes add at once is all kept."""

from __future__ import annotations

import threading

import pytest

from images import records
from images.errors import ImageError
from images.records import add_record, find_references, read_record, remove_record

ONE, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def meanwhile(monkeypatch):
    """Begin something in another thread the first time that notes are about to be written; waits for none."""
    begun = []
    write = records._write

    def start(work):
        def then_write(*args):
            if not begun:
                begun.append(threading.Thread(target=work))
                begun[0].start()
                begun[0].join(0.5)  # ended by then if nobody keeps it waiting; if somebody does, it ends afterwards
            write(*args)

        monkeypatch.setattr(records, "_write", then_write)
        return begun

    return start


def test_what_two_add_at_once_is_kept(tmp_path, meanwhile):
    begun = meanwhile(lambda: add_record(tmp_path, ONE, signatures=("theirs",), references=("r.test/theirs:1",)))
    add_record(tmp_path, ONE, signatures=("ours",), references=("r.test/ours:1",))
    begun[0].join()
    known = read_record(tmp_path, ONE)
    assert sorted(known.signatures) == ["ours", "theirs"]
    assert sorted(known.references) == ["r.test/ours:1", "r.test/theirs:1"]


def test_another_image_takes_its_reference_alone(tmp_path, meanwhile):
    """Whoever took a name from an image wrote its notes as they were before."""
    add_record(tmp_path, ONE, references=("r.test/a:1", "r.test/a:2"))
    begun = meanwhile(lambda: add_record(tmp_path, ONE, references=("r.test/a:3",)))
    add_record(tmp_path, OTHER, references=("r.test/a:1",))
    begun[0].join()
    assert find_references(tmp_path) == {ONE: ("r.test/a:2", "r.test/a:3"), OTHER: ("r.test/a:1",)}


def test_what_is_forgotten_meanwhile_stays_so(tmp_path, meanwhile):
    add_record(tmp_path, ONE, references=("r.test/a:1", "r.test/a:2"))
    begun = meanwhile(lambda: remove_record(tmp_path, ONE))
    add_record(tmp_path, OTHER, references=("r.test/a:1",))
    begun[0].join()
    assert find_references(tmp_path) == {OTHER: ("r.test/a:1",)}


def test_one_that_is_held_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_LOCK_SECONDS", 0.0)
    with records._lock(tmp_path), pytest.raises(ImageError, match="another process holds"):
        add_record(tmp_path, ONE, references=("r.test/a:1",))
