"""The agent's part of shared folders: mounts them in the guest after each connection, serves those without a device."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from hostvm.errors import AgentError, HostvmError, MachineError
from hostvm.paths import SHARE_PLACES, SHARES_BEFORE
from hostvm.shares import mounting
from hostvm.shares.choose import load_devices, load_server
from hostvm.shares.client import SERVICE
from hostvm.shares.entry import Share, fstype
from hostvm.shares.events import EventCarrier, Watched
from hostvm.shares.known import Known, is_folder
from hostvm.shares.listener import ShareListener
from hostvm.shares.model import Mount, guest_path, make_mount
from hostvm.shares.mounting import Mounted
from hostvm.shares.own_names import place_of
from hostvm.shares.removed import Removed
from hostvm.shares.renewal import Renewal
from hostvm.shares.sources import unlinked_path, why_not

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from hostvm.agent.service import Host
    from hostvm.guest import Guest


_AGAIN_SECONDS = 30.0
_RELEASED = "released"


class ShareService:
    """Implements `hostvm.agent.service.Service`.

    :param mounts: what machine.yaml asked for when the machine was powered on, outer folders before inner ones.
    :param gateway: this computer's address, seen from the guest.
    :param as_user: a command of setpriv(1): who acts out changes there, if not root.
    :param places: as of `ShareListener`.
    """

    name = SERVICE
    early = True

    def __init__(
        self,
        mounts: Sequence[Mount],
        run_dir: Path,
        gateway: str,
        as_user: Sequence[str] = (),
        places: Path | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._places = places
        self._gateway = gateway
        self._lock = threading.RLock()
        self._guest: Guest | None = None
        self._gone = threading.Event()
        self._listener: ShareListener | None = None
        self._log = _ignore
        self._carrier = EventCarrier(self._say, as_user)
        self._watching: tuple[str, ...] = ()
        self._renewal = Renewal(self._renew)
        self._device_known: dict[str, Known] = {}
        self._nfs = True
        self._removed = Removed((places or run_dir / SHARE_PLACES).with_name(SHARES_BEFORE))
        self._left: set[str] = set()
        self._started = False
        devices = {(str(one.source), one.target, one.readonly): one for one in load_devices(run_dir)}
        self._shares = [Share(mount, devices.get((mount.source, mount.target, mount.readonly))) for mount in mounts]

    def begin(self, host: Host) -> None:
        """See `Begins.begin`. The mounts of a guest that goes on look for this computer at once."""
        with self._lock:
            self._log = host.log
            for share in self._shares if load_server(self._run_dir) is not None else ():
                if share.device is None:
                    with suppress(HostvmError, OSError):
                        self._offer(share)

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`. Mounts that stand already, and work, are left as they are: containers use them."""
        with self._lock:
            self._guest, self._log, self._gone = guest, host.log, threading.Event()
            there = self._look(guest) if self._shares or self._left else Mounted({}, marked=True, nfs=False)
            self._clear_left(guest, there.types)
            for share in self._shares:
                self._ensure(guest, share, there.types)
            self._started = True
            if self._listener is not None:
                self._listener.complete()
            if not there.marked:
                mounting.mark_mounted(guest)
            if self._failed():
                again = threading.Thread(target=self._keep_trying, args=(self._gone,), name="shares", daemon=True)
                again.start()

    def stop(self) -> None:
        """See `Service.stop`. The server goes on: the guest's mounts do not depend on ssh."""
        self._carrier.end()
        with self._lock:
            self._guest = None
            self._gone.set()

    def end(self) -> None:
        """See `Begins.end`. What files' numbers mean is kept for the next agent."""
        if (listener := self._listener) is not None:  # without the lock: whoever mounts has it for long
            listener.end()

    def describe(self) -> dict[str, Any]:
        """See `Service.describe`. Clients that name folders to the guest's engine ask this first."""
        self._renewal.now()
        return {"mounts": [{**share.facts(), "best": self._best(share)} for share in list(self._shares)]}

    def ask(self, facts: dict[str, Any]) -> dict[str, Any]:
        """A request of `hostvm mount`: `do` is add or rm; the rest is a mount's.

        Or of others: `release` before a suspend; `again` tries what could not be shared.

        :raises HostvmError: it cannot be done.
        """
        if facts.get("do") == "release":
            return {"holders": self._release(), "written": self._listener.written() if self._listener else []}
        if facts.get("do") == "again":
            with self._lock:
                self._again(self._reached())
                self._carry()
            return self.describe()
        kind = str(facts.get("kind", "auto"))
        mount = make_mount(str(facts["source"]), str(facts["target"]), readonly=bool(facts.get("readonly")), kind=kind)
        mount = replace(mount, leads_to=str(facts.get("leads_to", "")))
        try:
            with self._lock:
                if facts.get("do") == "rm":
                    self._remove(mount.target)
                else:
                    self._add(mount)
        except OSError as fault:  # of which the agent knows no more than that the system refuses
            raise MachineError(
                f"what is shared of {mount.source} did not change", str(fault), "hostvm mount ls"
            ) from fault
        return self.describe()

    def guest_folder(self, path: str) -> str | None:
        """Where a folder of this computer is in the guest; None when it is not shared."""
        return guest_path(self._mounts(), path)

    def mounted(self) -> list[Mount]:
        """The folders that are in the guest now."""
        self._renewal.now()
        return [share.mount for share in list(self._shares) if share.state == "mounted"]

    def watch(self, paths: Iterable[str]) -> None:
        """Carry file events of these paths of the guest, which running containers have, and of no others."""
        self._renewal.now()
        with self._lock:
            self._watching = tuple(paths)
            self._carry()

    def _say(self, text: str) -> None:
        self._log(text)

    def _renew(self) -> None:
        """Serve what is at the shares' paths now, where a folder was taken away and another one put there.

        A clone after `rm -r`, say: the container that is made next would have the old one still.
        """
        served = [share for share in list(self._shares) if share.device is None and share.state == "mounted"]
        stale = [share for share in served if self._listener is not None and not self._listener.serves(share.mount)]
        if not stale:
            return
        with self._lock:
            if [share for share in stale if self._offered_anew(share)]:
                self._carrier.end()
                self._carry()

    # ---- with the lock held

    def _offered_anew(self, share: Share) -> bool:
        if share not in self._shares:
            return False
        with suppress(HostvmError, OSError):  # nothing is there, or not what was meant: it is served as it was
            self._offer(share)
            return True
        return False

    def _carry(self) -> None:
        if self._guest is None:
            return
        places = {path: place_of(path, self._mounts()) for path in self._watching}
        if self._listener is not None:
            there = (place.here for place in places.values() if place is not None)
            self._listener.given_alone(frozenset(path for path in there if not is_folder(path)))
        wanted = {place.there if place is not None else path for path, place in places.items()}
        wanted |= {other for path in wanted for other in self._inside(path)}
        watched = [one for one in map(self._watched, sorted(wanted)) if one is not None]
        self._carrier.carry(self._guest, watched)

    def _watched(self, path: str) -> Watched | None:
        if (place := place_of(path, self._mounts())) is None:
            return None
        share = next(one for one in self._shares if one.mount == place.mount)
        known = self._device_known.setdefault(share.mount.target, Known())
        if share.device is None:
            known = (self._listener.known(share.mount) if self._listener else None) or known
        writable = share.state == "mounted" and not share.mount.readonly and os.path.exists(place.here)  # noqa: PTH110
        if not writable:
            return None
        inside = self._inside(place.there)
        return Watched(place.here, place.there, known, share.device is None, share.kind == "nfs", inside)

    def _mounts(self) -> list[Mount]:
        return [share.mount for share in list(self._shares)]

    def _ever(self) -> list[Mount]:
        """With those of before: containers could write there."""
        return [*self._mounts(), *self._removed.mounts()]

    def _inside(self, path: str) -> tuple[str, ...]:
        """Where other shares are mounted inside of a folder of the guest."""
        return tuple(one.mount.target for one in self._shares if one.mount.target.startswith(f"{path.rstrip('/')}/"))

    def _reached(self) -> Guest:
        if self._guest is None:
            raise AgentError("the guest is not reached at the moment", None, "hostvm status")
        return self._guest

    def _failed(self) -> list[Share]:
        return [share for share in self._shares if share.state != "mounted"]

    def _again(self, guest: Guest) -> None:
        """Try those that could not be mounted."""
        if failed := self._failed():
            there = self._look(guest)
            for share in failed:
                self._ensure(guest, share, there.types)

    def _keep_trying(self, gone: threading.Event) -> None:
        """Until the connection is gone: a disk may be plugged in later. Takes the lock by itself."""
        while not gone.wait(_AGAIN_SECONDS):
            with self._lock, suppress(HostvmError, OSError):
                if self._guest is None or gone.is_set():
                    return
                failed = self._failed()
                if any(share.state == _RELEASED for share in failed):
                    continue  # its suspend is under way
                if any(why_not(share.mount, self._ever()) is None for share in failed):
                    self._again(self._guest)

    def _add(self, mount: Mount) -> None:
        guest = self._reached()
        if why := why_not(mount, self._ever()):
            raise MachineError(f"{mount.source} cannot be shared", why, "hostvm mount add --help")
        share = Share(mount, None)
        there = self._look(guest).types
        self._clear_inside(guest, mount.target, there)
        try:
            self._mount(guest, share)
            self._shares.append(share)
            self._shares.sort(key=lambda one: one.mount.target.split("/"))
        finally:
            self._fill(guest, mount.target, there)

    def _remove(self, target: str) -> None:
        share = next((one for one in self._shares if one.mount.target == target), None)
        if share is None:
            return
        self._removed.add(share.mount)
        if self._guest is None:
            self._left.add(target)
        else:
            there = self._look(self._guest).types
            self._clear_inside(self._guest, target, there)
            try:
                mounting.unmount(self._guest, target)
            finally:
                self._fill(self._guest, target, there)
        self._shares.remove(share)
        if share.device is None and self._listener is not None:
            self._listener.withdraw(share.mount)

    def _clear_left(self, guest: Guest, there: dict[str, str]) -> None:
        """Unmount what was taken away while the guest was not reached.

        :param there: what is mounted; without what was unmounted afterwards.
        """
        for target in sorted(self._left):
            try:
                self._clear_inside(guest, target, there)
                if there.pop(target, ""):
                    mounting.unmount(guest, target)
            except HostvmError as error:
                self._log(f"{target} is still mounted in the guest: {error.details or error}")
            else:
                self._left.remove(target)

    def _look(self, guest: Guest) -> Mounted:
        """What is mounted, and, for `_mount`, what could be."""
        there = mounting.mounted(guest)
        self._nfs = there.nfs
        return there

    def _clear_inside(self, guest: Guest, target: str, there: dict[str, str]) -> None:
        """Unmount the shares inside of one that is about to be mounted or unmounted.

        They would be hidden, or would go with it.

        :param there: what is mounted; without them afterwards, for `_ensure` of those.
        """
        for path in reversed(self._inside(target)):
            if there.pop(path, ""):
                mounting.unmount(guest, path)

    def _fill(self, guest: Guest, target: str, there: dict[str, str]) -> None:
        """Mount again what `_clear_inside` unmounted."""
        inside = self._inside(target)
        for share in self._shares:
            if share.mount.target in inside:
                self._ensure(guest, share, there)

    def _release(self) -> list[dict[str, Any]]:
        """Unmount all that is 9p, and what others are mounted in it; `again` has all of it mounted again.

        Until then no container is given one: it would write into the guest's memory.
        """
        with self._lock:
            guest = self._reached()
            held = [share for share in self._shares if share.device is not None and share.device.kind == "9p"]
            if not held:
                return []
            self._carrier.end()
            within = {target for share in held for target in self._inside(share.mount.target)}
            inner = [one for one in self._shares if one.mount.target in within and one.state == "mounted"]
            inner = [one for one in inner if one not in held]
            for share in (*held, *inner):
                share.state = _RELEASED
            for share in reversed(inner):
                mounting.unmount(guest, share.mount.target)
            holders = mounting.release(guest, [share.mount.target for share in held])
            if holders:
                there = self._look(guest)
                for share in (*held, *inner):
                    self._ensure(guest, share, there.types)
                self._carry()
            return [asdict(holder) for holder in holders]

    def _ensure(self, guest: Guest, share: Share, there: dict[str, str]) -> None:
        """Mount one share if it is not; what is wrong is kept for `describe` and must not stop the others.

        :param there: each target's type of file system; without those that this has to take away.
        """
        target = share.mount.target
        try:
            if share.device is None:
                self._offer(share)
            stands = next((kind for kind in share.kinds if fstype(kind) == there.get(target)), None)
            if stands is not None and self._stands(guest, share):
                share.kind, share.state, share.why = stands, "mounted", ""
                return
            self._clear_inside(guest, target, there)
            if stands is not None:
                del there[target]
                mounting.unmount(guest, target)
            self._mount(guest, share)
        except (HostvmError, OSError) as error:
            why = getattr(error, "details", None) or str(error)
            if share.why != why:
                self._log(f"{share.mount.source} is not shared: {why}")
            share.state, share.why = "failed", why

    def _stands(self, guest: Guest, share: Share) -> bool:
        """Whether a mount of the right type is ours, and answers."""
        if share.device is not None:
            return True
        ours = share.state == "mounted" or (self._listener is not None and self._listener.kept)
        return ours and mounting.works(guest, share.mount.target)

    def _mount(self, guest: Guest, share: Share) -> None:
        if share.device is not None:
            mounting.mount_device(guest, share.device)
        else:
            share.kind = self._best(share)
            listener, path = self._offer(share)
            if share.kind == "nfs":
                client, path = listener.client, listener.export_path(share.mount)
                mounting.mount_nfs(guest, share.mount, self._gateway, listener.port, path, client)
            else:
                mounting.mount_sftp(guest, share.mount, self._gateway, listener.port, path)
        share.state, share.why = "mounted", ""

    def _best(self, share: Share) -> str:
        return next((kind for kind in share.kinds if kind != "nfs" or self._nfs), share.kinds[0])

    def _offer(self, share: Share) -> tuple[ShareListener, str]:
        mounts = self._ever()
        if why := why_not(share.mount, mounts):
            raise MachineError(f"{share.mount.source} cannot be shared", why, "hostvm mount ls")
        unlinked = unlinked_path(share.mount, mounts)
        if self._listener is None:
            self._listener = ShareListener(self._run_dir, self._log, self._places)
            if self._started:
                self._listener.complete()
        return self._listener, self._listener.offer(share.mount, unlinked)


def _ignore(text: str) -> None:
    del text
