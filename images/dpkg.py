"""dpkg's database for packages that were unpacked without dpkg.

Everything that `dpkg --unpack` would have recorded, so that a real `dpkg --configure -a` can take over: status
"unpacked", file lists, maintainer scripts, trigger interests. Conffiles already lie in place, so their md5 is
recorded as dpkg does after it has installed them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.deb import read_control
from images.errors import ImageError
from images.tree import add_package

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from images.tree import Tree

DATABASE = "var/lib/dpkg"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")


@dataclass(frozen=True, slots=True)
class _Interest:
    trigger: str
    package: str
    waits: bool

    def line(self) -> str:
        return self.package + ("" if self.waits else "/noawait")


def install_unpacked(tree: Tree, packages: Sequence[tuple[Path, Path, str]]) -> None:
    """Add packages to a tree together with dpkg's database of them.

    :param packages: (the .deb, its decompressed data.tar, its name), base-files first.
    """
    stanzas: list[tuple[str, str]] = []
    interests: list[_Interest] = []
    for deb, data, name in packages:
        paths = add_package(tree, data, name)
        control = read_control(deb)
        fields = control["control"].decode().rstrip("\n")
        instance = _instance(fields, name)
        stanzas.append((name, status_stanza(fields, _conffiles(tree, control))))
        interests += parse_interests(control.get("triggers", b"").decode(), instance)
        _add_info(tree, instance, control, paths)
    status = "".join(stanza + "\n" for _, stanza in sorted(stanzas))
    tree.add_file(f"{DATABASE}/status", status.encode())
    tree.add_file(f"{DATABASE}/available", b"")
    tree.add_file(f"{DATABASE}/info/format", b"1\n")
    for name, text in trigger_files(interests).items():
        tree.add_file(f"{DATABASE}/triggers/{name}", text.encode())
    tree.add_dir(f"{DATABASE}/updates")


def status_stanza(control: str, conffiles: Sequence[tuple[str, str]]) -> str:
    """A package's entry in dpkg's status file.

    :param conffiles: (path, md5) of each.
    """
    first, _, rest = control.partition("\n")
    stanza = f"{first}\nStatus: install ok unpacked\n{rest}\n"
    if conffiles:
        stanza += "Conffiles:\n" + "".join(f" {path} {md5}\n" for path, md5 in conffiles)
    return stanza


def parse_interests(text: str, package: str) -> list[_Interest]:
    """What a package's `triggers` file says it is interested in (deb-triggers(5))."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 2 and words[0].startswith("interest"):  # noqa: PLR2004 - directive and trigger
            found.append(_Interest(words[1], package, words[0] != "interest-noawait"))
    return found


def trigger_files(interests: Sequence[_Interest]) -> dict[str, str]:
    """The files of dpkg's triggers folder: `File` for paths, one each for named triggers."""
    files = {"File": "", "Unincorp": ""}
    for interest in interests:
        if interest.trigger.startswith("/"):
            files["File"] += f"{interest.trigger} {interest.line()}\n"
        else:
            files[interest.trigger] = files.get(interest.trigger, "") + f"{interest.line()}\n"
    return files


def _instance(control: str, name: str) -> str:
    """How dpkg names a package's info files: with the architecture when several may be installed side by side."""
    fields = dict(line.split(": ", 1) for line in control.splitlines() if ": " in line and line[:1].strip())
    return f"{name}:{fields['Architecture']}" if fields.get("Multi-Arch") == "same" else name


def _conffiles(tree: Tree, control: dict[str, bytes]) -> list[tuple[str, str]]:
    found = []
    for line in control.get("conffiles", b"").decode().splitlines():
        path = line.strip()
        if not path.startswith("/"):
            continue  # "remove-on-upgrade /path": nothing to record for a fresh system
        node = tree.get(path)
        if node is None:
            raise ImageError(f"the conffile {path} is missing", None, "Try another mirror")
        found.append((path, hashlib.md5(node.read(), usedforsecurity=False).hexdigest()))
    return found


def _add_info(tree: Tree, instance: str, control: dict[str, bytes], paths: Sequence[str]) -> None:
    for name, data in control.items():
        if name != "control":
            mode = 0o755 if name in SCRIPTS else 0o644
            tree.add_file(f"{DATABASE}/info/{instance}.{name}", data, mode)
    listing = "".join(f"/{path}\n" if path else "/.\n" for path in paths)
    tree.add_file(f"{DATABASE}/info/{instance}.list", listing.encode("utf-8", "surrogateescape"))
