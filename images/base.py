"""Container base images without a registry: Debian, busybox and a bare Python, from the same signed packages."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from images.addresses import without_login
from images.archive import DEFAULT_MIRROR, Archive, Fetcher, Package, open_archive, suites_of, with_fresh_index
from images.bakery import MIB, make_disk
from images.base_busybox import busybox_tree
from images.base_python import NONROOT, choose_python, python_tree
from images.base_stored import IMAGE, MANIFEST, is_sound_base, read_base
from images.cpio import CpioEntry
from images.disk import replace_folder, require_space, sha256_file, temporary_folder, work_lock
from images.dpkg import install_unpacked
from images.emulators import Supply, fetch_emulators_once, find_sound_emulator
from images.errors import RecipeError
from images.foreign import DEBIAN
from images.initramfs import own_files
from images.kit import KitPackages, open_bakery
from images.oci import ContainerConfig, format_date, write_image
from images.recipe import FILES
from images.rootfs import Unpacked, package_tree, unpack_packages
from images.tree import Tree, add_package, merge_usr, write_tar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pysequoia import Cert

    from images.bake import Builder
    from images.bakery import Bakery
    from images.emulators import Emulator
    from images.progress import Progress

REVISION = 4
APT = ("apt", "debian-archive-keyring")
POCKETS = ("updates", "security")
SUITES = ("trixie", "bookworm", "forky")
PYTHON = "distroless-python"
KNOWN = "debian:trixie, debian:bookworm, debian:forky, distroless-python of the same suites, busybox:latest"
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


@dataclasses.dataclass(frozen=True, slots=True)
class _Request:
    """What was asked for.

    :param reference: what the engine will call it.
    :param arch: as platforms name it.
    """

    kind: str
    reference: str
    arch: str
    suite: str
    mirror: str
    packages: tuple[str, ...]
    nonroot: bool = False

    @property
    def debian_arch(self) -> str:
        return DEBIAN.get(self.arch, self.arch)

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"packages": list(self.packages), "mirror": without_login(self.mirror)}


def find_base(
    name: str,
    arch: str,
    packages: Sequence[str],
    suite: str | None,
    mirror: str | None,
    cache: Path,
    *,
    tag: str | None = None,
    nonroot: bool = False,
) -> Path | None:
    """The newest image made by the same request before, without any look at the network; damaged ones are passed over.

    All of it is read and compared.

    :param mirror: where it came from; None: from any, as what came in a bundle was made from its sender's.
    :raises RecipeError: an unknown name.
    """
    wanted = _request(name, arch, packages, suite, mirror, tag, nonroot=nonroot).as_json()
    anywhere = {} if mirror else {"mirror": wanted["mirror"]}
    found = []
    for path in (cache / "base" / "sha256").glob(f"*/{IMAGE}"):
        entry = read_base(path.parent)
        if entry is not None and entry["revision"] == REVISION and entry["request"] | anywhere == wanted:
            found.append((entry["date"], path))
    return next((path for _, path in sorted(found, reverse=True) if is_sound_base(path.parent)), None)


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
    nonroot: bool = False,
    builder_arch: str | None = None,
    keys: Sequence[Cert] | None = None,
    fetcher: Fetcher | None = None,
) -> Path:
    """Make `debian:SUITE`, `busybox:latest` or `distroless-python:SUITE` from the archive as it is now.

    Returns a tar for `docker load`.

    Debian's packages are configured by their own maintainer scripts, run by dpkg inside the builder guest. The
    tar belongs to the cache: the same packages give the same one. Do not change it; one that was is made again.

    :param packages: Debian packages on top of the minimal set (not for busybox).
    :param suite: instead of the one that `name` says.
    :param tag: NAME:TAG that the engine will call it; default: `name`.
    :param nonroot: containers run as user `nonroot` (distroless-python only).
    :param builder_arch: the computer's, for the builder guest, which runs other architectures' programs by an emulator;
        default: `arch`.
    :raises RecipeError: an unknown name.
    :raises HostvmError: see `open_archive`, `resolve`, `Fetcher.fetch_all` and `Builder.run`.
    """
    request = _request(name, arch, packages, suite, mirror, tag, nonroot=nonroot)
    base = cache / "base"
    with work_lock(base, progress):
        shop = _Shop(request, cache, fetcher or Fetcher(cache, note=progress.note), keys, builder, builder_arch or arch)
        return with_fresh_index(lambda: _have_base(shop, base, progress), progress)


def _have_base(shop: _Shop, base: Path, progress: Progress) -> Path:
    request = shop.request
    archive = shop.open(request.debian_arch, progress)
    chosen = _choose(archive, request)
    entry = _entry(request, chosen)
    folder = base / "sha256" / hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
    if not is_sound_base(folder):
        if read_base(folder) is not None:
            progress.note(f"the stored {request.reference} is damaged and is made again")
        with temporary_folder(base) as work:
            _Maker(request, work, progress, shop).make(archive, chosen, entry)
            replace_folder(work / "result", folder)
    return folder / IMAGE


def _request(
    name: str,
    arch: str,
    packages: Sequence[str],
    suite: str | None,
    mirror: str | None,
    tag: str | None,
    *,
    nonroot: bool = False,
) -> _Request:
    kind, _, version = name.partition(":")
    if kind in ("debian", PYTHON) and re.fullmatch(r"[a-z]*", version):
        default = version or suite or SUITES[0]
        reference = f"{kind}:{default}"
    elif kind == "busybox" and version in ("", "latest") and not packages:
        reference, default = "busybox:latest", SUITES[0]
    else:
        extra = " with packages" if kind == "busybox" and packages else ""
        raise RecipeError(
            f"no base image {name}{extra}", f"There are {KNOWN}.", "Type `hostvm image base debian:trixie`"
        )
    if nonroot and kind != PYTHON:
        raise RecipeError(
            f"{name} has no user nonroot", f"Only {PYTHON} has it.", f"Type `hostvm image base {PYTHON} --nonroot`"
        )
    name_tag = tag or reference
    if ":" not in name_tag.rpartition("/")[2]:
        name_tag += ":latest"
    wanted = tuple(sorted(set(packages)))
    return _Request(kind, name_tag, arch, suite or default, mirror or DEFAULT_MIRROR, wanted, nonroot)


@dataclasses.dataclass(frozen=True, slots=True)
class _Shop:
    """Where packages come from, and what configures them."""

    request: _Request
    cache: Path
    fetcher: Fetcher
    keys: Sequence[Cert] | None
    builder: Builder
    builder_arch: str

    def open(self, arch: str, progress: Progress) -> Archive:
        pockets = ("security",) if self.request.kind == "busybox" else POCKETS
        suites = suites_of(self.request.suite, self.request.mirror, pockets)
        return open_archive(suites, arch, self.fetcher, progress, keys=self.keys)

    def bakery(self, archive: Archive, progress: Progress) -> Bakery:
        """A builder guest of this computer's architecture; `archive` is that of the image's."""
        if self.builder_arch != self.request.arch:
            archive = self.open(self.builder_arch, progress)
        packages = KitPackages.of(archive, self.builder_arch)
        return open_bakery(packages, archive.fetcher, self.cache, self.builder, progress)

    def emulator(self, progress: Progress) -> Emulator | None:
        """What the builder guest needs to run the image's programs; None when it runs them by itself."""
        arch, native = self.request.arch, self.builder_arch
        if arch in (native, *(["386"] if native == "amd64" else [])):
            return None
        found = find_sound_emulator(arch, native, self.cache)
        if found is None:
            supply = Supply(native, self.cache, self.request.mirror, self.keys, self.fetcher)
            fetch_emulators_once(supply, progress)
            found = find_sound_emulator(arch, native, self.cache)
            assert found is not None  # all are stored together
        return found


