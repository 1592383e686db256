"""Which way each folder is shared on this computer, and what the machine needs for it at power-on.

The figures behind the defaults: docs/adr/0050-how-folders-are-shared.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostvm.files import write_atomic
from hostvm.paths import SHARE_PLACES, SHARE_SERVER_JSON, SHARES_BEFORE, SHARES_JSON
from hostvm.shares.device import DeviceShare, mount_table
from hostvm.shares.nfs.places import PLACES_ENDS
from hostvm.shares.sources import why_not

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hostvm.shares.model import Mount

DEVICES = ("9p", "virtiofs")
SERVED = {"nfs": "nfs", "sftp": "fuse.sshfs"}
"""What the agent itself serves, and may be added to a machine that runs: the types that the guest's file systems have.

The first that the guest knows is the default; one whose image is from before NFS was served has no module for it.
"""

# Each device takes a slot of the machine's first PCI bus, as does each further disk. Of 32 seven are taken.
_MOST_DEVICES = 16
_SLOTS = 25


def kind_of(mount: Mount, *, remote: bool = False, platform: str = sys.platform) -> str:
    """The kind a mount gets on this computer.

    :param remote: the hypervisor is on another computer, whose folders are not meant.
    """
    served = remote or mount.kind not in DEVICES or platform == "win32"
    if served or (mount.kind == "virtiofs" and platform != "linux"):
        return served_kinds(mount)[0]
    # No virtiofsd of Debian 12 keeps a folder read-only, nor does libvirt before 11 ask one to.
    return "9p" if mount.kind == "virtiofs" and mount.readonly else mount.kind


def served_kinds(mount: Mount) -> tuple[str, ...]:
    """The kinds that a mount without a device may have, the best first: one if it was asked for."""
    return (mount.kind,) if mount.kind in SERVED else tuple(SERVED)


def device_shares(
    mounts: Sequence[Mount], run_dir: Path, *, remote: bool = False, disks: int = 0
) -> tuple[DeviceShare, ...]:
    """Those of `mounts` that become devices; folders that cannot be shared now are left out.

    :param disks: how many further ones the machine has.
    """
    most = min(_MOST_DEVICES, _SLOTS - disks)
    shares: list[DeviceShare] = []
    for number, mount in enumerate(mounts):
        kind = kind_of(mount, remote=remote)
        if kind in DEVICES and len(shares) < most and why_not(mount, mounts) is None:
            tag = f"share{number}"
            socket = run_dir / f"{tag}.sock" if kind == "virtiofs" else None
            shares.append(DeviceShare(kind, tag, Path(mount.source), mount.target, mount.readonly, socket))
    return tuple(shares)


def share_seed(mounts: Sequence[Mount], devices: Sequence[DeviceShare]) -> dict[str, bytes]:
    """What a guest is told at its boot of the folders that it will have, as files of its seed.

    :param devices: those of the mounts that are devices of the machine.
    """
    if not mounts:
        return {}
    there = {share.target for share in devices}
    later = [mount for mount in mounts if mount.target not in there]
    table = mount_table(tuple(devices), [mount.target for mount in later])
    files = {"shares": table.encode("utf-8", "surrogateescape")}
    if any(served_kinds(mount)[0] == "nfs" for mount in later):
        files["nfs"] = b""  # its kernel may load the client before somebody waits for it
    return files


def share_facts(shares: Iterable[DeviceShare]) -> list[dict[str, Any]]:
    """Shares as plain facts, for a file."""
    return [
        {"kind": one.kind, "tag": one.tag, "source": str(one.source), "target": one.target, "readonly": one.readonly}
        for one in shares
    ]


def shares_of(facts: Iterable[dict[str, Any]]) -> tuple[DeviceShare, ...]:
    """The shares of such facts.

    :raises KeyError, TypeError: they are not a share's.
    """
    return tuple(DeviceShare(**{**one, "source": Path(one["source"])}) for one in facts)


def store_devices(shares: Iterable[DeviceShare], run_dir: Path, server: dict[str, Any] | None = None) -> None:
    """Remember for agents of this boot which devices the machine has.

    :param server: where the guest looks for the server of its shares; None for a guest that looks for none yet.
    """
    write_atomic(run_dir / SHARES_JSON, json.dumps(share_facts(shares)).encode())
    if server is None:
        (run_dir / SHARE_SERVER_JSON).unlink(missing_ok=True)  # the last boot's
    else:
        write_atomic(run_dir / SHARE_SERVER_JSON, json.dumps(server).encode())


def forget_places(folder: Path) -> None:
    """Forget what file numbers meant to the guest of the last boot, and what was shared with it before. Idempotent.

    :param folder: the machine's.
    """
    for end in PLACES_ENDS:
        (folder / f"{SHARE_PLACES}{end}").unlink(missing_ok=True)
    (folder / SHARES_BEFORE).unlink(missing_ok=True)


def load_server(run_dir: Path) -> dict[str, Any] | None:
    """Where the guest of this boot looks for the server of its shares; None when there is none."""
    try:
        facts: dict[str, Any] = json.loads((run_dir / SHARE_SERVER_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts


def load_devices(run_dir: Path) -> list[DeviceShare]:
    """The devices of this boot; none when nobody wrote them down."""
    try:
        return list(shares_of(json.loads((run_dir / SHARES_JSON).read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError, KeyError):
        return []
