"""QEMU's boot program for uncompressed kernels, for a QEMU that comes without it.

CACHE/firmware/pvh.bin   out of Debian's qemu-system-data, checked like every other package
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from images.archive import DEFAULT_MIRROR, Fetcher, open_archive, suites_of
from images.deb import unpack_data
from images.disk import temporary_folder, work_lock
from images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pysequoia import Cert

    from images.progress import Progress

PVH_ROM = "pvh.bin"
_PACKAGE = "qemu-system-data"
_MEMBER = f"usr/share/qemu/{PVH_ROM}"


def pvh_rom(
    suite: str,
    arch: str,
    cache: Path,
    progress: Progress,
    *,
    mirror: str | None = None,
    fetcher: Fetcher | None = None,
    keys: Sequence[Cert] | None = None,
) -> Path:
    """The program with which QEMU enters an ELF kernel (`images.kernel`); fetched when the cache lacks it.

    It is code for the guest's processor and the same for QEMU of any system and, since 4.1, any version.

    :raises HostvmError: as `open_archive` and `Archive.fetch`; or the package has no such file.
    """
    rom = cache / "firmware" / PVH_ROM
    if not rom.is_file():
        suites = suites_of(suite, mirror or DEFAULT_MIRROR, ())
        archive = open_archive(suites, arch, fetcher or Fetcher(cache), progress, keys=keys)
        package = archive.index.newest(_PACKAGE)
        if package is None:
            raise ImageError(f"{suite} has no package {_PACKAGE}", None, "use a QEMU that brings pvh.bin")
        (deb,) = archive.fetch([package], progress)
        with work_lock(rom.parent, progress), temporary_folder(rom.parent) as work:
            unpack_data(deb, work / "data.tar")
            (work / PVH_ROM).write_bytes(_member(work / "data.tar", deb))
            (work / PVH_ROM).replace(rom)
    return rom


def _member(tree: Path, deb: Path) -> bytes:
    with tarfile.open(tree) as tar:
        for entry in tar:
            if entry.name.removeprefix("./") == _MEMBER and (content := tar.extractfile(entry)):
                return content.read()
    raise ImageError(f"{deb.name} has no {_MEMBER}", None, "use a QEMU that brings pvh.bin")
