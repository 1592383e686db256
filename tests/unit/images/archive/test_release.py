from __future__ import annotations

from datetime import UTC, datetime

import pytest

from images.archive.release import IndexFile, parse_release
from images.errors import MirrorError

TEXT = """\
Suite: stable
Codename: trixie
Date: Sat, 21 Nov 2026 09:15:44 UTC
Acquire-By-Hash: yes
MD5Sum:
 0000 1 main/binary-amd64/Packages.xz
SHA256:
 be3d 9679304 main/binary-amd64/Packages.xz
 5b9a 9614816 main/binary-arm64/Packages.xz
"""


def test_fields_and_sha256_list():
    release = parse_release(TEXT)
    assert release.names == {"stable", "trixie"}
    assert release.date == datetime(2026, 11, 21, 9, 15, 44, tzinfo=UTC)
    assert release.valid_until is None
    assert release.by_hash
    assert release.index("amd64") == IndexFile("main/binary-amd64/Packages.xz", 9679304, "be3d")


@pytest.mark.parametrize("date", ["yesterday", "Fri, 31 Dec 9999 23:59:59 -0100"])
def test_a_date_that_is_none(date):
    with pytest.raises(MirrorError, match="cannot be read"):
        parse_release(f"Suite: x\nDate: {date}\n")