def _choose(archive: Archive, request: _Request) -> list[Package]:
    if request.kind == "busybox":
        return archive.resolve(["busybox-static"])
    if request.kind == PYTHON:
        return choose_python(archive, request.packages)
    return archive.resolve([*archive.index.required(), *APT, *request.packages])


def _entry(request: _Request, packages: Sequence[Package]) -> dict[str, Any]:
    files = own_files(FILES / "builder-jobs")
    if request.kind != PYTHON:
        files = [*own_files(FILES / f"base-{request.kind}"), *files]
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
    shop: _Shop

    def make(self, archive: Archive, packages: Sequence[Package], entry: dict[str, Any]) -> None:
        """Leave image.tar and manifest.json in `work`/result."""
        result = self.work / "result"
        result.mkdir()
        unpacked = unpack_packages(packages, archive.fetch(packages, self.progress), self.work, self.progress)
        tree, date = self.tree(unpacked, archive)
        with self.progress.step("writing the image"):
            layer = self.work / "layer.tar"
            with layer.open("wb") as file:
                write_tar(tree, file, date)
            config = container_config(self.request, packages, date)
            image_id = write_image(layer, config, self.request.reference, result / IMAGE)
            facts = entry | {"image_id": image_id, "date": date, "sha256": sha256_file(result / IMAGE)}
            (result / MANIFEST).write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")

    def tree(self, unpacked: Sequence[Unpacked], archive: Archive) -> tuple[Tree, int]:
        """The image's tree, and the date of the newest thing in it."""
        if self.request.kind == "debian":
            return self.configure(unpacked, self.shop.bakery(archive, self.progress))
        if self.request.kind == PYTHON:
            tree = python_tree(unpacked)
            return tree, tree.newest
        shipped = package_tree(unpacked)
        return busybox_tree(shipped.read("usr/bin/busybox")), shipped.newest

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
        emulator = self.shop.emulator(self.progress)
        settings, extra = {"EPOCH": str(tree.newest)}, []
        if emulator is not None:
            settings["PATTERN"] = emulator.pattern
            extra.append(CpioEntry.file("job/emulator.gz", emulator.packed.read_bytes()))
        bakery.run(
            "configure",
            settings,
            source,
            target,
            self.work,
            self.progress,
            extra=extra,
            memory=(2 * size // MIB + 448) * MIB,
            title="configuring packages",
        )
        return read_configured(target), tree.newest


def container_config(request: _Request, packages: Sequence[Package], date: int) -> ContainerConfig:
    """What a container starts with, and what the image says of itself.

    :param date: seconds since 1970; never the clock's.
    """
    versions = {package.name: package.version for package in packages}
    python = next((name for name in versions if re.fullmatch(r"python3\.\d+-minimal", name)), "")
    main = {"debian": "base-files", "busybox": "busybox-static", PYTHON: python}[request.kind]
    comment = f"Debian {request.suite}, {len(packages)} package{'s' * (len(packages) > 1)}"
    labels = {
        "org.opencontainers.image.created": format_date(date),
        "org.opencontainers.image.description": comment,
        "org.opencontainers.image.ref.name": request.reference,
        "org.opencontainers.image.title": request.kind,
        "org.opencontainers.image.version": versions[main],
    }
    command = {"debian": ("bash",), "busybox": ("sh",), PYTHON: ()}[request.kind]
    entrypoint = ("/usr/bin/python3",) if request.kind == PYTHON else ()
    user = str(NONROOT) if request.nonroot else ""
    return ContainerConfig(request.arch, date, command, comment, labels, user, entrypoint)


def debian_tree(unpacked: Sequence[Unpacked], suite: str, mirror: str) -> Tree:
    """Packages as `dpkg --unpack` would leave them, with apt's sources and the settings of a container."""
    tree = Tree()
    order = sorted(unpacked, key=lambda item: (item.package.name != "base-files", item.package.name))
    install_unpacked(tree, [(item.deb, item.data, item.package.name) for item in order])
    merge_usr(tree)
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
    """apt's sources in deb822 form (sources.list(5)): the suite, its updates and its security pocket.

    A login of the mirror is not for whoever gets the image: in a container it belongs in apt_auth.conf(5).
    """
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    stanzas: dict[str, list[str]] = {}
    for item in suites_of(suite, without_login(mirror), POCKETS):
        stanzas.setdefault(item.url, []).append(item.name)
    return "\n".join(
        f"Types: deb\nURIs: {url}\nSuites: {' '.join(names)}\nComponents: main\nSigned-By: {keyring}\n"
        for url, names in stanzas.items()
    )


def read_configured(configured: Path) -> Tree:
    """The tree that came back from the builder guest, without traces of the moment it was made."""
    tree = Tree()
    way_out = "Leave out the `--package` whose scripts make it, then `hostvm image base` again"
    add_package(tree, configured, "the configured tree", way_out)
    tree.drop(DEBIAN_TRACES)
    # Empty as in Debian's own images: a container's first boot of systemd, if any, fills it.
    tree.add_file("etc/machine-id", b"")
    # Days since 1970 of the last password change, as of the build; without it the field means "unknown".
    shadow = tree.read("etc/shadow").decode()
    tree.add_file("etc/shadow", re.sub(r"(?m)^([^:]*:[^:]*):\d+:", r"\1:0:", shadow).encode(), 0o640, 0, 42)
    return tree
