"""Fields of `--mount`, as docker's own reader has them: each of these was given to its client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.csv_fields import join, split


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("type=bind,src=/a,dst=/c,ro", ["type=bind", "src=/a", "dst=/c", "ro"]),
        ('type=bind,"src=/a,b",dst=/c', ["type=bind", "src=/a,b", "dst=/c"]),
        ('"src=/a ""b"""', ['src=/a "b"']),
        ("a,,b,", ["a", "", "b", ""]),
        ("a, b", ["a", " b"]),
        ("a,b\nc", ["a", "b"]),
        ('"a\nb",c', ["a\nb", "c"]),
        ('src=/a"b,dst=/c', None),
        ('"src=/a"x,dst=/c', None),
        ('type=bind,"src=/a', None),
        ('src="/a"', None),
        (' "a"', None),
    ],
)
def test_fields(text, fields):
    assert split(text) == fields


@given(st.lists(st.text(alphabet='ab=/, "\n'), min_size=1))
def test_what_is_joined_has_the_same_fields(fields):
    assert split(join(fields)) == fields
