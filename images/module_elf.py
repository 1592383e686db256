"""What depmod wants of a kernel module's ELF file: .modinfo, the symbols it exports, and those it needs."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NoReturn

from images.errors import ImageError

HEADER = struct.Struct("<16s2HI3QI6H")  # Elf64_Ehdr
SECTION = struct.Struct("<2I4Q2I2Q")  # Elf64_Shdr
SYMBOL = struct.Struct("<I2BH2Q")  # Elf64_Sym
IDENT = b"\x7fELF\x02\x01"  # 64 bits, little-endian: amd64 and arm64
NOBITS = 8
UNDEFINED = 0
WANTED = (b".modinfo", b".strtab", b".symtab", b"__ksymtab_strings")
CRC = b"__crc_"


@dataclass(frozen=True, slots=True)
class ElfModule:
    """A module's facts, each in the file's order.

    :param info: keys and values of .modinfo; a key may come several times.
    :param exports: symbols other modules may use.
    :param needs: undefined symbols, of other modules and of the kernel.
    """

    info: tuple[tuple[str, str], ...]
    exports: tuple[str, ...]
    needs: tuple[str, ...]

    @classmethod
    def of(cls, path: str, data: bytes) -> ElfModule:
        """Read a plain module.

        :param path: for messages.
        :raises ImageError: it is none, or damaged.
        """
        sections = _sections(path, data)
        exports, needs = _symbols(path, sections.get(b".symtab", b""), sections.get(b".strtab", b""))
        # Without CONFIG_MODVERSIONS there are no checksums, and the names alone are left.
        exports = exports or _strings(sections.get(b"__ksymtab_strings", b""))
        pairs = (entry.partition("=") for entry in _strings(sections.get(b".modinfo", b"")))
        return cls(tuple((key, value) for key, _, value in pairs), tuple(exports), tuple(needs))

    def values(self, wanted: str) -> list[str]:
        """All values of one key of .modinfo."""
        return [value for key, value in self.info if key == wanted]


def _sections(path: str, data: bytes) -> dict[bytes, bytes]:
    """The sections of WANTED that are there."""
    if not data.startswith(IDENT) or len(data) < HEADER.size:
        _damaged(path, "It is not an ELF file of 64 bits, little-endian.")
    *_, table, _, _, _, _, entry, count, names_index = HEADER.unpack_from(data)
    if entry != SECTION.size or table + count * entry > len(data):
        _damaged(path, "Its section headers are not where the file header says.")
    headers = list(SECTION.iter_unpack(data[table : table + count * entry]))
    if names_index >= count:
        _damaged(path, "It has no names of sections.")
    names = _content(path, data, headers[names_index])
    found: dict[bytes, bytes] = {}
    for header in headers:
        name = names[header[0] : max(names.find(b"\0", header[0]), 0)]
        if name in WANTED and header[1] != NOBITS:
            found.setdefault(name, _content(path, data, header))
    return found


def _content(path: str, data: bytes, header: tuple[int, ...]) -> bytes:
    offset, size = header[4:6]
    if offset + size > len(data):
        _damaged(path, "A section ends behind the end of the file.")
    return data[offset : offset + size]


def _symbols(path: str, table: bytes, names: bytes) -> tuple[list[str], list[str]]:
    """Exported and undefined ones."""
    if len(table) % SYMBOL.size:
        _damaged(path, "Its symbol table is not whole.")
    exports, needs = [], []
    for start, _, _, section, _, _ in SYMBOL.iter_unpack(table[SYMBOL.size :]):
        undefined = section == UNDEFINED
        if undefined or names.startswith(CRC, start):
            end = names.find(b"\0", start)
            if end < 0:
                _damaged(path, "A symbol's name lies behind the end of the names.")
            if undefined:
                needs.append(_text(names[start:end]))
            else:
                exports.append(_text(names[start + len(CRC) : end]))
    return exports, [name for name in needs if name]


def _strings(section: bytes) -> list[str]:
    return [_text(entry) for entry in section.split(b"\0") if entry]


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _damaged(path: str, why: str) -> NoReturn:
    raise ImageError(
        f"/{path} is not a kernel module, or a damaged one",
        why,
        "Leave it out of the recipe's `modules`, then `hostvm image build`",
    )
