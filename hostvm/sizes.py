"""Sizes as people write them: "2GiB", "512M"; always with a unit, always powers of 1024."""

from __future__ import annotations

import re

MIB = 1024**2
GIB = 1024**3

_UNITS = {"K": 1024, "M": MIB, "G": GIB, "T": 1024**4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?", re.IGNORECASE | re.ASCII)
_MOST = 1024 * _UNITS["T"]


def parse_size(text: object) -> int:
    """Bytes of a size with a unit, rounded down to whole MiB.

    :raises ValueError: with a reason that reads after "KEY: VALUE".
    """
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        bare = re.fullmatch(r"\d{1,15}", str(text).strip(), re.ASCII)
        raise ValueError(
            f"needs a unit, for example {text}GiB" if bare else "is not a size; write, for example, 4GiB or 512MiB"
        )
    wanted = float(match[1]) * _UNITS[match[2].upper()]
    if wanted > _MOST:
        raise ValueError("is more than 1024TiB")
    size = int(wanted) // MIB * MIB
    if size == 0:
        raise ValueError("is less than 1MiB")
    return size


def format_size(size: int) -> str:
    """The shortest exact way to write whole MiB; `parse_size` reads it back."""
    if size % GIB == 0:
        return f"{size // GIB}GiB"
    return f"{size // MIB}MiB"


def human_size(size: float) -> str:
    """Bytes for people: 3 significant digits and a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000:  # noqa: PLR2004 - four digits are harder to read than the next unit
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.3g} {unit}"  # noqa: PLR2004
        size /= 1024
    return f"{size:.3g} TiB"
