"""The files modprobe needs beside a kernel's modules, as kmod 34's `depmod -a` writes them.

Byte for byte the same, but for modules.symbols: kmod writes it in the order of a hash table, here it is sorted
(nothing reads it: modprobe takes modules.symbols.bin).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from images.errors import ImageError
from images.module_elf import ElfModule
from images.module_index import write_index
from images.module_search import module_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from images.modules import ModuleSet

ALIASES = "# Aliases extracted from modules themselves."
SOFT = "# Soft dependencies extracted from modules themselves."
WEAK = "# Weak dependencies extracted from modules themselves."
SYMBOLS = "# Aliases for symbols, used by symbol_request()."
DEVICES = "# Device nodes to trigger on-demand module loading."
MAJOR = re.compile(r"(char|block)-major-(\d+)-(\d+)")
BRACKETS = re.compile(r"\[[^]]*\]|[-\]\[]")


@dataclass(eq=False, slots=True)
class _Module:
    """One module.

    :param path: below the kernel's folder.
    :param rank: its place in modules.order among those that are there: which of several modules comes first.
    :param needs: modules whose symbols it uses, each once, in the order of its symbols.
    :param place: in a list of dependencies, the lower the earlier: what needs others stands before them.
    """

    name: str
    path: str
    elf: ElfModule
    rank: int
    needs: list[_Module] = field(default_factory=list)
    place: int = 0


def index_modules(modules: ModuleSet) -> None:
    """Add modules.dep, modules.alias and the like to the tree; after the choice of modules, and their unpacking.

    :raises ImageError: a module is damaged, or modules need each other in a circle.
    """
    folder = f"usr/lib/modules/{modules.release}/"
    found = _read(modules, folder)
    # Of several that export one symbol the last counts, as in kmod.
    owners = {symbol: module for module in found for symbol in module.elf.exports}
    _resolve(found, owners)
    _set_places(found)
    lines = {module: f"{module.path}:" + "".join(f" {needed.path}" for needed in _closure(module)) for module in found}
    aliases = [(alias, module) for module in found for alias in module.elf.values("alias")]
    symbols = [(f"symbol:{symbol}", owners[symbol]) for symbol in sorted(owners)]
    texts = {
        "dep": lines.values(),
        "alias": (ALIASES, *(f"alias {alias} {module.name}" for alias, module in aliases)),
        "softdep": (SOFT, *_told(found, "softdep")),
        "weakdep": (WEAK, *_told(found, "weakdep")),
        "symbols": (SYMBOLS, *(f"alias {symbol} {module.name}" for symbol, module in symbols)),
        "devname": (DEVICES, *_device_nodes(found)),
    }
    indexes: dict[str, Iterable[tuple[str, str, int]]] = {
        "dep": ((module.name, line, module.rank) for module, line in lines.items()),
        "alias": ((key, module.name, module.rank) for alias, module in aliases for key in _lookup_key(alias)),
        "symbols": ((symbol, module.name, module.rank) for symbol, module in symbols),
        # The list as it is, not `modules.builtin`: arm64's has names twice, and so has the index.
        "builtin": ((module_name(path), "", 0) for path in _listing(modules, "modules.builtin").split()),
        "builtin.alias": _builtin_aliases(modules),
    }
    for name, text in texts.items():
        data = "".join(f"{line}\n" for line in text).encode(errors="surrogateescape")
        modules.tree.add_file(f"{folder}modules.{name}", data)
    for name, entries in indexes.items():
        modules.tree.add_file(f"{folder}modules.{name}.bin", write_index(entries))


def _read(modules: ModuleSet, folder: str) -> list[_Module]:
    """The modules in the order of modules.order; what is not in it comes last, by its path."""
    order = _listing(modules, "modules.order").split()
    known = {path: number for number, path in enumerate(order)}
    paths = {name: path.removeprefix(folder) for name, path in modules.paths.items()}

    def rank(name: str) -> tuple[int, str]:
        path = paths[name]
        return known.get(path[: path.rindex(".ko")] + ".ko", len(order)), path

    return [
        _Module(name, paths[name], ElfModule.of(modules.paths[name], modules.read(name)), number)
        for number, name in enumerate(sorted(paths, key=rank))
    ]


def _listing(modules: ModuleSet, name: str) -> str:
    """One of the files the kernel's package brings; empty if it does not."""
    path = f"usr/lib/modules/{modules.release}/{name}"
    return modules.tree.read(path).decode(errors="surrogateescape") if path in modules.tree.nodes else ""


def _resolve(found: list[_Module], owners: dict[str, _Module]) -> None:
    """Who needs whom: symbols nobody exports are the kernel's."""
    for module in found:
        module.needs = list(dict.fromkeys(owners[symbol] for symbol in module.elf.needs if symbol in owners))


def _set_places(found: list[_Module]) -> None:
    """Number the modules so that each comes before what it needs, in kmod's way: the last one found goes first.

    :raises ImageError: they need each other in a circle.
    """
    users = Counter(needed for module in found for needed in module.needs)
    free = [module for module in found if not users[module]]
    placed = 0
    while free:
        module = free.pop()
        module.place = placed
        placed += 1
        for needed in module.needs:
            users[needed] -= 1
            if not users[needed]:
                free.append(needed)
    if placed < len(found):
        raise ImageError(
            "kernel modules need each other in a circle",
            ", ".join(module.name for module in found if users[module]),
            "Leave one of them out of the recipe's `modules`, then `hostvm image build`",
        )


def _closure(module: _Module) -> list[_Module]:
    """All that a module needs, what needs others before them."""
    reached: set[_Module] = set()
    todo = [module]
    while todo:
        fresh = set(todo.pop().needs) - reached
        reached |= fresh
        todo += fresh
    return sorted(reached, key=lambda needed: needed.place)


def _told(found: list[_Module], key: str) -> Iterator[str]:
    return (f"{key} {module.name} {value}" for module in found for value in module.elf.values(key))


def _device_nodes(found: list[_Module]) -> Iterator[str]:
    """Of each module that names both a device node and its number, the first such pair."""
    for module in found:
        name = number = ""
        for alias in module.elf.values("alias"):
            if alias.startswith("devname:"):
                name = alias.removeprefix("devname:")
            elif major := MAJOR.match(alias):
                number = f"{major[1][0]}{int(major[2])}:{int(major[3])}"
            if name and number:
                yield f"{module.name} {name} {number}"
                break


def _builtin_aliases(modules: ModuleSet) -> Iterator[tuple[str, str, int]]:
    """Of modules.builtin.modinfo: NUL-ended module.key=value."""
    for entry in _listing(modules, "modules.builtin.modinfo").split("\0"):
        name, _, fact = entry.partition(".")
        key, _, value = fact.partition("=")
        if key == "alias":
            yield from ((wanted, name, 0) for wanted in _lookup_key(value))


def _lookup_key(alias: str) -> list[str]:
    """An alias as modprobe looks it up: "_" for "-", but not in brackets; none if a bracket has no partner."""
    parts = BRACKETS.findall(alias)
    if "[" in parts or "]" in parts:
        return []
    return [BRACKETS.sub(lambda part: "_" if part[0] == "-" else part[0], alias)]
