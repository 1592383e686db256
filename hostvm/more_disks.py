"""`disks:` of machine.yaml: further disks of a machine, each a qcow2 file in its folder that only `rm` removes."""

from __future__ import annotations

import posixpath
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hostvm.config.kinds import Key, Keys, ListOf, Size, Text, WrongValueError
from hostvm.disks import create_disk, disk_size, grow_disk
from hostvm.errors import MachineError, SpecError
from hostvm.shares.model import check_target
from hostvm.sizes import MIB, format_size
from images.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from hostvm.shares.model import Mount

_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")  # a virtio disk's serial has 20 bytes
_TAKEN = ("root", "data")
_LEAST = 64 * MIB
_MOST = 16


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk.

    :param size: bytes.
    :param mount: where the guest mounts it.
    """

    name: str
    size: int
    mount: str


def _make(found: dict[str, Any]) -> Disk:
    return Disk(found["name"], found["size"], found.get("mount", f"/mnt/{found['name']}"))


def _read_name(text: str) -> str:
    if not _NAME.fullmatch(text) or text in _TAKEN:
        raise ValueError("must be 1 to 20 lower-case letters, digits and hyphens, a letter first, and not root or data")
    return text


def _read_mount(text: str) -> str:
    if not text.startswith("/") or any(letter.isspace() or letter == "\0" for letter in text):
        raise ValueError("must be an absolute path without spaces")
    path = "/" + posixpath.normpath(text).lstrip("/")
    check_target(path)
    return path


class Disks(ListOf):
    """The kind of `disks:`."""

    def __init__(self) -> None:
        super().__init__(_DISK, "disks")

    def read(self, value: object) -> tuple[Disk, ...]:  # type: ignore[override]
        """The disks, outer mounts before those that lie in them."""
        found: list[Disk] = super().read(value)
        faults = [
            Fault((number,), f"has the {key} {getattr(one, key)}, as another one; each needs its own")
            for number, one in enumerate(found)
            for key in ("name", "mount")
            if any(getattr(one, key) == getattr(other, key) for other in found[:number])
        ]
        if len(found) > _MOST:
            faults.append(Fault((), f"has {len(found)} entries; the most are {_MOST}"))
        if faults:
            raise WrongValueError(*faults)
        return tuple(sorted(found, key=lambda one: one.mount.count("/")))


_DISK = Keys(
    {
        "name": Key(Text(_read_name, "name of up to 20 letters"), "its file is `disk-NAME.qcow2`", required=True),
        "size": Key(
            Size(_LEAST, "is too little for a file system"),
            "largest size; it can grow, at the next start, but not shrink",
            required=True,
        ),
        "mount": Key(Text(_read_mount, "absolute path"), "where it is in the guest", default="/mnt/NAME"),
    },
    make=_make,
)


def render_disks(disks: Sequence[Disk]) -> list[dict[str, object]]:
    """For machine.yaml."""
    return [{**asdict(one), "size": format_size(one.size)} for one in disks]


def disk_file(folder: Path, name: str) -> Path:
    """Where a disk is."""
    return folder / f"disk-{name}.qcow2"


def more_files(folder: Path) -> list[Path]:
    """Files of a machine's further disks, those included that machine.yaml has no more."""
    return sorted(folder.glob("disk-*.qcow2"))


def check_places(disks: Sequence[Disk], mounts: Sequence[Mount]) -> None:
    """Whether every disk can be seen. Shares are mounted after the disks; one may lie on a disk, not the other way.

    :raises SpecError: each disk that a share would hide, a line each.
    """
    faults = [
        f"disks[{number}].mount: {one.mount} would be hidden by the shared folder {mount.source}, which the guest has "
        f"at {mount.target}"
        for number, one in enumerate(disks)
        for mount in mounts
        if f"{one.mount}/".startswith(f"{mount.target}/")
    ]
    if faults:
        raise SpecError(
            f"{len(faults)} disk{'s' if len(faults) > 1 else ''} could not be seen in the guest",
            "\n".join(faults),
            "choose another mount: in disks:, or another target: in mounts: of the machine's machine.yaml   "
            "# its folder: hostvm inspect",
        )


def check_disks(folder: Path, disks: Sequence[Disk], made: Collection[str]) -> None:
    """Whether these may be a machine's disks.

    :param made: names of those that it had before.
    :raises SpecError: one would become smaller.
    :raises MachineError: one is gone, or damaged; it is never made anew.
    """
    for number, one in enumerate(disks):
        path = disk_file(folder, one.name)
        if not path.exists() and one.name in made:
            raise MachineError(
                f"the disk {path} is gone",
                "it was made before, and is not made anew by itself: what it held would be missed",
                f"put it back, or give disks[{number}] another name in {folder / 'machine.yaml'} for an empty one",
            )
        if path.exists() and (there := disk_size(path)) > one.size:
            raise SpecError(
                f"disks[{number}].size: {format_size(one.size)} is less than the {format_size(there)} it has",
                "a disk cannot become smaller",
                f"write its real size into {folder / 'machine.yaml'}: size: {format_size(there)}",
            )


def prepare_disks(folder: Path, disks: Sequence[Disk]) -> None:
    """Make what is missing, and let grow what is to be larger; the machine is off and its lock is held.

    :raises MachineError: this computer's disk is full, or a disk is damaged.
    """
    for one in disks:
        path = disk_file(folder, one.name)
        if path.exists():
            grow_disk(path, one.size)
        else:
            create_disk(path, one.size)


def disk_table(disks: Sequence[Disk]) -> bytes:
    """What the guest's `disks` script reads: serial number and mount point, a line each."""
    return "".join(f"{one.name} {one.mount}\n" for one in disks).encode()
