"""What an image consists of, as a file that people edit: images/recipes/NAME.yaml.

Keys (those marked * are required):

    name*              of the image
    suite*             default Debian suite, e.g. trixie
    pockets            further suites: [security] (default), [security, updates] or []
    arches*            {amd64: {kernel: linux-image-amd64, console: ttyS0}, arm64: {...}}; the kernel package is
                       added to `packages`
    packages*          names; what they Depend on follows, Recommends do not
    exclude_packages   {name: reason}: never taken, though something depends on it
    drop               shell patterns of paths to leave out; `*` matches `/` too
    modules            {keep: [...], initramfs: [...]}
                       keep: patterns of module names (`nf_*`) or of paths below kernel/ (`net/netfilter/*`); what
                       they depend on is kept too, every other module is left out
                       initramfs: names in the order to load them; what they depend on is put before them. In the
                       initramfs: /modules/NAME.ko, uncompressed, and /modules/order, one name a line. An entry
                       "--" stays in that list as it is, so that init can tell two stages apart
    files              folder under images/files whose content is copied over the tree. Files that begin with `#!`
                       get mode 0755, others 0644, folders 0755, whatever the host says; owner root
    initramfs          folder under images/files with the initramfs' own files, `init` among them. Added are
                       /bin/busybox, /bin/sh, the empty folders dev proc sys run tmp root image layer, /dev/console
    links              {path: target} symbolic links
    dirs               {path: "0755"} folders, with their modes as quoted octal
    modes              {pattern: "0600"} modes of files and folders that exist by then
    groups             {name: gid} beside Debian's own
    users              [{name, uid, gid, home, shell, groups: [names]}] beside Debian's own, or instead of one;
                       no password
    finish             [[argv], ...] run in the finished tree as a chroot, after everything else; the word KVER
                       stands for the kernel's release, e.g. [depmod, -a, KVER]
    cmdline            the kernel's parameters on every accelerator, without console= (that comes from `arches`)
    cmdline_tcg        parameters to add when the guest is emulated
    compression        of mkfs.erofs: lz4, lz4hc (default), zstd, ... with an optional level: "lz4hc,12".
                       506 MB on one core, not emulated: lz4 0.8 s, 250 MB; lz4hc,2 2.3 s, 231 MB; lz4hc,4 6.1 s,
                       212 MB; lz4hc,6 8.8 s, 209 MB; lz4hc (that is 9) 12.6 s, 208 MB

Always done, since no maintainer script is run: passwd, group, shadow and gshadow are made from base-passwd's
master files and `users`; the CA bundle from ca-certificates; links for the merged /usr come from base-files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from images.errors import RecipeError

PACKAGE = Path(__file__).resolve().parent
RECIPES = PACKAGE / "recipes"
FILES = PACKAGE / "files"

_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.\-]+\Z")
_NAME = re.compile(r"[a-z_][a-z0-9_.\-]*\Z")
_COMPRESSION = re.compile(r"(lz4|lz4hc|lzma|deflate|libdeflate|zstd)(,\d+)?\Z")
MAX_ID = 65533


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
    exclude_packages: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    keep_modules: tuple[str, ...] = ()
    initramfs_modules: tuple[str, ...] = ()
    files: str = ""
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
    overlay: str = ""
    """A folder of the user's own, absolute; see `images.own_recipe`."""

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
    path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        raise RecipeError(f"no recipe {name!r}", f"There are: {', '.join(recipe_names())}", "Choose one of them")
    return load_recipe(path.read_text(encoding="utf-8"), str(path))


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
            "name suite pockets arches packages exclude_packages drop modules files initramfs links dirs modes "
            "groups users finish cmdline cmdline_tcg compression"
        )
        top = self.mapping(data, "", known.split(), ("name", "suite", "arches", "packages"))
        modules = self.mapping(top.get("modules", {}), "modules", ["keep", "initramfs"])
        values: dict[str, Any] = {
            "name": self.text(top.get("name", ""), "name", _NAME),
            "suite": self.text(top.get("suite", ""), "suite", _NAME),
            "pockets": self.words(top.get("pockets", ["security"]), "pockets", _NAME),
            "arches": self.arches(top.get("arches", {})),
            "packages": self.words(top.get("packages", []), "packages", _PACKAGE_NAME),
            "exclude_packages": self.pairs(top.get("exclude_packages", {}), "exclude_packages"),
            "drop": self.words(top.get("drop", []), "drop"),
            "keep_modules": self.words(modules.get("keep", []), "modules.keep"),
            "initramfs_modules": self.words(modules.get("initramfs", []), "modules.initramfs"),
            "files": self.folder(top.get("files", ""), "files"),
            "initramfs": self.folder(top.get("initramfs", ""), "initramfs"),
            "links": self.pairs(top.get("links", {}), "links"),
            "dirs": self.modes(top.get("dirs", {}), "dirs"),
            "modes": self.modes(top.get("modes", {}), "modes"),
            "groups": self.groups(top.get("groups", {})),
            "users": self.users(top.get("users", [])),
            "finish": self.finish(top.get("finish", [])),
            "cmdline": " ".join(self.text(top.get("cmdline", ""), "cmdline").split()),
            "cmdline_tcg": " ".join(self.text(top.get("cmdline_tcg", ""), "cmdline_tcg").split()),
            "compression": self.text(top.get("compression", "lz4hc"), "compression", _COMPRESSION),
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

    def pairs(self, data: Any, path: str) -> dict[str, str]:
        return {key: self.text(value, f"{path}.{key}") for key, value in self.entries(data, path).items()}

    def folder(self, value: Any, path: str) -> str:
        name = self.text(value, path, _NAME)
        if name and not (FILES / name).is_dir():
            self.fault(path, f"images/files has no folder {name!r}")
        return name

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
            if name not in ("amd64", "arm64"):
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
