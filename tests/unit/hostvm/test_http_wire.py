"""Where a body ends that comes in pieces, and what it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.http_wire import BadRequestError, Body, body_size

CHUNKED = b"5\r\nhello\r\n00a ;x=y\r\n, chunks\r\n\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n"


@given(
    st.sampled_from([(5, b"hello", b"hello"), (None, CHUNKED, b"hello, chunks\r\n!"), (None, b"0\r\n\r\n", b"")]),
    st.lists(st.integers(0, 100), max_size=8),
    st.booleans(),
)
def test_a_body_ends_where_it_says_however_it_is_cut(case, cuts, keep):
    size, data, says = case
    body = Body(size, keep=keep)
    sent = data + b"POST / HTTP/1.1\r\n"
    places = sorted({cut % len(sent) for cut in cuts})
    taken = 0
    for begin, end in zip([0, *places], [*places, len(sent)], strict=True):
        assert not body.done or begin >= len(data)
        taken += body.feed(sent[:end], begin) - begin
    assert (body.done, taken) == (True, len(data))
    assert bytes(body.content) == (says if keep else b"")


def test_none_is_done_at_once():
    assert Body(0).done
    assert not Body(None).done


def test_what_is_not_wanted_any_more_is_not_kept():
    body = Body(None, keep=True)
    body.feed(b"5\r\nhel")
    body.forget()
    body.feed(b"lo\r\n0\r\n\r\n")
    assert (body.done, body.content) == (True, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-2\r\n",
        b"1_0\r\n",
        b"+5\r\n",
        b"0x5\r\n",
        b"5\nhello\r\n",
        b"5" * 5000,
        b"f" * 16 + b"\r\n",
    ],
)
def test_damaged_chunks(data):
    with pytest.raises(BadRequestError):
        Body(None).feed(data)


@pytest.mark.parametrize("sizes", [["1", "2"], ["-1"], ["+1"], ["1_0"], [""], ["\u00b2"], ["9" * 19], ["9" * 5000]])
def test_lengths_that_are_none(sizes):
    with pytest.raises(BadRequestError):
        body_size({"content-length": sizes})


@pytest.mark.parametrize(("sizes", "size"), [([], 0), (["7"], 7), (["7", "7"], 7), (["9" * 18], 10**18 - 1)])
def test_lengths(sizes, size):
    assert body_size({"content-length": sizes} if sizes else {}) == size
