"""QEMU's boot program for uncompressed kernels, for a QEMU that comes without it.

CACHE/firmware/pvh.bin    out of Debian's qemu-system-data, checked like every other package
CACHE/firmware/pvh.json   its sha256, written after it; compared whenever it is asked for
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from typing import TYPE_CHECKING

from images.archive import DEFAULT_MIRROR, Fetcher, open_archive, suites_of, with_fresh_index
from images.deb import unpack_data
from images.disk import sha256_file, temporary_folder, work_lock
from images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pysequoia import Cert

    from images.progress import Progress

FIRMWARE, PVH_ROM, PVH_FACTS = "firmware", "pvh.bin", "pvh.json"
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
    """The program with which QEMU enters an ELF kernel (`images.kernel`); fetched when the cache lacks it, whole.

    It is code for the guest's processor and the same for QEMU of any system and, since 4.1, any version.

    :raises HostvmError: as `open_archive` and `Archive.fetch`; or the package has no such file.
    """
    folder = cache / FIRMWARE
    if not is_sound_firmware(folder):
        suites, source = suites_of(suite, mirror or DEFAULT_MIRROR, ()), fetcher or Fetcher(cache, note=progress.note)

        def fetch() -> None:
            archive = open_archive(suites, arch, source, progress, keys=keys, only={_PACKAGE})
            package = archive.index.newest(_PACKAGE)
            if package is None:
                raise ImageError(f"{suite} has no package {_PACKAGE}", None, "use a QEMU that brings pvh.bin")
            (deb,) = archive.fetch([package], progress)
            _unpack(deb, folder)

        with work_lock(folder, progress):
            if not is_sound_firmware(folder):  # another hostvm may have fetched it meanwhile
                if (folder / PVH_FACTS).exists():
                    progress.note(f"the stored {PVH_ROM} is damaged and is fetched again")
                with_fresh_index(fetch, progress)
    return folder / PVH_ROM


def stored_firmware(cache: Path) -> list[Path]:
    """The files that the cache has of it, in the order in which they are to be put elsewhere; none if not sound."""
    folder = cache / FIRMWARE
    return [folder / PVH_ROM, folder / PVH_FACTS] if is_sound_firmware(folder) else []


def keep_firmware(folder: Path, cache: Path, progress: Progress) -> None:
    """Move what `folder` has of it into the cache, unless that has it."""
    with work_lock(cache / FIRMWARE, progress):
        if not is_sound_firmware(cache / FIRMWARE):
            for name in (PVH_ROM, PVH_FACTS):
                (folder / name).replace(cache / FIRMWARE / name)


def is_sound_firmware(folder: Path) -> bool:
    """Whether all of it is there, as it was written."""
    try:
        facts = json.loads((folder / PVH_FACTS).read_bytes())
        return bool(facts == {"sha256": sha256_file(folder / PVH_ROM)})
    except (OSError, ValueError, RecursionError):
        return False


def _unpack(deb: Path, folder: Path) -> None:
    with temporary_folder(folder) as work:
        unpack_data(deb, work / "data.tar")
        rom = _member(work / "data.tar", deb)
        facts = json.dumps({"sha256": hashlib.sha256(rom).hexdigest()}).encode()
        for name, data in ((PVH_ROM, rom), (PVH_FACTS, facts)):
            (work / name).write_bytes(data)
            (work / name).replace(folder / name)


def _member(tree: Path, deb: Path) -> bytes:
    with tarfile.open(tree) as tar:
        for entry in tar:
            if entry.name.removeprefix("./") == _MEMBER and (content := tar.extractfile(entry)):
                return content.read()
    raise ImageError(f"{deb.name} has no {_MEMBER}", None, "use a QEMU that brings pvh.bin")
