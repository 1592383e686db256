"""The agent's part of shared folders: mounts them in the guest after each connection, serves those that go by sftp."""

from __future__ import annotations

import os
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hostvm.errors import AgentError, HostvmError, MachineError
from hostvm.shares import mounting
from hostvm.shares.choose import load_devices
from hostvm.shares.client import SERVICE
from hostvm.shares.device import DeviceShare, device_kind
from hostvm.shares.events import EventCarrier, Watched
from hostvm.shares.known import Known
from hostvm.shares.listener import ShareListener
from hostvm.shares.model import Mount, check_source, guest_path, make_mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from hostvm.agent.service import Host
    from hostvm.guest import Guest


@dataclass(slots=True)
class _Share:
    mount: Mount
    device: DeviceShare | None
    state: str = "waiting"
    why: str = ""


class ShareService:
    """Implements `hostvm.agent.service.Service`.

    :param mounts: what machine.yaml asks for.
    """

    name = SERVICE
    early = True

    def __init__(self, mounts: Sequence[Mount], run_dir: Path) -> None:
        self._run_dir = run_dir
        self._lock = threading.RLock()
        self._guest: Guest | None = None
        self._listener: ShareListener | None = None
        self._log = _ignore
        self._carrier = EventCarrier(self._say)
        self._device_known: dict[str, Known] = {}
        devices = {(str(one.source), one.target, one.readonly): one for one in load_devices(run_dir)}
        self._shares = [_Share(mount, devices.get((mount.source, mount.target, mount.readonly))) for mount in mounts]

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`. Mounts that stand already, and work, are left as they are: containers use them."""
        with self._lock:
            self._guest, self._log = guest, host.log
            there, marked = mounting.mounted(guest) if self._shares else ({}, True)
            for share in self._shares:
                self._ensure(guest, share, there.get(share.mount.target, ""))
            if not marked:
                mounting.mark_mounted(guest)

    def stop(self) -> None:
        """See `Service.stop`. The server goes on: the guest's sshfs do not depend on ssh."""
        self._carrier.end()
        with self._lock:
            self._guest = None

    def describe(self) -> dict[str, Any]:
        """See `Service.describe`."""
        return {"mounts": [_facts(share) for share in list(self._shares)]}

    def ask(self, facts: dict[str, Any]) -> dict[str, Any]:
        """A request of `hostvm mount`: `do` is add or rm; the rest is a mount's. Or of `hostvm suspend`: release.

        :raises HostvmError: it cannot be done.
        """
        if facts.get("do") == "release":
            return {"holders": self._release()}
        mount = make_mount(str(facts["source"]), str(facts["target"]), readonly=bool(facts.get("readonly")))
        with self._lock:
            if facts.get("do") == "rm":
                self._remove(mount.target)
            else:
                self._add(mount)
        return self.describe()

    def guest_folder(self, path: str) -> str | None:
        """Where a folder of this computer is in the guest; None when it is not shared."""
        return guest_path([share.mount for share in list(self._shares)], path)

    def watch(self, paths: Iterable[str]) -> None:
        """Carry file events of these paths of the guest, which running containers have, and of no others."""
        with self._lock:
            if self._guest is None:
                return
            watched = [one for one in map(self._watched, sorted(set(paths))) if one is not None]
            self._carrier.carry(self._guest, watched)

    def _say(self, text: str) -> None:
        self._log(text)

    # ---- with the lock held

    def _watched(self, path: str) -> Watched | None:
        for share in sorted(self._shares, key=lambda one: -len(one.mount.target)):
            target = share.mount.target
            if path != target and not path.startswith(f"{target}/"):
                continue
            known = self._device_known.setdefault(target, Known())
            if share.device is None:
                known = (self._listener.known(share.mount) if self._listener else None) or known
            here = os.path.normpath(share.mount.source + path[len(target) :].replace("/", os.sep))
            writable = share.state == "mounted" and not share.mount.readonly and os.path.exists(here)  # noqa: PTH110
            return Watched(here, path, known, share.device is None) if writable else None
        return None

    def _add(self, mount: Mount) -> None:
        if self._guest is None:
            raise AgentError("the guest is not reached at the moment", None, "hostvm status")
        if why := check_source(mount):
            raise MachineError(f"{mount.source} cannot be shared", why, "hostvm mount add --help")
        share = _Share(mount, None)
        self._mount(self._guest, share)
        self._shares.append(share)

    def _remove(self, target: str) -> None:
        share = next((one for one in self._shares if one.mount.target == target), None)
        if share is None:
            return
        if self._guest is not None:
            mounting.unmount(self._guest, target)
        self._shares.remove(share)
        if share.device is None and self._listener is not None:
            self._listener.withdraw(share.mount)

    def _release(self) -> list[dict[str, Any]]:
        """Unmount all that is 9p; all of it is mounted again when somebody uses one."""
        with self._lock:
            if self._guest is None:
                raise AgentError("the guest is not reached at the moment", None, "hostvm status")
            held = [share for share in self._shares if share.device is not None and share.device.kind == "9p"]
            if not held:
                return []
            self._carrier.end()
            holders = mounting.release(self._guest, [share.mount.target for share in held])
            if holders:
                there, _ = mounting.mounted(self._guest)
                for share in held:
                    self._ensure(self._guest, share, there.get(share.mount.target, ""))
            return [asdict(holder) for holder in holders]

    def _ensure(self, guest: Guest, share: _Share, fstype: str) -> None:
        """Mount one share if it is not; what is wrong is kept for `describe` and must not stop the others."""
        try:
            wanted = "fuse.sshfs" if share.device is None else device_kind(share.device.kind).fstype
            if share.device is None:
                self._offer(share)
            if fstype == wanted and (share.device is not None or mounting.works(guest, share.mount.target)):
                share.state, share.why = "mounted", ""
                return
            if fstype == wanted:
                mounting.unmount(guest, share.mount.target)
            self._mount(guest, share)
        except (HostvmError, OSError) as error:
            share.state, share.why = "failed", getattr(error, "details", None) or str(error)
            self._log(f"{share.mount.source} is not shared: {share.why}")

    def _mount(self, guest: Guest, share: _Share) -> None:
        if share.device is not None:
            mounting.mount_device(guest, share.device)
        else:
            port, path = self._offer(share)
            mounting.mount_sftp(guest, share.mount, port, path)
        share.state, share.why = "mounted", ""

    def _offer(self, share: _Share) -> tuple[int, str]:
        if why := check_source(share.mount):
            raise MachineError(f"{share.mount.source} cannot be shared", why, "hostvm mount ls")
        if self._listener is None:
            self._listener = ShareListener(self._run_dir, self._log)
        return self._listener.port, self._listener.offer(share.mount)


def _facts(share: _Share) -> dict[str, Any]:
    return {
        "source": share.mount.source,
        "target": share.mount.target,
        "readonly": share.mount.readonly,
        "kind": share.device.kind if share.device else "sftp",
        "state": share.state,
        "why": share.why,
    }


def _ignore(text: str) -> None:
    del text
