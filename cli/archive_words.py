"""`-o FILE` of save and export, `-i FILE` of load: the guest's client would look for the file in the guest."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from cli.docker_words import command_at
from cli.printer import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_COMMANDS = (["save"], ["image", "save"], ["export"], ["container", "export"], ["load"], ["image", "load"])
_WITH_VALUE = ("--platform", "--format", "--signature-policy")
_FOLDERS = ("docker-dir", "oci-dir")
_SWITCHES = "mq"
_OUT = 1


class Archive(NamedTuple):
    """A command that reads or writes a file of this computer.

    :param words: docker's without that option, so that it is on a standard stream.
    :param reads: whether the file is read.
    """

    words: list[str]
    path: str
    reads: bool


def find_archive(words: list[str]) -> Archive | None:
    """The file that `docker WORDS` names; None when it names none, or a device or folder (of Podman's)."""
    start = command_at(words)
    front = next((one for one in _COMMANDS if words[start : start + len(one)] == one), None)
    if front is None or any(word.removeprefix("--format=") in _FOLDERS for word in words):
        return None
    reads = front[-1] == "load"
    option, letter = ("--input", "i") if reads else ("--output", "o")
    at = start + len(front)
    kept, path = words[:at], ""
    while at < len(words) and words[at] != "--":
        word = words[at]
        rest = word[1:].lstrip(_SWITCHES)
        if word.partition("=")[0] == option:
            path = word.partition("=")[2]
        elif not word.startswith("--") and word.startswith("-") and rest[:1] == letter:
            path = rest[1:].removeprefix("=")
            kept += [word[: -len(rest)]] if len(rest) < len(word) - 1 else []
        else:
            size = 2 if word in _WITH_VALUE else 1
            kept += words[at : at + size]
            at += size
            continue
        if not path:
            at += 1
            path = "".join(words[at : at + 1])
        at += 1
    if path in ("", "-") or path.startswith("/dev/"):
        return None
    return Archive(kept + words[at:], path, reads)


def run_archive(archive: Archive, run: Callable[[list[str], int | None], int]) -> int:
    """Run the command on the file, and return its exit status. A file that is written is there whole or not at all.

    :param run: gets the words, and the descriptor to read input from.
    """
    try:
        if archive.reads:
            descriptor, beside = os.open(archive.path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), ""
        elif os.path.isdir(archive.path):  # noqa: PTH112 - as it was typed
            raise IsADirectoryError(21, "it is a folder", archive.path)
        else:
            folder = os.path.dirname(os.path.abspath(archive.path))  # noqa: PTH100, PTH120 - as above
            descriptor, beside = tempfile.mkstemp(prefix=".hostvm-", dir=folder)
    except OSError as fault:
        tell(f"{archive.path}: {fault.strerror}")
        return 1
    try:
        try:
            if archive.reads:
                return run(archive.words, descriptor)
            with _output_to(descriptor):
                status = run(archive.words, None)
        finally:
            os.close(descriptor)
        if status == 0:
            os.replace(beside, archive.path)  # noqa: PTH105 - as above
        return status
    finally:
        with suppress(FileNotFoundError):  # it has its name, or nothing is written
            os.unlink(beside)  # noqa: PTH108 - as above


@contextmanager
def _output_to(descriptor: int) -> Iterator[None]:
    sys.stdout.flush()
    before = os.dup(_OUT)
    os.dup2(descriptor, _OUT)
    try:
        yield
    finally:
        os.dup2(before, _OUT)
        os.close(before)
