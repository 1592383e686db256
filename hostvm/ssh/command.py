"""One argv as the text that the guest's login shell turns back into exactly that argv."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from hostvm.errors import ForwardError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The kernel's MAX_ARG_STRLEN, which `sh -c TEXT` meets first, less the closing zero.
LONGEST_TEXT = 128 * 1024 - 1

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# bash refuses to assign to these; they would end the whole command.
_READ_ONLY = frozenset({"BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"})


def command_text(
    argv: Sequence[str | bytes],
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> bytes:
    """What sshd hands to `sh -c`: go to `cwd` (or home), set `env`, become the program.

    Strings carry undecodable bytes as surrogates (`os.fsdecode`). Variables whose names no shell can hold are
    passed by env(1).

    :raises ForwardError: no program, a zero byte, or more text than a Linux argument may have.
    """
    if not argv or not argv[0]:
        raise ForwardError("there is no program to run", None, "hostvm shell -- uname -a   # for example")
    words = [shlex.quote(_text(word)) for word in argv]
    by_shell = {name: value for name, value in (env or {}).items() if _shell_can_hold(name)}
    by_env = {name: value for name, value in (env or {}).items() if not _shell_can_hold(name)}
    parts = []
    if cwd:
        # CDPATH is not set for sshd's shells, so `cd` prints nothing.
        parts.append(f"cd -- {shlex.quote(cwd)} 2>/dev/null || cd")
    if by_shell:
        parts.append("export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in by_shell.items()))
    prefix = ["env", *(shlex.quote(f"{name}={value}") for name, value in by_env.items())] if by_env else []
    parts.append("exec " + " ".join([*prefix, *words]))
    return _checked("; ".join(parts).encode("utf-8", "surrogateescape"))


def _shell_can_hold(name: str) -> bool:
    return _NAME.match(name) is not None and name not in _READ_ONLY


def _text(word: str | bytes) -> str:
    return word.decode("utf-8", "surrogateescape") if isinstance(word, bytes) else word


def _checked(text: bytes) -> bytes:
    if b"\0" in text:
        raise ForwardError("a word of the command holds a zero byte", None, "remove it: no program can get one")
    if len(text) > LONGEST_TEXT:
        raise ForwardError(
            "the command is too long for the guest",
            f"{len(text)} bytes with its environment; the limit is {LONGEST_TEXT}",
            "pass the data on standard input or in a file: hostvm shell -- sh -s < script",
        )
    return text
