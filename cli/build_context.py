"""`docker build` with the guest's client: its context is a folder of this computer, so it is carried along.

The words are those of `docker build` and `docker buildx build`. The folder travels as a tar stream on the command's
standard input, is unpacked in the guest, built there, and deleted.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cli.build_options import BuildOption, other_contexts, read_build
from hostvm.errors import ForwardError

_INPUT = ("-", "/dev/stdin")
_FROM_INPUT = Path("-")

# What a Dockerfile's own list of files to leave out is called behind its name, by docker and by Podman: it is looked
# for beside the Dockerfile, under the name that was typed, and counts instead of the context's.
_IGNORING = (".dockerignore", ".containerignore")

# Last, beside the context: a stream that ends early between two members is a sound archive to every tar.
_LAST = "complete"

# Runs in the guest; "$@" is the docker command. busybox' tar does. Signals come to all that runs here: a shell that one
# of them ends deletes nothing.
_SCRIPT = f"""
set -e
work=$(mktemp -d /var/tmp/hostvm-build.XXXXXX)
trap "trap '' HUP INT TERM; rm -rf '$work'" EXIT
trap : HUP INT TERM
tar -x -f - -C "$work"
[ -e "$work/{_LAST}" ] || exit 125
cd "$work/context"
status=0
"$@" </dev/null || status=$?
exit $status
"""


@dataclass(frozen=True, slots=True)
class Build:
    """A build whose context is a folder here.

    :param words: docker's words with the folder replaced by "." and the Dockerfile by its place in the guest.
    :param dockerfile: one that lies outside the context, carried beside it with its own list of files to leave out;
        "-" for what is on standard input.
    :param others: folders of `--build-context`, which are carried beside it, too.
    """

    words: tuple[str, ...]
    context: Path
    dockerfile: Path | None
    others: tuple[Path, ...] = ()


def find_build(words: list[str]) -> Build | None:
    """The build in `docker WORDS`; None when it is none, or its context is a URL or standard input."""
    build = read_build(words)
    place = build.context_at
    if place is None or words[place] == "-" or "://" in words[place] or words[place].startswith("git@"):
        return None
    context = Path(words[place])
    if not context.is_dir():
        return None
    changed = list(words)
    changed[place] = "."
    others = []
    for number, (one, path) in enumerate(other_contexts(words), 1):
        changed[one.at] = f"{one.front}{one.value.partition('=')[0]}=../context-{number}"
        others.append(Path(path))
    dockerfile = _rewrite_dockerfile(changed, build.dockerfile, context)
    return Build(tuple(changed), context, dockerfile, tuple(others))


def named_paths(words: list[str]) -> list[str]:
    """The folders and the Dockerfile that a build names, absolute; empty when its context is no folder here."""
    build = read_build(words)
    if build.context_at is None or not Path(words[build.context_at]).is_dir():
        return []
    named = [words[build.context_at], *(path for _, path in other_contexts(words))]
    if build.dockerfile is not None and build.dockerfile.value not in _INPUT:
        named.append(build.dockerfile.value)
    return [os.path.abspath(path) for path in named]  # noqa: PTH100 - links stay as they are


def _rewrite_dockerfile(words: list[str], file: BuildOption | None, context: Path) -> Path | None:
    if file is None:
        return None
    if file.value in _INPUT:
        words[file.at] = f"{file.front}../Dockerfile"
        return _FROM_INPUT
    path = Path(file.value)
    try:
        inside = path.resolve().relative_to(context.resolve())
    except ValueError:
        words[file.at] = f"{file.front}../Dockerfile"
        return path
    words[file.at] = f"{file.front}{inside.as_posix()}"
    return None


def guest_argv(prefix: tuple[str, ...], build: Build) -> list[str]:
    """The argv to run in the guest, which reads the tar stream on its standard input."""
    return ["/bin/sh", "-c", _SCRIPT, "hostvm-build", *prefix, *build.words]


class ContextStream:
    """The tar stream of a build, written by a thread; owners and modes are kept plain.

    :ivar descriptor: to read it from.
    """

    def __init__(self, build: Build) -> None:
        self._build = build
        self._folder = build.context
        self._place = str(build.context)
        self._fault: Exception | None = None
        self.descriptor, writer = os.pipe()
        threading.Thread(target=self._write, args=(writer,), name="context", daemon=True).start()

    def check(self) -> None:
        """Call it when the guest has had the stream.

        :raises ForwardError: it ended early, so that nothing was built.
        """
        if self._fault is not None:
            raise ForwardError(
                f"{self._place} cannot be read, so nothing was built",
                getattr(self._fault, "strerror", None) or str(self._fault),
                "make it readable, or move it out of the folder; all of it is read, also what .dockerignore lists",
            ) from self._fault

    def _write(self, writer: int) -> None:
        # A broken pipe: the build ended early, and its own message says why.
        with suppress(BrokenPipeError), os.fdopen(writer, "wb") as pipe:
            try:
                self._fill(pipe)
            except BrokenPipeError:
                raise
            except Exception as fault:  # noqa: BLE001 - carried to the main thread, before the reader sees the end
                self._place = getattr(fault, "filename", None) or self._place
                self._fault = fault

    def _fill(self, pipe: IO[bytes]) -> None:
        with tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            # Where a link leads to: in the guest it would lead nowhere.
            for number, folder in enumerate((self._build.context, *self._build.others)):
                self._folder = folder
                tar.add(folder.resolve(), arcname=f"context-{number}" if number else "context", filter=self._member)
            if self._build.dockerfile == _FROM_INPUT:
                self._place = "standard input"
                text = sys.stdin.buffer.read()
                member = tarfile.TarInfo("Dockerfile")
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
            elif self._build.dockerfile is not None:
                self._add(tar, self._build.dockerfile, "Dockerfile")
                for end in _IGNORING:
                    beside = self._build.dockerfile.with_name(self._build.dockerfile.name + end)
                    if beside.is_file():
                        self._add(tar, beside, f"Dockerfile{end}")
            tar.addfile(tarfile.TarInfo(_LAST), io.BytesIO())

    def _add(self, tar: tarfile.TarFile, path: Path, name: str) -> None:
        self._place = str(path)
        tar.add(path.resolve(), arcname=name, filter=_plain)

    def _member(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        self._place = str(self._folder.joinpath(*Path(member.name).parts[1:]))
        return _plain(member)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return None  # sockets and pipes are not part of a build
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
