"""Shares that are devices of the machine: there from power-on to power-off, described before the guest exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from collections.abc import Sequence
    from pathlib import Path


HARMLESS = ("nosuid", "nodev")
"""Of every share: what a container's root finds or makes there gives nobody more rights than they have."""

COVER = "tmpfs hostvm-missing ro,size=4k,mode=0555"


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """One folder as a device.

    :param kind: `9p` or `virtiofs`.
    :param tag: the name by which the guest mounts it.
    :param source: the folder on this computer.
    :param target: where the guest mounts it.
    :param socket: where its virtiofsd listens; None for kinds without a daemon of their own.
    """

    kind: str
    tag: str
    source: Path
    target: str
    readonly: bool
    socket: Path | None = None


class DeviceKind(Protocol):
    """One way of sharing by a device. Every function is pure."""

    name: str
    fstype: str  # as the guest's mount(8) calls it
    options: tuple[str, ...]  # what follows `mount -t FSTYPE -o`, besides those that every share has

    def qemu_options(self, share: DeviceShare) -> list[str]:
        """The part of QEMU's command line."""

    def filesystem(self, share: DeviceShare) -> ET.Element:
        """The `<filesystem>` of libvirt's domain XML (https://libvirt.org/formatdomain.html#filesystems)."""


def device_kind(name: str) -> DeviceKind:
    """:raises KeyError: the kind has no device."""
    from hostvm.shares.ninep import NinepKind
    from hostvm.shares.virtiofs import VirtiofsKind

    kinds: dict[str, DeviceKind] = {kind.name: kind for kind in (NinepKind(), VirtiofsKind())}
    return kinds[name]


def mount_options(share: DeviceShare) -> str:
    """What follows `mount -t FSTYPE -o`."""
    return ",".join(("ro" if share.readonly else "rw", *HARMLESS, *device_kind(share.kind).options))


def mount_table(shares: tuple[DeviceShare, ...], later: Sequence[str] = ()) -> str:
    """What the guest's `shares` script reads: a target's line, then `TYPE TAG OPTIONS`.

    :param later: targets of those that follow once the agent is connected; the engine has to wait for them. Each gets a
        cover that nobody can write to, so that a container that is there before its folder, or has none because it
        cannot be shared today, puts nothing on the guest's own disk, where the folder would hide it later.
    """
    lines: list[str] = []
    targets = [*later, *(share.target for share in shares)]
    for target in later:
        if not any(
            f"{one}/".startswith(f"{target}/") or f"{target}/".startswith(f"{one}/") for one in targets if one != target
        ):
            lines += [target, COVER]
    for share in shares:
        lines += [share.target, f"{device_kind(share.kind).fstype} {share.tag} {mount_options(share)}"]
    return "".join(f"{line}\n" for line in ["wait" if later else "all", *lines])
