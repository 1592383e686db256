"""Emulators that run one program of another architecture: QEMU's user mode, from Debian's signed package.

CACHE/emulators/KEY/{NAME.gz,manifest.json}   KEY: the guest's architecture and the package's sha256

The package (qemu-user) holds some forty emulators, each linked statically, which is what lets the kernel use it in
every container (binfmt_misc's flag F). It weighs 71 MB, too much for every guest image to carry: it comes when it is
wanted, once a computer, and of it only what hostvm knows how to register is kept (docs/adr/0086). A folder that is not
whole is passed over, and made again; what is in it is compared before it is used.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tarfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from images.archive import DEFAULT_MIRROR, Fetcher, open_archive, suites_of, with_fresh_index
from images.archive.versions import Version
from images.deb import unpack_data
from images.disk import replace_folder, temporary_folder, work_lock
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
MANIFEST = "manifest.json"
MOST = 1 << 28
"""Bytes of one program."""
_NAME, _SHA256 = re.compile(r"[a-z0-9]+"), re.compile(r"[0-9a-f]{64}")


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
    """The newest one that is stored, without any look at the network; what it holds is not read.

    :param arch: of the guest that is to run it.
    """
    return next(iter(_stored(name, arch, cache)), None)


def find_sound_emulator(name: str, arch: str, cache: Path) -> Emulator | None:
    """As `find_emulator`, but the newest one that is, unpacked, what its manifest says; before it is used."""
    return next((one for one in _stored(name, arch, cache) if _unpacked_sum(one.packed) == one.sha256), None)


def _stored(name: str, arch: str, cache: Path) -> list[Emulator]:
    """Newest first."""
    found = []
    for path in (cache / "emulators").glob(f"{arch}-*/{MANIFEST}"):
        facts = read_emulators(path.parent)
        if facts is not None and facts["revision"] == REVISION and name in facts["emulators"]:
            found.append(Emulator(name, facts["emulators"][name], facts["version"], path.with_name(f"{name}.gz")))
    return sorted(found, key=lambda one: Version(one.version), reverse=True)


def read_emulators(folder: Path) -> dict[str, Any] | None:
    """What the manifest of stored emulators says; None when it cannot be read, says too little, or one is missing."""
    try:
        facts = json.loads((folder / MANIFEST).read_bytes())
        Version(facts["version"])
        sums = facts["emulators"].items()
        shaped = all(_NAME.fullmatch(name) and _SHA256.fullmatch(sha256) for name, sha256 in sums)
        shaped = shaped and type(facts["revision"]) is int
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return facts if shaped and all((folder / f"{name}.gz").is_file() for name, _ in sums) else None


def changed_emulators(folder: Path) -> list[str]:
    """Names of those that are not, unpacked, what their manifest says; none when there is no manifest to be read."""
    facts = read_emulators(folder) or {"emulators": {}}
    return [name for name, sha256 in facts["emulators"].items() if _unpacked_sum(folder / f"{name}.gz") != sha256]


def _unpacked_sum(packed: Path) -> str | None:
    """The sha256 of a packed program; None when it cannot be unpacked or is far too large."""
    digest, room = hashlib.sha256(), MOST
    try:
        with gzip.open(packed) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                room -= len(chunk)
                if room < 0:
                    return None
    except (OSError, EOFError, zlib.error):
        return None
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Supply:
    """Where emulators come from, and where they are stored.

    :param arch: of the guest that is to run them.
    :param keys: pinned certificates instead of the shipped ones.
    """

    arch: str
    cache: Path
    mirror: str = DEFAULT_MIRROR
    keys: Sequence[Cert] | None = None
    fetcher: Fetcher | None = None


def fetch_emulators(supply: Supply, progress: Progress) -> None:
    """Have the emulators of the archive's newest package stored, all that are known; nothing is fetched when they are.

    :raises HostvmError: see `open_archive`, `Fetcher.fetch_all`; the package lacks an emulator.
    """
    with_fresh_index(lambda: fetch_emulators_once(supply, progress), progress)


def fetch_emulators_once(supply: Supply, progress: Progress) -> None:
    """As `fetch_emulators`, for a caller that reads the index anew itself when the mirror is not as it says."""
    arch, cache = supply.arch, supply.cache
    folder = cache / "emulators"
    with work_lock(folder, progress):
        suites = suites_of(SUITE, supply.mirror, ("security",))
        fetcher = supply.fetcher or Fetcher(cache, note=progress.note)
        archive = open_archive(suites, arch, fetcher, progress, keys=supply.keys, only={PACKAGE})
        (package,) = archive.resolve([PACKAGE])
        target = folder / f"{arch}-{package.sha256}"
        if _is_whole(target):
            return
        (deb,) = archive.fetch([package], progress)
        with temporary_folder(folder) as work, progress.step("unpacking emulators"):
            made = work / "made"
            made.mkdir()
            sums = _unpack(deb, work / "data.tar", made)
            facts = {"revision": REVISION, "version": package.version, "package": package.sha256, "emulators": sums}
            (made / MANIFEST).write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")
            replace_folder(made, target)
        # All of it that will be used is kept apart now.
        deb.unlink(missing_ok=True)


def _is_whole(folder: Path) -> bool:
    facts = read_emulators(folder)
    known = facts is not None and facts["revision"] == REVISION and facts["emulators"].keys() >= FOREIGN.keys()
    return known and not changed_emulators(folder)


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
