"""Which editor a user means."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from hostvm.errors import UsageError
from hostvm.platform.words import set_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_USUAL = ("sensible-editor", "editor", "nano", "vim", "vi")


def find_editor(environ: Mapping[str, str], which: Callable[[str], str | None], platform: str) -> list[str]:
    """The editor's argv: $VISUAL, else $EDITOR (words of a command each), else what the system usually has.

    :param which: finds a program on PATH.
    :raises UsageError: none is to be had.
    """
    for name in ("VISUAL", "EDITOR"):
        if words := _split(environ.get(name, ""), platform):
            return words
    for program in ("notepad",) if platform == "win32" else _USUAL:
        if which(program):
            return [program]
    raise UsageError(
        "no editor is to be found", f"tried {', '.join(_USUAL)}", f"name one: {set_variable('EDITOR', '…')}"
    )


def _split(command: str, platform: str) -> list[str]:
    if platform != "win32":
        try:
            return shlex.split(command)
        except ValueError as fault:
            raise UsageError(
                f"the editor's command cannot be read: {command}", str(fault), set_variable("EDITOR", "…")
            ) from None
    # A backslash is part of a path there.
    return [word.strip('"') for word in shlex.split(command, posix=False)]
