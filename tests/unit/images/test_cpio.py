from __future__ import annotations

from images.cpio import CpioEntry, write_cpio

GOLDEN = (
    b"070701" + b"00000001000041ED00000000000000000000000200000000"
    b"0000000000000000000000000000000000000000000000040000000" + b"0" + b"dev\0" + b"\0\0"
    b"070701" + b"00000002000021800000000000000000000000010000000000000000"
    b"000000000000000000000005000000010000000C00000000" + b"dev/console\0" + b"\0\0"
)


def test_golden():
    data = write_cpio([CpioEntry.folder("dev"), CpioEntry.char_device("/dev/console", 5, 1)])
    assert data.startswith(GOLDEN)
    assert data[len(GOLDEN) :].startswith(b"070701")
    assert b"TRAILER!!!\0" in data
    assert len(data) % 512 == 0


def entries(data: bytes) -> list[tuple[str, int, bytes]]:
    """Read an archive back: (name, mode, content), by the format's description."""
    found, at = [], 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        at += -(-(110 + fields[11]) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, fields[1], data[at : at + fields[6]]))
        at += -(-fields[6] // 4) * 4


def test_contents_links_and_missing_folders():
    data = write_cpio(
        [
            CpioEntry.file("bin/busybox", b"12345", 0o755),
            CpioEntry.link("bin/sh", "busybox"),
            CpioEntry.file("bin/z", b""),
            CpioEntry.folder("bin"),
        ]
    )
    assert entries(data) == [
        ("bin", 0o40755, b""),
        ("bin/busybox", 0o100755, b"12345"),
        ("bin/sh", 0o120777, b"busybox"),
        ("bin/z", 0o100644, b""),
    ]


def test_a_second_archive_may_follow():
    first, second = write_cpio([CpioEntry.file("a", b"x")]), write_cpio([CpioEntry.file("b", b"y")])
    assert len(first) % 4 == 0
    assert entries((first + second)[len(first) :]) == [("b", 0o100644, b"y")]


def test_owners():
    data = write_cpio([CpioEntry.file("a", b"", 0o600, 7, 8)])
    assert data[22:38] == b"0000000700000008"
