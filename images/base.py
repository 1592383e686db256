"""Container base images without a registry: Debian and busybox, from the same signed packages.

CACHE/base/sha256/KEY/{image.tar,manifest.json}   KEY: sha256 of what went in
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from images.archive import DEFAULT_MIRROR, Archive, Fetcher, Package, open_archive, suites_of
from images.bakery import MIB, make_disk
from images.disk import disk_full_explained, temporary_folder
from images.dpkg import install_unpacked
from images.errors import ImageError, RecipeError
from images.initramfs import own_files
from images.kit import open_bakery
from images.oci import ContainerConfig, write_image
from images.recipe import FILES
from images.rootfs import Unpacked, package_tree, unpack_packages
from images.tree import Tree, add_package, write_tar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pysequoia import Cert

    from images.bake import Builder
    from images.progress import Progress

REVISION = 1
APT = ("apt", "debian-archive-keyring")
POCKETS = ("updates", "security")
KNOWN = "debian:trixie, debian:bookworm, debian:forky, busybox:latest"
# Only what a container never needs; the same list keeps dpkg from unpacking more of it (base-debian's dpkg.cfg).
DEBIAN_DROP = (
    "usr/share/doc/*/[!c]*",
    "usr/share/doc/*/changelog*",
    "usr/share/groff/*",
    "usr/share/info/*",
    "usr/share/lintian/*",
    "usr/share/linda/*",
    "usr/share/locale/[!l]*",
    "usr/share/locale/l[!o]*",
    "usr/share/man/*",
)
# Traces of the moment: two builds of the same packages must be the same image.
DEBIAN_TRACES = (
    "dev/*",
    "proc/*",
    "sys/*",
    "tmp/*",
    "run/*",
    "etc/machine-id",
    "etc/*-",
    "etc/.pwd.lock",
    "var/cache/apt/*",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/dpkg/triggers/Lock",
    "var/log/*",
)
BUSYBOX_FOLDERS = {"dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "sys": 0o755}


@dataclasses.dataclass(frozen=True, slots=True)
class BaseImage:
    """A base image that was made.

    :param path: what `docker load` reads.
    :param image_id: `sha256:…`, what the engine calls it.
    """

    reference: str
    arch: str
    path: Path
    image_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Request:
    """What was asked for; its fields are the part of the cache's key that needs no network."""

    reference: str
    arch: str
    suite: str
    mirror: str
    packages: tuple[str, ...]

    @property
    def kind(self) -> str:
        return self.reference.partition(":")[0]


def find_base(
    name: str, arch: str, packages: Sequence[str], suite: str | None, mirror: str | None, cache: Path
) -> BaseImage | None:
    """The newest image made by the same request before, without any look at the network.

    :raises RecipeError: an unknown name.
    """
    request = dataclasses.asdict(_request(name, arch, packages, suite, mirror)) | {"packages": sorted(set(packages))}
    found = [(entry["date"], _base(path, entry)) for path, entry in _entries(cache) if entry["request"] == request]
    return max(found, key=lambda item: item[0])[1] if found else None


def build_base(
    name: str,
    arch: str,
    packages: Sequence[str],
    suite: str | None,
    mirror: str | None,
    cache: Path,
    builder: Builder,
    progress: Progress,
    *,
    keys: Sequence[Cert] | None = None,
    fetcher: Fetcher | None = None,
) -> BaseImage:
    """Make `debian:SUITE` or `busybox:latest` from the archive as it is now; kept in the cache.

    Debian's packages are configured by their own maintainer scripts, run by dpkg inside the builder guest.

    :param packages: Debian packages on top of the minimal set (not for busybox).
    :param suite: instead of the one the tag names.
    :raises RecipeError: an unknown name.
    :raises HostvmError: see `open_archive`, `resolve`, `Fetcher.fetch_all` and `Builder.run`.
    """
    request = _request(name, arch, packages, suite, mirror)
    base = cache / "base"
    with disk_full_explained(cache):
        base.mkdir(parents=True, exist_ok=True)
    with FileLock(base / ".lock"):
        pockets = POCKETS if request.kind == "debian" else ("security",)
        suites = suites_of(request.suite, request.mirror, pockets)
        archive = open_archive(suites, arch, fetcher or Fetcher(cache), progress, keys=keys)
        chosen = _choose(archive, request)
        entry = _entry(request, archive, chosen)
        folder = base / "sha256" / _digest(entry)
        if not (folder / "manifest.json").is_file():
            with temporary_folder(base, ".new-") as work:
                _make(archive, request, chosen, entry, work, cache, builder, progress)
                folder.parent.mkdir(exist_ok=True)
                (work / "result").replace(folder)
        return _base(folder, json.loads((folder / "manifest.json").read_bytes()))


