"""A file that others append to, read as it grows, is cut, or begun anew. Real files."""

from __future__ import annotations

import pytest

from hostvm.growing import PIECE, Growing


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "log"
    made.write_bytes(b"one\n")
    return made


def append(path, text):
    with path.open("ab") as file:
        file.write(text)


def read(growing):
    return b"".join(growing.pieces())


def test_what_is_new_comes_once(path):
    growing = Growing(path)
    assert read(growing) == b"one\n"
    append(path, b"two")
    assert read(growing) == b"two"
    assert read(growing) == b""
    assert (growing.place, growing.begun) == (7, 0)


def test_what_is_there_can_be_skipped(path):
    growing = Growing(path)
    growing.skip()
    assert read(growing) == b""
    append(path, b"two")
    assert read(growing) == b"two"


def test_a_file_that_comes_later_is_read_whole(tmp_path):
    growing = Growing(tmp_path / "none")
    growing.skip()
    with pytest.raises(FileNotFoundError):
        read(growing)
    (tmp_path / "none").write_bytes(b"text")
    assert read(growing) == b"text"


def test_much_comes_in_pieces(path):
    append(path, b"x" * (3 * PIECE))
    assert [len(piece) for piece in Growing(path).pieces()] == [PIECE] * 3 + [4]


@pytest.mark.parametrize("again", [b"", b"tw", b"other words, and more of them\n"])
def test_a_file_that_was_begun_anew_in_place_is_read_from_its_start(path, again):
    """Also when it is longer than it was by the time somebody looks."""
    growing = Growing(path)
    read(growing)
    path.write_bytes(again)
    assert read(growing) == again
    assert (growing.place, growing.begun) == (len(again), 1)
    append(path, b"more")
    assert read(growing) == b"more"


@pytest.mark.parametrize("moved", [True, False])
def test_what_was_not_read_before_comes_from_where_it_was_put(path, moved):
    before = path.with_name("log.1")
    growing = Growing(path, before)
    read(growing)
    append(path, b"last words\n")
    before.write_bytes(path.read_bytes())
    if moved:
        path.unlink()
    path.write_bytes(b"new\n")
    assert read(growing) == b"last words\nnew\n"


def test_what_another_file_held_is_not_taken_for_it(path):
    path.with_name("log.1").write_bytes(b"an older one\n")
    growing = Growing(path, path.with_name("log.1"))
    read(growing)
    path.write_bytes(b"new\n")
    assert read(growing) == b"new\n"
