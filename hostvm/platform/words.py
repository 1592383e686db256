"""Words of a command that a user is told to paste, as the shells of this system read them."""

from __future__ import annotations

import sys


def quoted(word: str, platform: str = sys.platform) -> str:
    r"""The word, in quotation marks where it needs them.

    On Windows in double ones, which cmd and PowerShell both know, and a program gets as it was. What they put in for
    `%NAME%` and `$name` even there cannot be kept from both.
    """
    if platform != "win32":
        import shlex  # for forwarding clients every millisecond counts

        return shlex.quote(word)
    import re

    if re.fullmatch(r"[\w./\\:+=-]+", word):
        return word
    # A backslash before a quotation mark takes that as it is; the one at the end is ours.
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', word)
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'


def make_folder(folder: str, platform: str = sys.platform) -> str:
    """The command that makes a folder and those above it."""
    return f"mkdir {'' if platform == 'win32' else '-p '}{quoted(folder, platform)}"
