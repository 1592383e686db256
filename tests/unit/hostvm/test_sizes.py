from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.sizes import GIB, MIB, format_size, human_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * GIB), ("512M", 512 * MIB), ("1.5g", 1536 * MIB), ("2 GB", 2 * GIB), ("2048k", 2 * MIB)],
)
def test_sizes_with_a_unit_are_bytes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "why"), [("10", "needs a unit"), ("ten", "is not a size"), ("1K", "less than 1MiB")])
def test_a_wrong_size_says_why(text, why):
    with pytest.raises(ValueError, match=why):
        parse_size(text)


@given(st.integers(1, 1 << 24))
def test_what_is_written_is_read_back(mib):
    assert parse_size(format_size(mib * MIB)) == mib * MIB


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (245 * MIB, "245 MiB"), (3 << 40, "3 TiB")])
def test_sizes_for_people(size, text):
    assert human_size(size) == text
