"""The probe's program, checked by what its bytes mean; that it runs is proved by tests/vm."""

from __future__ import annotations

import struct

import pytest

from hostvm.accel.probe_init import MARK, probe_initramfs, probe_program

TEXT = f"{MARK}\n".encode()
CODE = 64 + 56


@pytest.mark.parametrize(("arch", "machine"), [("amd64", 62), ("arm64", 183)])
def test_it_is_an_elf_whose_only_segment_is_the_whole_file(arch, machine):
    program = probe_program(arch)
    assert program[:6] == b"\x7fELF\x02\x01"
    kind, architecture = struct.unpack_from("<HH", program, 16)
    entry, headers = struct.unpack_from("<QQ", program, 24)
    assert (kind, architecture, headers) == (2, machine, 64)
    load, rights, offset, address, _, in_file, in_memory, align = struct.unpack_from("<IIQQQQQQ", program, 64)
    assert (load, rights, offset, in_file, in_memory) == (1, 5, 0, len(program), len(program))
    assert address % align == offset % align
    assert entry == address + CODE


def test_amd64_points_at_its_text():
    program = probe_program("amd64")
    instruction = program.index(b"\x48\x8d\x35")
    (distance,) = struct.unpack_from("<i", program, instruction + 3)
    assert program[instruction + 7 + distance :] == TEXT
    assert struct.unpack_from("<BI", program, instruction + 7) == (0xBA, len(TEXT))


def test_arm64_points_at_its_text():
    program = probe_program("arm64")
    words = struct.unpack_from(f"<{(len(program) - len(TEXT) - CODE) // 4}I", program, CODE)
    (at,) = [index for index, word in enumerate(words) if word & 0x9F00001F == 0x10000001]
    distance = (words[at] >> 5 & 0x7FFFF) << 2 | words[at] >> 29 & 3
    assert program[CODE + 4 * at + distance :] == TEXT
    assert words.count(0xD4000001) == 3


def test_the_archive_has_a_console_to_write_to():
    archive = probe_initramfs("amd64")
    assert b"dev/console\0" in archive
    assert probe_program("amd64") in archive
