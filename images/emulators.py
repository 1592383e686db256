"""Emulators that run one program of another architecture: QEMU's user mode, from Debian's signed package.

CACHE/emulators/KEY/{NAME.gz,manifest.json}   KEY: the guest's architecture and the package's sha256

The package (qemu-user) holds some forty emulators, each linked statically, which is what lets the kernel use it in
every container (binfmt_misc's flag F). It weighs 71 MB, too much for every guest image to carry: it comes when it is
wanted, once a computer, and of it only what hostvm knows how to register is kept (docs/adr/0086).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from images.archive import DEFAULT_MIRROR, Fetcher, open_archive, suites_of
from images.archive.versions import Version
from images.deb import unpack_data
from images.disk import temporary_folder, work_lock
from images.errors import ImageError
from images.foreign import FOREIGN
from images.tree import check_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pysequoia import Cert

    from images.progress import Progress

PACKAGE = "qemu-user"
SUITE = "trixie"
REVISION = 1


@dataclass(frozen=True, slots=True)
class Emulator:
    """One emulator, ready to be carried into a guest.

    :param name: whose programs it runs, as platforms name it.
    :param sha256: of the program itself.
    :param packed: the program, in gzip.
    """

    name: str
    sha256: str
    version: str
    packed: Path

    @property
    def pattern(self) -> str:
        """See `Foreign.pattern`."""
        return FOREIGN[self.name].pattern


def find_emulator(name: str, arch: str, cache: Path) -> Emulator | None:
    """The newest one that is stored, without any look at the network.

    :param arch: of the guest that is to run it.
    """
    found = []
    for path in (cache / "emulators").glob(f"{arch}-*/manifest.json"):
        facts = json.loads(path.read_bytes())
        packed = path.with_name(f"{name}.gz")
        if facts["revision"] == REVISION and name in facts["emulators"] and packed.is_file():
            found.append(Emulator(name, facts["emulators"][name], facts["version"], packed))
    return max(found, key=lambda one: Version(one.version), default=None)


def fetch_emulators(
    arch: str,
    cache: Path,
    progress: Progress,
    *,
    mirror: str | None = None,
    keys: Sequence[Cert] | None = None,
    fetcher: Fetcher | None = None,
) -> None:
    """Have the emulators of the archive's newest package stored; nothing is unpacked when they are.

    :param arch: of the guest that is to run them.
    :raises HostvmError: see `open_archive`, `Fetcher.fetch_all`; the package lacks an emulator.
    """
    folder = cache / "emulators"
    with work_lock(folder, progress):
        suites = suites_of(SUITE, mirror or DEFAULT_MIRROR, ("security",))
        archive = open_archive(suites, arch, fetcher or Fetcher(cache), progress, keys=keys, only={PACKAGE})
        (package,) = archive.resolve([PACKAGE])
        target = folder / f"{arch}-{package.sha256}"
        if (target / "manifest.json").is_file():
            return
        (deb,) = archive.fetch([package], progress)
        with temporary_folder(folder) as work, progress.step("unpacking emulators"):
            made = work / "made"
            made.mkdir()
            sums = _unpack(deb, work / "data.tar", made)
            facts = {"revision": REVISION, "version": package.version, "package": package.sha256, "emulators": sums}
            (made / "manifest.json").write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")
            made.replace(target)
        # All of it that will be used is kept apart now.
        deb.unlink(missing_ok=True)


def _unpack(deb: Path, data: Path, made: Path) -> dict[str, str]:
    unpack_data(deb, data)
    by_path = {f"usr/bin/qemu-{one.qemu}": name for name, one in FOREIGN.items()}
    sums = {}
    with tarfile.open(data, "r:") as tar:
        for member in tar:
            name = by_path.get(check_path(member.name))
            if name is None or not member.isreg():
                continue
            content = tar.extractfile(member)
            assert content is not None  # a regular file has some
            with (made / f"{name}.gz").open("wb") as file:
                sums[name] = _pack(content, file)
    if missing := sorted(FOREIGN.keys() - sums):
        raise ImageError(
            f"Debian's {PACKAGE} has no emulator of {', '.join(missing)}",
            None,
            "Report this with the package's version",
        )
    return sums


def _pack(content: IO[bytes], file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
            packed.write(chunk)
    return digest.hexdigest()
