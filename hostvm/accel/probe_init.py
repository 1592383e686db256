"""The smallest program that proves a running guest: a static ELF made of a few instructions, as /init.

It writes one line on the console, waits until that is out, and restarts; with QEMU's -no-reboot that is the end.
"""

from __future__ import annotations

import struct

from images.cpio import CpioEntry, write_cpio

MARK = "hostvm-probe: user space runs"
"""The line that proves it."""

_BASE = 0x400000
_HEADERS = 64 + 56
_MACHINE = {"amd64": 62, "arm64": 183}
_REBOOT = (0xFEE1DEAD, 0x28121969, 0x01234567)  # reboot(2): two magic numbers, then "restart"
_DRAIN = (1, 0x5409, 1)  # ioctl(1, TCSBRK, 1): wait until all output was sent


def probe_initramfs(arch: str) -> bytes:
    """A cpio archive with /init and the console it writes to."""
    return write_cpio(
        [CpioEntry.char_device("dev/console", 5, 1), CpioEntry.file("init", probe_program(arch), mode=0o755)]
    )


def probe_program(arch: str) -> bytes:
    """The program as a static ELF64 executable for "amd64" or "arm64"."""
    text = f"{MARK}\n".encode()
    code = _amd64(text) if arch == "amd64" else _arm64(text)
    size = _HEADERS + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    entry = _BASE + _HEADERS
    header = identity + struct.pack("<HHIQQQIHHHHHH", 2, _MACHINE[arch], 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    return header + segment + code


def _amd64(text: bytes) -> bytes:
    def call(number: int, first: int, second: bytes, third: int) -> bytes:
        """mov eax; mov edi; (rsi); mov edx; syscall."""
        return struct.pack("<BIBI", 0xB8, number, 0xBF, first) + second + struct.pack("<BI", 0xBA, third) + b"\x0f\x05"

    def immediate(value: int) -> bytes:
        return struct.pack("<BI", 0xBE, value)  # mov esi, value

    rest = call(16, _DRAIN[0], immediate(_DRAIN[1]), _DRAIN[2])
    rest += call(169, _REBOOT[0], immediate(_REBOOT[1]), _REBOOT[2]) + b"\xeb\xfe"  # jmp to itself
    # lea rsi, [rip + what lies between the next instruction and the text]: mov edx (5), syscall (2), the rest.
    address = b"\x48\x8d\x35" + struct.pack("<i", 5 + 2 + len(rest))
    return call(1, 1, address, len(text)) + rest + text


def _arm64(text: bytes) -> bytes:
    def load(register: int, value: int) -> list[int]:
        """Low half by movz, high half by movk."""
        words = [0xD2800000 | (value & 0xFFFF) << 5 | register]
        return [*words, 0xF2A00000 | value >> 16 << 5 | register] if value >> 16 else words

    def call(number: int, *arguments: int) -> list[int]:
        words = [word for register, value in enumerate(arguments) for word in load(register, value)]
        return [*words, *load(8, number), 0xD4000001]  # svc 0

    rest = [*call(29, *_DRAIN), *call(142, *_REBOOT), 0x14000000]  # b to itself
    before = load(0, 1)
    after = [*load(2, len(text)), *load(8, 64), 0xD4000001]
    distance = 4 * (1 + len(after) + len(rest))
    address = 0x10000001 | (distance & 3) << 29 | distance >> 2 << 5  # adr x1, text
    words = [*before, address, *after, *rest]
    return struct.pack(f"<{len(words)}I", *words) + text