def _request(name: str, arch: str, packages: Sequence[str], suite: str | None, mirror: str | None) -> _Request:
    kind, _, tag = name.partition(":")
    if kind == "debian" and re.fullmatch(r"[a-z]+", tag or "trixie"):
        reference, default = f"debian:{tag or 'trixie'}", tag or "trixie"
    elif kind == "busybox" and tag in ("", "latest") and not packages:
        reference, default = "busybox:latest", "trixie"
    else:
        extra = " (busybox takes no packages)" if kind == "busybox" else ""
        raise RecipeError(
            f"no base image {name}{extra}",
            f"Made from Debian's packages are {KNOWN}.",
            "`hostvm image base debian:trixie`",
        )
    return _Request(reference, arch, suite or default, mirror or DEFAULT_MIRROR, tuple(sorted(set(packages))))


def _choose(archive: Archive, request: _Request) -> list[Package]:
    if request.kind == "busybox":
        return archive.resolve(["busybox-static"])
    return archive.resolve([*archive.index.required(), *APT, *request.packages])


def _entry(request: _Request, archive: Archive, packages: Sequence[Package]) -> dict[str, Any]:
    folder = f"base-{request.kind}"
    files = [*own_files(FILES / folder), *own_files(FILES / "builder-jobs")]
    return {
        "revision": REVISION,
        "request": dataclasses.asdict(request) | {"packages": list(request.packages)},
        "date": int(archive.date.timestamp()),
        "files": [[path, hashlib.sha256(data).hexdigest()] for path, data, _ in files],
        "packages": [{"name": p.name, "version": p.version, "sha256": p.sha256} for p in packages],
    }


