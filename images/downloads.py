"""Files of other makers that a recipe of the user's own adds to an image: the items of its `downloads`.

Keys (those marked * are required; one of url and file, one of take and to):

    url       http or https
    file      instead: a name beside the recipe
    sha256*   what its makers publish; nothing else is taken
    arch      of the images that get it (amd64, arm64); without it, all
    take      {member of that tar archive, in gz, xz, bz2, zstd or plain: path in the image}, e.g.
              {nerdctl: usr/local/bin/nerdctl}
    to        the file itself: its path in the image
"""

from __future__ import annotations

import lzma
import posixpath
import tarfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from images.addresses import without_login
from images.archive.fetch import Fetcher, Source, Wanted
from images.disk import is_full, sha256_file
from images.errors import HashError, ImageError, MirrorError, RecipeError
from images.tree import keep_content
from images.zstd import MAGIC, load_zstd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from images.progress import Progress
    from images.tree import Slice

MOST = 1 << 30
"""Bytes of one download, and of all that is taken from one."""

SOURCE = Source(MirrorError, "server", "the recipe", "Correct `url` or `sha256` in the recipe's `downloads`")
_PROGRAM = (b"#!", b"\x7fELF")


@dataclass(frozen=True, slots=True)
class Download:
    """See the module's text. Either `url` or `file` is set, and either `take` or `to`."""

    sha256: str
    url: str = ""
    file: str = ""
    arch: str = ""
    take: dict[str, str] = field(default_factory=dict)
    to: str = ""

    @property
    def name(self) -> str:
        """Of the file, without its place."""
        return posixpath.basename(urlsplit(self.url).path if self.url else Path(self.file).name) or self.sha256[:12]

    @property
    def paths(self) -> list[str]:
        """Where it goes in the image."""
        return sorted(self.take.values()) if self.take else [self.to]

    def content(self) -> dict[str, Any]:
        """What of it goes into an image, wherever it came from."""
        return {"sha256": self.sha256, "arch": self.arch, "take": self.take, "to": self.to}

    def facts(self) -> dict[str, Any]:
        """For an image's manifest."""
        return {"name": self.name, "sha256": self.sha256, "url": without_login(self.url), "paths": self.paths}


def have_downloads(
    downloads: Sequence[Download], arch: str, fetcher: Fetcher, progress: Progress
) -> list[tuple[Download, Path]]:
    """Those for an architecture, each with a file that is what its sha256 says. What the cache has is not asked for.

    :param fetcher: of `SOURCE`.
    :raises ImageError: it cannot be had, or is something else.
    """
    wanted = [one for one in downloads if one.arch in ("", arch)]
    fetched = [one for one in wanted if one.url]
    for one in wanted:
        if one.file:
            _check_file(one)
    missing = [one for one in fetched if not fetcher.has(one.sha256)]
    items = [Wanted(one.name, (one.url,), one.sha256, fetcher.size_of(one.url, MOST)) for one in missing]
    if items:
        fetcher.fetch_all(items, progress, "downloading what the recipe adds")
    return [(one, fetcher.path(one.sha256) if one.url else Path(one.file)) for one in wanted]


def _check_file(one: Download) -> None:
    try:
        found = sha256_file(Path(one.file))
    except OSError as error:
        raise RecipeError(
            f"{one.file} cannot be read", str(error), "It must lie beside the recipe that names it"
        ) from error
    if found != one.sha256:
        raise HashError(
            f"{one.file} is not what the recipe promises",
            f"sha256 wanted {one.sha256}\nsha256 got    {found}",
            "Get it again from its makers, or correct `sha256` in the recipe",
        )


def files_of(one: Download, source: Path, store: Path) -> Iterator[tuple[str, Slice | bytes, int]]:
    """What goes into the image: path, content, mode (programs 0755, all else 0644).

    :param store: a file that content is added to and is read from later: in memory it would take what `MOST` allows,
        and a file beside the recipe may change until the image is packed.
    :raises ImageError: it is no archive, lacks a member, or is too large.
    :raises OSError: as ENOSPC: `store` has no room.
    """
    if one.to:
        with source.open("rb") as file:
            content, head = keep_content(file, store)
        yield one.to, content, 0o755 if head.startswith(_PROGRAM) else 0o644
        return
    try:
        with _open_archive(one, source) as archive:
            left = dict(one.take)
            room = MOST
            for member in archive:
                target = left.pop(posixpath.normpath(member.name), None)
                if target is None:
                    continue
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is None:
                    raise _odd(one, f"{member.name} is no plain file in it")
                room -= member.size
                if room < 0:
                    raise _odd(one, f"more than {MOST >> 20} MiB would be taken")
                content, head = keep_content(stream, store)
                yield target, content, 0o755 if head.startswith(_PROGRAM) or member.mode & 0o100 else 0o644
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        if isinstance(error, OSError) and is_full(error):
            raise
        raise _odd(one, f"{type(error).__name__}: {error}") from error
    if left:
        raise _odd(one, f"it has no {', '.join(sorted(left))}")


@contextmanager
def _open_archive(one: Download, source: Path) -> Iterator[tarfile.TarFile]:
    """tarfile reads zstd by itself since Python 3.14."""
    with source.open("rb") as file:
        is_zstd = file.read(len(MAGIC)) == MAGIC
        file.seek(0)
        if not is_zstd:
            with tarfile.open(source) as archive:
                yield archive
            return
        zstd = load_zstd(one.name)
        try:
            with zstd.ZstdFile(file) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                yield archive
        except zstd.ZstdError as error:
            raise tarfile.ReadError(str(error)) from error


def _odd(one: Download, why: str) -> ImageError:
    return ImageError(
        f"{one.name} cannot be taken into the image", why, "Look into it: `tar -tvf FILE`, and correct `take`"
    )
