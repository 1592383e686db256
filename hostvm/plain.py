"""Words of a guest, an engine or a registry, made fit for a terminal, which would obey their control characters."""

from __future__ import annotations

_SHOWN = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_LAYOUT = {code: shown for code, shown in _SHOWN.items() if chr(code) not in "\n\t"}


def plain(text: str) -> str:
    r"""The text with each control character but line ends and tabs as what it is: `\x1b`."""
    return text.translate(_LAYOUT)


def plain_line(text: str) -> str:
    """As `plain`, for what is to stay one line: neither ends it nor moves what stands behind it."""
    return text.translate(_SHOWN)
