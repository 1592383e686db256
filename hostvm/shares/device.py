"""Shares that are devices of the machine: there from power-on to power-off, described before the guest exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from pathlib import Path


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
    options: tuple[str, ...]  # what follows `mount -t FSTYPE -o`, besides ro or rw

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
    return ",".join(("ro" if share.readonly else "rw", *device_kind(share.kind).options))


def mount_table(shares: tuple[DeviceShare, ...], *, more: bool) -> str:
    """What the guest's `shares` script reads: a target's line, then `TYPE TAG OPTIONS`.

    :param more: others follow once the agent is connected, and the engine has to wait for them.
    """
    lines: list[str] = []
    for share in shares:
        lines += [share.target, f"{device_kind(share.kind).fstype} {share.tag} {mount_options(share)}"]
    return "".join(f"{line}\n" for line in ["wait" if more else "all", *lines])
