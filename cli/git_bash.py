r"""Undoing what Git Bash (MSYS2) did to the words of a command before this program saw them.

It takes every argument that looks like an absolute path for one of its own: `/etc` arrives as
`C:/Program Files/Git/etc`, and `/c/x:/w:ro` as `C:\x;C:\Program Files\Git\w;ro`. Rules:
https://www.msys2.org/docs/filesystem-paths/. Pure; read on Windows only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# A colon in a file's name is impossible on Windows, so this can only be a list.
_LIST = re.compile(r";[A-Za-z]:[\\/]")


def bash_root(environ: Mapping[str, str]) -> str:
    """Where Git Bash's own `/` lies, with slashes; "" when it is not our parent, or was told to change nothing."""
    if not environ.get("MSYSTEM") or "MSYS_NO_PATHCONV" in environ or environ.get("MSYS2_ARG_CONV_EXCL") == "*":
        return ""
    for name, tail in (
        ("MINGW_PREFIX", r"/(mingw\w+|ucrt64|clang\w+)"),
        ("MSYSTEM_PREFIX", r"/(mingw\w+|ucrt64|clang\w+|usr)"),
        ("SHELL", r"/usr/bin/\w+(\.exe)?"),
        ("EXEPATH", r"(/(bin|cmd|usr/bin))?"),
    ):
        value = environ.get(name, "").replace("\\", "/").rstrip("/")
        found = re.fullmatch(rf"([A-Za-z]:/.+?){tail}", value, re.IGNORECASE)
        if found:
            return found[1]
    return ""


def undo_word(word: str, root: str) -> str:
    r"""The word as it was typed, as far as that can be told; paths on drives (`/c/x`) stay as Windows spells them.

    :param root: see `bash_root`.
    """
    if _LIST.search(word):
        return ":".join(_undo_one(part, root) for part in word.split(";"))
    return _undo_one(word, root)


def _undo_one(word: str, root: str) -> str:
    """Take the root away at the word's start, or behind the first `=` of `NAME=/path` and `--option=/path`."""
    head, equals, tail = word.partition("=")
    for front, part in (("", word), (head + equals, tail)):
        plain = part.replace("\\", "/")
        if plain.lower() == root.lower():
            return f"{front}/"
        if plain.lower().startswith(f"{root.lower()}/"):
            return front + plain[len(root) :]
    return word
