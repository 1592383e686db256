"""What an image consists of, as a file that people edit: images/recipes/NAME.yaml.

Keys (those marked * are required):

    base               a shipped recipe, or a file of images/recipes/base, to start from: lists are added to, mappings
                       are added to and overridden, texts replaced. A package that is wanted here counts as wanted even
                       when the base leaves it out
    name*              of the image: a letter or digit, then also any of +.:~_-
    engine             docker (default), podman or containerd: what the image brings
    rootless           true: the engine has no root's rights in the guest (default: false)
    suite*             default Debian suite, e.g. trixie
    pockets            further suites: [security] (default), [security, updates] or []
    arches*            {amd64: {kernel: linux-image-amd64, console: ttyS0}, arm64: {...}}; the kernel package is
                       added to `packages`
    packages*          names; what they Depend on follows, Recommends do not
    suites             {package: suite} packages that come from another suite, e.g. {docker.io: forky}, with that
                       suite's `pockets`; what they depend on comes from there only where `suite` has it too old
    exclude_packages   {name: reason}: never taken, though something depends on it
    drop               shell patterns of paths to leave out; `*` matches `/` too
    modules            {keep: [...], initramfs: [...]}
                       keep: patterns of module names (`nf_*`) or of paths below kernel/ (`net/netfilter/*`); what
                       they depend on is kept too, every other module is left out
                       initramfs: names in the order to load them; what they depend on is put before them. In the
                       initramfs: /modules/NAME.ko, uncompressed, and /modules/order, one name a line. An entry
                       "--" stays in that list as it is, so that init can tell two stages apart
    files              folders under images/files whose content is copied over the tree, one after the other. Files that
                       begin with `#!` get mode 0755, others 0644, folders 0755, whatever the host says; owner root
    initramfs          folder under images/files with the initramfs' own files, `init` among them. Added are
                       /bin/busybox, /bin/sh, the empty folders dev proc sys run tmp root image layer, /dev/console
    links              {path: target} symbolic links
    dirs               {path: "0755"} folders, with their modes as quoted octal
    modes              {pattern: "0600"} modes of files and folders that exist by then
    groups             {name: gid} beside Debian's own
    users              [{name, uid, gid, home, shell, groups: [names]}] beside Debian's own, or instead of one;
                       no password
    finish             [[argv], ...] run in the finished tree as a chroot, after everything else, in a builder guest;
                       the word KVER stands for the kernel's release. File capabilities that they set cannot be kept
    cmdline            the kernel's parameters on every accelerator, without console= (that comes from `arches`)
    cmdline_tcg        parameters to add when the guest is emulated
    downloads          [{url or file, sha256, arch, take or to}] files of other makers: see `images.downloads`
    compression        of the root's file system: lz4, or lz4hc (default) with an optional level, 3 to 12: "lz4hc,6".
                       502 MB on two busy cores: lz4 2.6 s, 258 MB; lz4hc,3 8.7 s, 223 MB; lz4hc,6 12.8 s, 218 MB;
                       lz4hc (that is 9) 34 s, 217 MB

Always done, since no maintainer script is run: passwd, group, shadow and gshadow are made from base-passwd's
master files and `users`; the CA bundle from ca-certificates; the modules' indexes as by depmod; links for the merged
/usr come from base-files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from images.errors import RecipeError
from images.store import WORD

if TYPE_CHECKING:
    from images.downloads import Download

PACKAGE = Path(__file__).resolve().parent
RECIPES = PACKAGE / "recipes"
BASES = RECIPES / "base"
FILES = PACKAGE / "files"

_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.\-]+\Z")
_NAME = re.compile(r"[a-z_][a-z0-9_.\-]*\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_URL = re.compile(r"https?://[^\s/]+/\S+\Z")
LZ4HC_LEVEL = 9
_COMPRESSION = re.compile(r"(lz4|lz4hc(,([3-9]|1[0-2]))?)\Z")
MAX_ID = 65533
ARCHES = ("amd64", "arm64")


@dataclass(frozen=True, slots=True)
class ArchRecipe:
    """What differs between architectures."""

    kernel: str
    console: str


@dataclass(frozen=True, slots=True)
class User:
    """An account of the guest."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """See the module's text for what each field means."""

    name: str
    suite: str
    arches: dict[str, ArchRecipe]
    packages: tuple[str, ...]
    pockets: tuple[str, ...] = ("security",)
    suites: dict[str, str] = field(default_factory=dict)
    exclude_packages: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    keep_modules: tuple[str, ...] = ()
    initramfs_modules: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    initramfs: str = ""
    links: dict[str, str] = field(default_factory=dict)
    dirs: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    users: tuple[User, ...] = ()
    finish: tuple[tuple[str, ...], ...] = ()
    cmdline: str = ""
    cmdline_tcg: str = ""
    compression: str = "lz4hc"
    engine: str = "docker"
    rootless: bool = False
    downloads: tuple[Download, ...] = ()
    overlay: str = ""
    """A folder of the user's own, absolute; see `images.own_recipe`."""

    @property
    def level(self) -> int | None:
        """Of `compression`: lz4hc's, or None for plain lz4."""
        name, _, level = self.compression.partition(",")
        return None if name == "lz4" else int(level or LZ4HC_LEVEL)

    def arch(self, name: str) -> ArchRecipe:
        """What the recipe says for an architecture.

        :raises RecipeError: nothing.
        """
        if name not in self.arches:
            raise RecipeError(
                f"recipe {self.name} is not made for {name}",
                f"It is made for {', '.join(sorted(self.arches))}.",
                f"`hostvm image build --arch {min(self.arches)}`",
            )
        return self.arches[name]


