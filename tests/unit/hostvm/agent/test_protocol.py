import io
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.agent import protocol


def read_all(data: bytes):
    stream = io.BufferedReader(io.BytesIO(data))
    found = []
    while (frame := protocol.read_frame(stream)) is not None:
        found.append(frame)
    return found


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=8))
def test_frames_come_back(frames):
    assert read_all(b"".join(protocol.frame(kind, payload) for kind, payload in frames)) == frames


@given(st.integers(0, 40))
def test_an_end_inside_a_frame_is_an_end(cut):
    data = protocol.frame(protocol.STDOUT, b"x" * 36)
    assert read_all(data[:cut]) == []


def test_golden_bytes():
    assert protocol.frame(protocol.STDIN, b"ab") == b"\x04\0\0\0\x02ab"
    assert protocol.number(protocol.EXIT, 137) == b"\x0b\0\0\0\x04\0\0\0\x89"
    assert protocol.resize(24, 80) == b"\x0a\0\0\0\x04\0\x18\0\x50"
    assert protocol.control(protocol.OK, {"a": 1}) == b'\x02\0\0\0\x07{"a":1}'


def test_too_long_is_refused():
    with pytest.raises(protocol.ProtocolError):
        read_all(b"\x04\xff\xff\xff\xff")


def test_undecodable_words_survive():
    words = [os.fsdecode(b"\xff\xfe"), "é", "a\nb", ""]
    (_, payload), *_ = read_all(protocol.control(protocol.HELLO, {"argv": words}))
    assert protocol.parse(payload)["argv"] == words


_FACTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), _FACTS, max_size=4))
def test_our_json_is_what_pythons_own_reads(facts):
    (_, payload), *_ = read_all(protocol.control(protocol.OK, facts))
    assert json.loads(payload) == facts
    assert protocol.parse(payload) == facts


def test_what_json_has_no_word_for_is_refused():
    with pytest.raises(TypeError):
        protocol.control(protocol.OK, {"a": {1}})


@pytest.mark.parametrize("payload", [b"", b"x", b"[1]", b"\xff", b"12345"])
def test_bad_payloads(payload):
    with pytest.raises(protocol.ProtocolError):
        protocol.parse(payload)
    with pytest.raises(protocol.ProtocolError):
        protocol.parse_number(payload)
    with pytest.raises(protocol.ProtocolError):
        protocol.parse_size(payload)


def test_huge_sizes_are_cut():
    assert protocol.parse_size(protocol.resize(10**6, 1)[5:]) == (65535, 1)
