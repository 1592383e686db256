from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.sizes import GIB, MIB, format_size, human_size, parse_size
from hostvm.spec import read_settings


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * GIB), ("512M", 512 * MIB), ("1.5g", 1536 * MIB), ("2 GB", 2 * GIB), ("2048k", 2 * MIB)],
)
def test_sizes_with_a_unit_are_bytes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10", "needs a unit"),
        ("ten", "is not a size"),
        ("1K", "less than 1MiB"),
        ("1025T", "is more than 1024TiB"),
        pytest.param("9" * 400 + "G", "is more than 1024TiB", id="400 digits"),
        ("5\u212a", "is not a size"),  # the sign for kelvin, whose lower case is k
        ("\u0663GiB", "is not a size"),  # a digit all the same
    ],
)
def test_a_wrong_size_says_why(text, why):
    with pytest.raises(ValueError, match=why):
        parse_size(text)


@given(st.integers(1, 1 << 24))
def test_what_is_written_is_read_back(mib):
    assert parse_size(format_size(mib * MIB)) == mib * MIB


NEAR = st.builds(
    "".join,
    st.lists(st.sampled_from([*"0179.,-+eE KMGTkmgtibB\n\t", "\u212a", "\u0131", "\u0663", "inf", "nan", "9" * 400])),
)
"""Texts that look like sizes, or nearly."""


GARBAGE = st.one_of(NEAR, st.text(), st.none(), st.integers(), st.floats(), st.binary(), st.lists(st.integers()))


def read(value):
    """The size, or why it is none."""
    try:
        return parse_size(value), ""
    except ValueError as fault:
        return 0, str(fault)


@given(GARBAGE)
def test_garbage_is_a_size_or_no_size_and_says_why(garbage):
    size, why = read(garbage)
    if why:
        assert re.match(r"needs a unit|is not a size|is less than|is more than", why)
    else:
        assert size >= MIB
        assert size % MIB == 0
        assert parse_size(format_size(size)) == size


@given(st.sampled_from(["memory", "disk"]), GARBAGE)
def test_garbage_in_a_setting_is_told_with_its_key(key, garbage):
    values, faults = read_settings({key: garbage})
    assert len(values) + len(faults) == 1
    assert [fault.path for fault in faults] == [(key,)] * len(faults)
    assert all(fault.why for fault in faults)


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (245 * MIB, "245 MiB"), (3 << 40, "3 TiB")])
def test_sizes_for_people(size, text):
    assert human_size(size) == text
