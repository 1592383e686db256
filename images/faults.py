"""What is wrong in a file that a user wrote, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeAlias

    Path: TypeAlias = tuple[str | int, ...]

SHOWN = 60
"""How many characters of a value stand in a message."""
_BARE = re.compile(r"\w[\w-]*")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    :param path: where, from the top: keys and numbers of entries.
    :param why: a reason that reads after the path.
    """

    path: Path
    why: str


def shown(value: object) -> str:
    """A value as it may stand in a message: short, on one line."""
    text = "nothing" if value is None else str(value) if not isinstance(value, bool) else str(value).lower()
    text = " ".join(text.split()) or '""'
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def spell(path: Path) -> str:
    """A path as people write it: `mounts[1].target`."""
    words = ""
    for step in path:
        if isinstance(step, int):
            words += f"[{step}]"
        else:
            word = step if _BARE.fullmatch(step) else repr(step)
            words += f".{word}" if words else word
    return words
