"""Container base images without a registry: Debian and busybox, from the same signed packages.

CACHE/base/sha256/KEY/{image.tar,manifest.json}   KEY: sha256 of what went in
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from images.archive import DEFAULT_MIRROR, Archive, Fetcher, Package, open_archive, suites_of
from images.bakery import MIB, make_disk
from images.disk import require_space, temporary_folder, work_lock
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
    from images.bakery import Bakery
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
class _Request:
    """What was asked for.

    :param reference: what the engine will call it.
    """

    kind: str
    reference: str
    arch: str
    suite: str
    mirror: str
    packages: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"packages": list(self.packages)}


def find_base(
    name: str,
    arch: str,
    packages: Sequence[str],
    suite: str | None,
    mirror: str | None,
    cache: Path,
    *,
    tag: str | None = None,
) -> Path | None:
    """The newest image made by the same request before, without any look at the network.

    :raises RecipeError: an unknown name.
    """
    wanted = _request(name, arch, packages, suite, mirror, tag).as_json()
    found = []
    for path in (cache / "base" / "sha256").glob("*/manifest.json"):
        entry = json.loads(path.read_bytes())
        if entry.get("revision") == REVISION and entry["request"] == wanted:
            found.append((entry["date"], path.with_name("image.tar")))
    return max(found)[1] if found else None


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
    tag: str | None = None,
    keys: Sequence[Cert] | None = None,
    fetcher: Fetcher | None = None,
) -> Path:
    """Make `debian:SUITE` or `busybox:latest` from the archive as it is now; returns a tar for `docker load`.

    Debian's packages are configured by their own maintainer scripts, run by dpkg inside the builder guest. The
    tar belongs to the cache: the same packages give the same one. Do not change it.

    :param packages: Debian packages on top of the minimal set (not for busybox).
    :param suite: instead of the one that `name` says.
    :param tag: NAME:TAG that the engine will call it; default: `name`.
    :raises RecipeError: an unknown name.
    :raises HostvmError: see `open_archive`, `resolve`, `Fetcher.fetch_all` and `Builder.run`.
    """
    request = _request(name, arch, packages, suite, mirror, tag)
    base = cache / "base"
    with work_lock(base, progress):
        pockets = POCKETS if request.kind == "debian" else ("security",)
        suites = suites_of(request.suite, request.mirror, pockets)
        archive = open_archive(suites, arch, fetcher or Fetcher(cache), progress, keys=keys)
        chosen = _choose(archive, request)
        entry = _entry(request, chosen)
        folder = base / "sha256" / hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
        if not (folder / "manifest.json").is_file():
            with temporary_folder(base) as work:
                _Maker(request, work, progress).make(archive, chosen, entry, cache, builder)
                folder.parent.mkdir(exist_ok=True)
                (work / "result").replace(folder)
        return folder / "image.tar"


def _request(
    name: str, arch: str, packages: Sequence[str], suite: str | None, mirror: str | None, tag: str | None
) -> _Request:
    kind, _, version = name.partition(":")
    if kind == "debian" and re.fullmatch(r"[a-z]*", version):
        default = version or "trixie"
        reference = f"debian:{default}"
    elif kind == "busybox" and version in ("", "latest") and not packages:
        reference, default = "busybox:latest", "trixie"
    else:
        extra = " with packages" if kind == "busybox" and packages else ""
        raise RecipeError(
            f"no base image {name}{extra}", f"There are {KNOWN}.", "Type `hostvm image base debian:trixie`"
        )
    name_tag = tag or reference
    if ":" not in name_tag.rpartition("/")[2]:
        name_tag += ":latest"
    wanted = tuple(sorted(set(packages)))
    return _Request(kind, name_tag, arch, suite or default, mirror or DEFAULT_MIRROR, wanted)


def _choose(archive: Archive, request: _Request) -> list[Package]:
    if request.kind == "busybox":
        return archive.resolve(["busybox-static"])
    return archive.resolve([*archive.index.required(), *APT, *request.packages])


def _entry(request: _Request, packages: Sequence[Package]) -> dict[str, Any]:
    files = [*own_files(FILES / f"base-{request.kind}"), *own_files(FILES / "builder-jobs")]
    return {
        "revision": REVISION,
        "request": request.as_json(),
        "files": [[path, hashlib.sha256(data).hexdigest()] for path, data, _ in files],
        "packages": [{"name": p.name, "version": p.version, "sha256": p.sha256} for p in packages],
    }


@dataclasses.dataclass(frozen=True, slots=True)
class _Maker:
    """One image being made in a folder of its own."""

    request: _Request
    work: Path
    progress: Progress

    def make(
        self, archive: Archive, packages: Sequence[Package], entry: dict[str, Any], cache: Path, builder: Builder
    ) -> None:
        """Leave image.tar and manifest.json in `work`/result."""
        result = self.work / "result"
        result.mkdir()
        unpacked = unpack_packages(packages, archive.fetch(packages, self.progress), self.work, self.progress)
        if self.request.kind == "busybox":
            shipped = package_tree(unpacked)
            date, command = shipped.newest, ("sh",)
            tree = busybox_tree(shipped.read("usr/bin/busybox"))
        else:
            bakery = open_bakery(archive, self.request.arch, cache, builder, self.progress)
            tree, date = self.configure(unpacked, bakery)
            command = ("bash",)
        with self.progress.step("writing the image"):
            layer = self.work / "layer.tar"
            with layer.open("wb") as file:
                write_tar(tree, file, date)
            comment = f"Debian {self.request.suite}, {len(packages)} package{'s' * (len(packages) > 1)}"
            config = ContainerConfig(self.request.arch, date, command, comment)
            image_id = write_image(layer, config, self.request.reference, result / "image.tar")
            facts = entry | {"image_id": image_id, "date": date}
            (result / "manifest.json").write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")

    def configure(self, unpacked: Sequence[Unpacked], bakery: Bakery) -> tuple[Tree, int]:
        """Have the builder guest configure packages; the tree it gives back, and the newest package's date."""
        source, target = self.work / "packages.tar", self.work / "configured.tar"
        with self.progress.step("unpacked tree"):
            tree = debian_tree(unpacked, self.request.suite, self.request.mirror)
            size = tree.size()
            with source.open("wb") as file:
                write_tar(tree, file, tree.newest)
        make_disk(target, 2 * size + 64 * MIB)
        require_space(self.work, size)
        bakery.run(
            "configure",
            {"EPOCH": str(tree.newest)},
            source,
            target,
            self.work,
            self.progress,
            memory=(2 * size // MIB + 384) * MIB,
            title="configuring packages",
        )
        return read_configured(target), tree.newest


def debian_tree(unpacked: Sequence[Unpacked], suite: str, mirror: str) -> Tree:
    """Packages as `dpkg --unpack` would leave them, with apt's sources and the settings of a container."""
    tree = Tree()
    order = sorted(unpacked, key=lambda item: (item.package.name != "base-files", item.package.name))
    install_unpacked(tree, [(item.deb, item.data, item.package.name) for item in order])
    # base-passwd's preinst makes these from a list of its own, equal to the masters.
    for name in ("passwd", "group"):
        tree.add_file(f"etc/{name}", tree.read(f"usr/share/base-passwd/{name}.master"))
    tree.add_link("usr/bin/awk", "mawk")  # maintainer scripts use it before mawk's own has made the alternative
    for path, data, mode in own_files(FILES / "base-debian"):
        tree.add_file(path, data, mode)
    tree.add_file("etc/apt/sources.list.d/debian.sources", sources_list(suite, mirror).encode())
    tree.drop(DEBIAN_DROP)
    return tree


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
