"""What users paste: the words of this system's shells."""

from __future__ import annotations

import pytest

from hostvm.platform.words import make_folder, quoted


@pytest.mark.parametrize(
    ("word", "posix", "windows"),
    [
        ("/data/a", "/data/a", "/data/a"),
        (r"C:\data\a", r"'C:\data\a'", r"C:\data\a"),
        (r"C:\Users\Jürgen\a", r"'C:\Users\Jürgen\a'", r"C:\Users\Jürgen\a"),
        (r"C:\Users\Max M\a", r"'C:\Users\Max M\a'", r'"C:\Users\Max M\a"'),
        ("C:\\a b\\", "'C:\\a b\\'", '"C:\\a b\\\\"'),
        (r"C:\a&b", r"'C:\a&b'", r'"C:\a&b"'),
        ("it's", "'it'\"'\"'s'", '"it\'s"'),
        ('a"b', "'a\"b'", r'"a\"b"'),
        (r"a\"b", r"""'a\"b'""", r'"a\\\"b"'),
        ("", "''", '""'),
        ("@file", "@file", '"@file"'),
    ],
)
def test_a_word_comes_out_as_it_was(word, posix, windows):
    assert quoted(word, "linux") == quoted(word, "darwin") == posix
    assert quoted(word, "win32") == windows


def test_a_folder_is_made_with_those_above_it():
    assert make_folder("/a b", "linux") == "mkdir -p '/a b'"
    assert make_folder("C:\\a b", "win32") == 'mkdir "C:\\a b"'


def test_advice_of_a_folder_that_is_not_shared_suits_windows(monkeypatch, tmp_path):
    """cmd took the quotation marks of a Unix shell for a part of the name."""
    from hostvm.errors import ForwardError
    from hostvm.shares.named import engine_path

    with pytest.raises(ForwardError) as error:
        engine_path("D:\\My Data", [], platform="win32")
    assert error.value.resolution.startswith('hostvm mount add "D:\\My Data"\n')
