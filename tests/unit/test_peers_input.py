"""Every parser of what others send, against bytes of any kind. Longer, and led by coverage: `make fuzz`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

from seeds import SEEDS
from targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_well_formed_input_and_its_pieces(name):
    for seed in SEEDS[name]:
        for end in range(0, len(seed) + 1, max(1, len(seed) // 40)):
            TARGETS[name](seed[:end])


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name):
    @settings(max_examples=40)
    @given(st.binary(max_size=600))
    def check(data):
        TARGETS[name](data)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_well_formed_input_with_damage(name):
    @settings(max_examples=60)
    @given(st.sampled_from(SEEDS[name]), st.integers(0, 5000), st.binary(max_size=12), st.integers(0, 12))
    def check(seed, place, piece, gone):
        place %= len(seed) + 1
        TARGETS[name](seed[:place] + piece + seed[place + gone :])

    check()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("qmp", b'{"QMP": {"version": 7}}\n{"return": {}}\n{"error": "no"}\n'),
        ("qmp", b"{\n"),
        ("qmp", b"[" * 50_000 + b"\n"),
        ("qmp", b'{"QMP": {}}\n{"event": {}}\n'),
        ("agent_frames", b"\x02\0\0\xc3\x50" + b"[" * 50_000),
        ("engine_http", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
        ("engine_http", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"),
        ("engine_http", b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("release", b"SHA256:\n 12 x"),
        ("release", b"Date: 14, 99999999999999999999 Oct 1 1:1:1"),
        ("release", b"Date: Fri, 31 Dec 9999 23:59:59 -0100"),
        ("bundle", b'{"format": 1, "members": [["wheels/a.whl", Infinity, ""]], "signatures": {}, "notes": {}}'),
        ("packages", b"Package: bash\nSize: many\n"),
        ("packages", b"Package: sh\nProvides: =\n"),
        ("deb", b"!<arch>\n" + b"control.tar" + b" " * 37 + b"-1        `\n"),
    ],
)
def test_what_was_once_found(name, data):
    TARGETS[name](data)
