"""Launchers that let `docker` and its like be typed where no native client is.

A launcher is a file of two lines, a shell script or on Windows a .cmd; its mark tells it from other people's programs,
so that none of theirs is ever replaced and none of ours is taken for a native client.
"""

from __future__ import annotations

import os
import sys

from runtime.words import FORWARDED

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# A program people type -> the word of hostvm's that forwards it.
PROGRAMS = {"docker": "docker", "docker-compose": "compose", "podman": "podman", "nerdctl": "nerdctl"}
_MARK = b"hostvm shim: "
_LOOK = 256


def programs_of(engine: str) -> list[str]:
    """The programs that a machine with that engine answers to."""
    return [program for program, word in PROGRAMS.items() if engine in FORWARDED[word][0]]


def launcher(
    program: str, command: Sequence[str], machine: str, platform: str = sys.platform, module_path: str = ""
) -> tuple[str, bytes]:
    """A launcher's file name and content.

    :param command: what starts hostvm, exactly.
    :param module_path: where Python finds hostvm that is run from a checkout; "" where it is installed.
    :param machine: "" leaves the choice to HOSTVM_MACHINE and the default at each call.
    """
    import shlex  # not on the way of every forwarded command

    words = [*command, *(["-m", machine] if machine else []), PROGRAMS[program]]
    about = f"hostvm shim: {program} of a machine's engine. Made by 'hostvm shim install', undone by 'hostvm shim rm'."
    if platform == "win32":
        quoted = " ".join(f'"{_for_cmd(word)}"' for word in words)
        # cmd reads it in the console's code page, which is the system's unless somebody changed it.
        coding = "oem" if sys.platform == "win32" else "utf-8"
        path = f'@setlocal & set "PYTHONPATH={_for_cmd(module_path)}"\r\n' if module_path else ""
        return f"{program}.cmd", f"@rem {about}\r\n{path}@{quoted} %*\r\n".encode(coding, "replace")

    path = f"PYTHONPATH={shlex.quote(module_path)} " if module_path else ""
    return program, f'#!/bin/sh\n# {about}\n{path}exec {shlex.join(words)} "$@"\n'.encode("utf-8", "surrogateescape")


def _for_cmd(word: str) -> str:
    """The word in a .cmd. The user's own folder, whose name may have any letters, as the variable that has it."""
    profile = os.environ.get("USERPROFILE", "").rstrip("\\")
    if profile and not profile.isascii() and word.lower().startswith(f"{profile.lower()}\\"):
        return "%USERPROFILE%" + word[len(profile) :].replace("%", "%%")
    return word.replace("%", "%%")


def is_shim(path: str | Path) -> bool:
    """Whether the file is a launcher of ours (of any hostvm on this computer)."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - the forwarding client has no time for pathlib
            return _MARK in file.read(_LOOK)
    except OSError:
        return False


def shims_in_use() -> list[str]:
    """The programs of which a launcher of ours is what runs when their names are typed."""
    import shutil  # not on the way of every forwarded command

    return [program for program in PROGRAMS if (found := shutil.which(program)) and is_shim(found)]


def native_client(program: str, folders: Sequence[str] | None = None) -> str | None:
    """The first program of that name on PATH that is none of our launchers.

    Written out, down to os.get_exec_path, because shutil takes 3 ms to import, and warnings another part of one, and
    forwarding needs this.
    """
    names = [program]
    if sys.platform == "win32":
        endings = os.environ.get("PATHEXT", ".COM;.EXE;.BAT;.CMD").split(os.pathsep)
        names = [program + ending.lower() for ending in endings]
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folders is None else folders:
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - as above
            if os.access(path, os.X_OK) and not os.path.isdir(path) and not is_shim(path):  # noqa: PTH112
                return path
    return None
