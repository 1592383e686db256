"""What `-o` names: a file that appears whole, a device or pipe that is written to, or `-`, standard output."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cli.unfinished import new_part
from hostvm.errors import UsageError
from hostvm.sizes import human_size
from images.artefact.file import whole_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

STDIO = "-"


def check_output(options: argparse.Namespace, noun: str, instead: str) -> None:
    """Look at `-o` before anything is made for it.

    :param noun: what would be written, as in "an image".
    :param instead: a command that would do.
    :raises UsageError: it is a folder, a terminal, or where the facts for programs go.
    """
    if options.output == STDIO:
        if sys.stdout.isatty():
            raise UsageError(f"{noun} is not for a terminal", None, f"name a file: {instead}")
        if options.json:
            raise UsageError(f"both {noun} and facts on one stream", None, f"name a file: {instead}")
    elif Path(options.output).is_dir():
        raise UsageError(f"{options.output} is a folder", None, f"name a file: {instead}")


@contextmanager
def opened_output(name: str) -> Iterator[IO[bytes]]:
    """What `-o` names, to be written once; raises as `whole_file`."""
    if name == STDIO:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with whole_file(Path(name), new_part) as file:
            yield file


def written_size(name: str) -> int | None:
    """Bytes of the file that was written; None where they went elsewhere."""
    return Path(name).stat().st_size if name != STDIO and Path(name).is_file() else None


def written_where(name: str) -> str:
    """The same in words, as in "in FILE (3.1 MiB)"."""
    if name == STDIO:
        return "written to standard output"
    size = written_size(name)
    return f"in {name}" if size is None else f"in {name} ({human_size(size)})"