def recipe_names() -> list[str]:
    """The recipes shipped with hostvm, sorted."""
    return sorted(found.stem for found in RECIPES.glob("*.yaml"))


def find_recipe(name: str = "docker") -> Recipe:
    """A recipe shipped with hostvm.

    :raises RecipeError: there is none of that name, or it has faults.
    """
    return load_recipe(yaml.safe_dump(recipe_data(name), sort_keys=False), str(RECIPES / f"{name}.yaml"))


def recipe_data(name: str) -> dict[str, Any]:
    """A shipped recipe as plain data, with what its bases say.

    :raises RecipeError: there is none of that name.
    """
    path = next((found for found in (RECIPES / f"{name}.yaml", BASES / f"{name}.yaml") if found.is_file()), None)
    if path is None:
        raise RecipeError(f"no recipe {name!r}", f"There are: {', '.join(recipe_names())}", "Choose one of them")
    own: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = own.pop("base", None)
    return own if base is None else merge(recipe_data(base), own)


def merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` over `base`; see the module's text."""
    merged = dict(base)
    for key, value in own.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            merged[key] = merge(known, value)
        elif isinstance(known, list) and isinstance(value, list):
            merged[key] = known + [item for item in value if item not in known]
        else:
            merged[key] = value
    wanted, excluded = own.get("packages"), merged.get("exclude_packages")
    if isinstance(wanted, list) and isinstance(excluded, dict):
        also = own.get("exclude_packages") or {}
        merged["exclude_packages"] = {k: v for k, v in excluded.items() if k in also or k not in wanted}
    return merged


def load_recipe(text: str, where: str) -> Recipe:
    """Read a recipe.

    :param where: the file's name, for messages.
    :raises RecipeError: with every fault at once, each with its path.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where} is not YAML", str(error), f"Correct {where}") from error
    reader = _Reader()
    recipe = reader.recipe(data)
    if reader.faults or recipe is None:
        raise RecipeError(f"{where} has {len(reader.faults)} faults", "\n".join(reader.faults), f"Correct {where}")
    return recipe


class _Reader:
    """Turns plain data into a recipe; collects faults instead of stopping at the first."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def recipe(self, data: Any) -> Recipe | None:
        known = (
            "name engine rootless suite pockets arches packages suites exclude_packages drop modules files initramfs "
            "links dirs modes groups users finish cmdline cmdline_tcg downloads compression"
        )
        top = self.mapping(data, "", known.split(), ("name", "suite", "arches", "packages"))
        modules = self.mapping(top.get("modules", {}), "modules", ["keep", "initramfs"])
        if top.get("name") == "":
            self.fault("name", "is empty")
        values: dict[str, Any] = {
            "name": self.text(top.get("name", ""), "name", WORD),
            "engine": self.text(top.get("engine", "docker"), "engine", _NAME),
            "rootless": self.truth(top.get("rootless", False), "rootless"),
            "suite": self.text(top.get("suite", ""), "suite", _NAME),
            "pockets": self.words(top.get("pockets", ["security"]), "pockets", _NAME),
            "arches": self.arches(top.get("arches", {})),
            "packages": self.words(top.get("packages", []), "packages", _PACKAGE_NAME),
            "suites": self.pairs(top.get("suites", {}), "suites", _NAME),
            "exclude_packages": self.pairs(top.get("exclude_packages", {}), "exclude_packages"),
            "drop": self.words(top.get("drop", []), "drop"),
            "keep_modules": self.words(modules.get("keep", []), "modules.keep"),
            "initramfs_modules": self.words(modules.get("initramfs", []), "modules.initramfs"),
            "files": self.folders(top.get("files", []), "files"),
            "initramfs": self.folder(top.get("initramfs", ""), "initramfs"),
            "links": self.pairs(top.get("links", {}), "links"),
            "dirs": self.modes(top.get("dirs", {}), "dirs"),
            "modes": self.modes(top.get("modes", {}), "modes"),
            "groups": self.groups(top.get("groups", {})),
            "users": self.users(top.get("users", [])),
            "finish": self.finish(top.get("finish", [])),
            "cmdline": " ".join(self.text(top.get("cmdline", ""), "cmdline").split()),
            "cmdline_tcg": " ".join(self.text(top.get("cmdline_tcg", ""), "cmdline_tcg").split()),
            "downloads": self.downloads(top.get("downloads", [])),
            "compression": self.compression(top.get("compression", "lz4hc")),
        }
        return None if self.faults else Recipe(**values)

    def fault(self, path: str, why: str) -> None:
        self.faults.append(f"{path or 'the file'}: {why}")

    def mapping(self, data: Any, path: str, known: list[str], required: tuple[str, ...] = ()) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fault(path, f"must be a mapping, is {data!r}")
            return {}
        for key in data:
            if key not in known:
                self.fault(f"{path}.{key}".lstrip("."), f"unknown key; known are {', '.join(known)}")
        for key in required:
            if key not in data:
                self.fault(f"{path}.{key}".lstrip("."), "is missing")
        return data

    def text(self, value: Any, path: str, pattern: re.Pattern[str] | None = None) -> str:
        if not isinstance(value, str):
            self.fault(path, f"must be a text, is {value!r}")
            return ""
        if pattern is not None and value and not pattern.match(value):
            self.fault(path, f"{value!r} is not of the form {pattern.pattern}")
        return value

    def truth(self, value: Any, path: str) -> bool:
        if not isinstance(value, bool):
            self.fault(path, f"must be true or false, is {value!r}")
        return value is True

    def number(self, value: Any, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_ID:
            self.fault(path, f"must be a number from 0 to {MAX_ID}, is {value!r}")
            return 0
        return value

    def items(self, data: Any, path: str) -> list[Any]:
        if not isinstance(data, list):
            self.fault(path, f"must be a list, is {data!r}")
            return []
        return data

    def words(self, data: Any, path: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        return tuple(self.text(v, f"{path}[{n}]", pattern) for n, v in enumerate(self.items(data, path)))

    def entries(self, data: Any, path: str) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fault(path, f"must be a mapping, is {data!r}")
            return {}
        return {self.text(key, f"{path}.{key}"): value for key, value in data.items()}

    def pairs(self, data: Any, path: str, pattern: re.Pattern[str] | None = None) -> dict[str, str]:
        return {key: self.text(value, f"{path}.{key}", pattern) for key, value in self.entries(data, path).items()}

    def folder(self, value: Any, path: str) -> str:
        name = self.text(value, path, _NAME)
        if name and not (FILES / name).is_dir():
            self.fault(path, f"images/files has no folder {name!r}")
        return name

    def folders(self, value: Any, path: str) -> tuple[str, ...]:
        if isinstance(value, str):
            return tuple(filter(None, [self.folder(value, path)]))
        return tuple(self.folder(one, f"{path}[{n}]") for n, one in enumerate(self.items(value, path)))

    def modes(self, data: Any, path: str) -> dict[str, int]:
        found = {}
        for key, value in self.entries(data, path).items():
            if isinstance(value, str) and re.fullmatch(r"0[0-7]{3,4}", value):
                found[key] = int(value, 8)
            else:
                self.fault(f"{path}.{key}", f'must be a quoted octal mode such as "0755", is {value!r}')
        return found

    def arches(self, data: Any) -> dict[str, ArchRecipe]:
        found = {}
        for name, value in self.entries(data, "arches").items():
            path = f"arches.{name}"
            if name not in ARCHES:
                self.fault(path, "unknown architecture; known are amd64, arm64")
            inner = self.mapping(value, path, ["kernel", "console"], ("kernel", "console"))
            kernel = self.text(inner.get("kernel", ""), f"{path}.kernel", _PACKAGE_NAME)
            found[name] = ArchRecipe(kernel, self.text(inner.get("console", ""), f"{path}.console"))
        return found

    def groups(self, data: Any) -> dict[str, int]:
        return {
            self.text(name, f"groups.{name}", _NAME): self.number(value, f"groups.{name}")
            for name, value in self.entries(data, "groups").items()
        }

    def users(self, data: Any) -> tuple[User, ...]:
        found = []
        for number, value in enumerate(self.items(data, "users")):
            path = f"users[{number}]"
            keys = ["name", "uid", "gid", "home", "shell"]
            inner = self.mapping(value, path, [*keys, "groups"], tuple(keys))
            found.append(
                User(
                    self.text(inner.get("name", ""), f"{path}.name", _NAME),
                    self.number(inner.get("uid", 0), f"{path}.uid"),
                    self.number(inner.get("gid", 0), f"{path}.gid"),
                    self.text(inner.get("home", ""), f"{path}.home"),
                    self.text(inner.get("shell", ""), f"{path}.shell"),
                    self.words(inner.get("groups", []), f"{path}.groups", _NAME),
                )
            )
        return tuple(found)

    def finish(self, data: Any) -> tuple[tuple[str, ...], ...]:
        found = []
        for number, value in enumerate(self.items(data, "finish")):
            argv = self.words(value, f"finish[{number}]")
            if not argv:
                self.fault(f"finish[{number}]", "is empty")
            found.append(argv)
        return tuple(found)

    def compression(self, data: Any) -> str:
        if not isinstance(data, str) or not _COMPRESSION.match(data):
            self.fault("compression", f"must be lz4, lz4hc, or lz4hc with a level from 3 to 12: lz4hc,6; is {data!r}")
            return ""
        return data

    def downloads(self, data: Any) -> tuple[Download, ...]:
        from images.downloads import Download  # with all that fetches, which a start does without

        found = []
        for number, value in enumerate(self.items(data, "downloads")):
            path = f"downloads[{number}]"
            inner = self.mapping(value, path, ["url", "file", "sha256", "arch", "take", "to"], ("sha256",))
            for one, other in (("url", "file"), ("take", "to")):
                if (one in inner) == (other in inner):
                    self.fault(path, f"must have either {one} or {other}")
            taken = self.pairs(inner.get("take", {}), f"{path}.take")
            for target in (*taken.values(), *([inner["to"]] if isinstance(inner.get("to"), str) else [])):
                if target.startswith("/") or target.endswith("/") or not {"", ".", ".."}.isdisjoint(target.split("/")):
                    self.fault(path, f"{target!r} is no path in the image such as usr/local/bin/tool")
            if inner.get("arch", "amd64") not in ARCHES:
                self.fault(f"{path}.arch", f"must be one of {', '.join(ARCHES)}, is {inner['arch']!r}")
            found.append(
                Download(
                    self.text(inner.get("sha256", ""), f"{path}.sha256", _SHA256),
                    self.text(inner.get("url", ""), f"{path}.url", _URL),
                    self.text(inner.get("file", ""), f"{path}.file"),
                    self.text(inner.get("arch", ""), f"{path}.arch"),
                    taken,
                    self.text(inner.get("to", ""), f"{path}.to"),
                )
            )
        return tuple(found)