def _digest(entry: dict[str, Any]) -> str:
    # The date is left out: a newer InRelease with the same packages makes nothing new.
    content = {key: value for key, value in entry.items() if key != "date"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _make(
    archive: Archive,
    request: _Request,
    packages: Sequence[Package],
    entry: dict[str, Any],
    work: Path,
    cache: Path,
    builder: Builder,
    progress: Progress,
) -> None:
    result = work / "result"
    result.mkdir()
    unpacked = unpack_packages(packages, archive.fetch(packages, progress), work, progress)
    if request.kind == "busybox":
        tree, command = busybox_tree(package_tree(unpacked).read("usr/bin/busybox")), ("sh",)
    else:
        source, target = work / "packages.tar", work / "configured.tar"
        with progress.step("unpacked tree"):
            size = _write_source(request, unpacked, source, entry["date"])
        make_disk(target, 2 * size + 64 * MIB)
        bakery = open_bakery(archive, request.arch, cache, builder, progress)
        bakery.run(
            "configure",
            {"EPOCH": str(entry["date"])},
            source,
            target,
            work,
            progress,
            memory=(2 * size // MIB + 384) * MIB,
            title="configuring packages",
        )
        tree, command = read_configured(target), ("bash",)
    with progress.step("writing the image"):
        layer = work / "layer.tar"
        with layer.open("wb") as file:
            write_tar(tree, file, entry["date"])
        comment = f"{request.reference} from Debian {request.suite}, {len(packages)} packages"
        config = ContainerConfig(request.arch, entry["date"], command, comment)
        image_id = write_image(layer, config, request.reference, result / "image.tar")
        (result / "manifest.json").write_text(json.dumps(entry | {"image_id": image_id}, indent=1, sort_keys=True))


def _write_source(request: _Request, unpacked: Sequence[Unpacked], source: Path, date: int) -> int:
    tree = Tree()
    order = sorted(unpacked, key=lambda item: (item.package.name != "base-files", item.package.name))
    install_unpacked(tree, [(item.deb, item.data, item.package.name) for item in order])
    # base-passwd's preinst makes these from a list of its own, equal to the masters.
    for name in ("passwd", "group"):
        tree.add_file(f"etc/{name}", tree.read(f"usr/share/base-passwd/{name}.master"))
    tree.add_link("usr/bin/awk", "mawk")  # maintainer scripts use it before mawk's own has made the alternative
    for path, data, mode in own_files(FILES / "base-debian"):
        tree.add_file(path, data, mode)
    tree.add_file("etc/apt/sources.list.d/debian.sources", sources_list(request.suite, request.mirror).encode())
    tree.drop(DEBIAN_DROP)
    with source.open("wb") as file:
        write_tar(tree, file, date)
    return tree.size()


def sources_list(suite: str, mirror: str) -> str:
    """apt's sources in deb822 form (sources.list(5)): the suite, its updates and its security pocket."""
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    stanzas: dict[str, list[str]] = {}
    for item in suites_of(suite, mirror, POCKETS):
        stanzas.setdefault(item.url, []).append(item.name)
    return "\n".join(
        f"Types: deb\nURIs: {url}\nSuites: {' '.join(names)}\nComponents: main\nSigned-By: {keyring}\n"
        for url, names in stanzas.items()
    )


def read_configured(configured: Path) -> Tree:
    """The tree that came back from the builder guest, without traces of the moment it was made."""
    tree = Tree()
    add_package(tree, configured, "the builder guest")
    tree.drop(DEBIAN_TRACES)
    # Empty as in Debian's own images: a container's first boot of systemd, if any, fills it.
    tree.add_file("etc/machine-id", b"")
    # Days since 1970 of the last password change, as of the build; without it the field means "unknown".
    shadow = tree.read("etc/shadow").decode()
    tree.add_file("etc/shadow", re.sub(r"(?m)^([^:]*:[^:]*):\d+:", r"\1:0:", shadow).encode(), 0o640, 0, 42)
    return tree


def busybox_tree(busybox: bytes) -> Tree:
    """busybox with a link for each of its applets."""
    tree = Tree()
    for path, mode in BUSYBOX_FOLDERS.items():
        tree.add_dir(path, mode)
    tree.add_dir("tmp", 0o1777)
    tree.add_dir("var/spool/mail")
    tree.add_file("bin/busybox", busybox, 0o755)
    for applet in busybox_applets(busybox):
        tree.add_link(f"bin/{applet}", "busybox")
    # Scripts that begin with "#!/usr/bin/env sh" are common.
    tree.add_link("usr/bin/env", "../../bin/env")
    for path, data, mode in own_files(FILES / "base-busybox"):
        tree.add_file(path, data, mode)
    return tree


def busybox_applets(busybox: bytes) -> list[str]:
    """The applets a busybox binary has, read from its table of names (NUL-ended, sorted, `[` first).

    The binary cannot simply be asked: it is for the guest's processor and system.

    :raises ImageError: there is no such table.
    """
    start = busybox.find(b"[\0[[\0")
    end = busybox.find(b"\0\0", start)
    names = busybox[start:end].decode("ascii", "replace").split("\0") if 0 <= start < end else []
    if "sh" not in names or not all(re.fullmatch(r"[\w\[\-.]+", name) for name in names):
        raise ImageError("busybox's list of applets was not found", None, "Report this with the package's version")
    return [name for name in names if name != "busybox"]


def _entries(cache: Path) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for path in sorted((cache / "base" / "sha256").glob("*/manifest.json")):
        entry = json.loads(path.read_bytes())
        if entry.get("revision") == REVISION:
            found.append((path.parent, entry))
    return found


def _base(folder: Path, entry: dict[str, Any]) -> BaseImage:
    request = entry["request"]
    return BaseImage(request["reference"], request["arch"], folder / "image.tar", entry["image_id"])
