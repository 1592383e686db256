"""The driver that gives machines to libvirt as transient domains: visible in virsh and virt-manager while they run."""

from __future__ import annotations

import contextlib
import threading
import time
import xml.etree.ElementTree as ET
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hostvm.disks import backing_of
from hostvm.drivers.base import DomainState, Features, Hardware
from hostvm.drivers.consoles import rotate_console
from hostvm.drivers.hostfwd import Hostfwd
from hostvm.drivers.libvirt.connection import DEFAULT_URI, connected, import_libvirt, within
from hostvm.drivers.libvirt.xml import DATA_DISK, build_domain
from hostvm.errors import DriverError, DriverTimeout, SpecError
from hostvm.process import signals_held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hostvm.drivers.base import DomainSpec

T = TypeVar("T")

STATE_TIMEOUT = 1.8
"""Seconds; state() promises 2."""

PRESS_TIMEOUT = 5.0
"""Seconds for the daemon to pass on a word to QEMU."""

KILL_TIMEOUT = 60.0
"""Seconds for a domain's end: libvirt itself waits some 15 to 40 for QEMU's."""

START_TIMEOUT = 120.0
"""Seconds to make a domain: libvirt waits some 30 for QEMU, and asks it again and again where /dev/kvm is broken."""

ANSWER_TIMEOUT = 20.0
"""Seconds for QEMU to halt, to go on, or to have a larger disk, on a busy computer."""

TRANSFER_TIMEOUT = 600.0
"""Seconds for a domain's memory to be on the disk, or to come from there: 64 GiB, a slow disk."""

_POLL = 0.05

_HOSTNET = "hostnet0"
"""The id that libvirt gives the first network back end in QEMU."""

_SSH = 22

_SPARSE_LIBVIRT, _SPARSE_QEMU = 11_002_000, 9_000_000


class LibvirtDriver:
    """Implements `hostvm.drivers.base.Driver` for one machine.

    A connection is opened for each call: cheap (0.03 s), and nothing to go stale when the daemon restarts.
    """

    def __init__(self, name: str, uuid: str, uri: str | None = None) -> None:
        self._name = name
        self._uuid = uuid
        self._uri = uri or DEFAULT_URI
        remote = not self._uri.partition("://")[2].startswith("/")
        self.features = Features(name="libvirt", remote=remote, saves_state=True)

    def start(self, domain: DomainSpec) -> None:
        """See `Driver.start`.

        :raises PortTaken: another program listens on `domain.ssh_port`.
        """
        if domain.accel == "whpx":
            raise SpecError("libvirt has no whpx", "it does not run guests on Windows", "Use QEMU: --driver qemu")
        libvirt = import_libvirt()

        def make(connection: Any) -> Any:
            if self._lookup(connection) is not None:
                raise DriverError(
                    f"machine {self._name} already runs", None, f"Stop it first: hostvm stop {self._name}"
                )
            rotate_console(domain.console)
            # Paused, so that the ssh port is forwarded before anything in the guest runs.
            return connection.createXML(build_domain(domain), libvirt.VIR_DOMAIN_START_PAUSED)

        self._make(START_TIMEOUT, domain, make)
        with self._undone_by_kill():
            self._of_running(ANSWER_TIMEOUT, lambda created: created.resume())

    def state(self) -> DomainState:
        """See `Driver.state`.

        :raises DriverError: libvirt does not answer in time.
        """
        return self._within(STATE_TIMEOUT, self._state)

    def powerdown(self) -> None:
        """See `Driver.powerdown`.

        :raises DriverError: libvirt does not answer in time, as it does not while QEMU's monitor is silent.
        """
        button = import_libvirt().VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
        self._with_domain(PRESS_TIMEOUT, lambda found: found.shutdownFlags(button))

    def has_crashed(self) -> bool:
        """See `Driver.has_crashed`. libvirt started it, and reaps it."""
        return False

    def kill(self) -> None:
        """See `Driver.kill`."""
        self._with_domain(KILL_TIMEOUT, lambda found: found.destroy())

    def wait_off(self, timeout: float) -> bool:
        """See `Driver.wait_off`.

        :raises DriverError: libvirt does not answer in time.
        """
        deadline = time.monotonic() + timeout

        def is_on(found: Any) -> bool:
            while found.isActive():
                if time.monotonic() >= deadline:
                    return True
                time.sleep(_POLL)
            return False

        return not self._with_domain(timeout + PRESS_TIMEOUT, is_on)

    def hardware(self) -> Hardware | None:
        """See `Driver.hardware`."""

        def look(found: Any) -> Hardware:
            _, kib, _, cpus, _ = found.info()
            return Hardware(cpus, kib * 1024, found.blockInfo(DATA_DISK)[0])

        return self._with_domain(STATE_TIMEOUT, look)

    def grow_disk(self, size: int) -> None:
        """See `Driver.grow_disk`."""
        flags = import_libvirt().VIR_DOMAIN_BLOCK_RESIZE_BYTES
        self._of_running(ANSWER_TIMEOUT, lambda found: found.blockResize(DATA_DISK, size, flags))

    def pause(self) -> None:
        """See `Driver.pause`."""
        paused = import_libvirt().VIR_DOMAIN_PAUSED
        self._of_running(ANSWER_TIMEOUT, lambda found: found.state()[0] == paused or found.suspend())

    def unpause(self) -> None:
        """See `Driver.unpause`. libvirt itself undoes a save whose client went away."""
        paused = import_libvirt().VIR_DOMAIN_PAUSED
        self._of_running(ANSWER_TIMEOUT, lambda found: found.state()[0] != paused or found.resume())

    def board(self, domain: DomainSpec) -> list[str]:
        """See `Driver.board`: none, libvirt keeps the whole domain in the file."""
        del domain
        return []

    def hypervisor(self, domain: DomainSpec) -> str:
        """See `Driver.hypervisor`."""
        del domain

        def ask() -> str:
            with connected(self._uri) as connection:
                return _hypervisor(connection)

        return self._within(ANSWER_TIMEOUT, ask)

    def save(self, target: Path, commit: Callable[[str], None]) -> None:
        """See `Driver.save`.

        libvirt ends the domain as soon as its file is whole, so `commit` comes after that: a process killed in
        between leaves a stopped machine. Ctrl-C waits for both; libvirt's call would not hear it anyway.
        """
        target.unlink(missing_ok=True)

        def save(found: Any) -> str:
            hypervisor = _hypervisor(found.connect())
            _save(found, target)
            return hypervisor

        def give_up() -> None:
            with contextlib.suppress(DriverError):
                self._with_domain(PRESS_TIMEOUT, lambda found: found.abortJob())

        with signals_held():
            commit(self._of_running(TRANSFER_TIMEOUT, save, give_up))

    def restore(self, domain: DomainSpec, source: Path, hypervisor: str, consume: Callable[[], None]) -> None:
        """See `Driver.restore`."""
        libvirt = import_libvirt()

        def load(connection: Any) -> Any:
            if (here := _hypervisor(connection)) != hypervisor:
                raise DriverError(
                    "another hypervisor saved this state",
                    f"it is {hypervisor}'s, here is {here}",
                    "Have that version here, or start without the state",
                )
            disks = (domain.data_disk, *(disk.path for disk in domain.disks))
            xml = _looked_for_anew(connection, source) if any(map(backing_of, disks)) else None
            connection.restoreFlags(str(source), xml, libvirt.VIR_DOMAIN_SAVE_PAUSED)
            return connection.lookupByUUIDString(self._uuid)

        self._make(TRANSFER_TIMEOUT, domain, load)
        with self._undone_by_kill():
            consume()
        self._of_running(ANSWER_TIMEOUT, lambda created: created.resume())

    def _make(self, seconds: float, domain: DomainSpec, make: Callable[[Any], Any]) -> None:
        """Have a paused domain, and a way to its port of ssh; there is none when that fails.

        :raises DriverTimeout: it took longer than `seconds`; one that comes after that is destroyed.
        """
        libvirt = import_libvirt()
        late = threading.Event()
        made = []

        def work() -> None:
            with connected(self._uri) as connection:
                created = make(connection)
                try:
                    Hostfwd(partial(_monitor_of, created), _HOSTNET).add("tcp", domain.ssh_port, _SSH)
                    _require_awaited(late)
                except BaseException:
                    with contextlib.suppress(libvirt.libvirtError):
                        created.destroy()
                    raise
                made.append(created)

        try:
            self._within(seconds, work, late.set)
        except BaseException:
            if made:  # in the instant of Ctrl-C
                with contextlib.suppress(DriverError):
                    self.kill()
            raise

    @contextlib.contextmanager
    def _undone_by_kill(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with contextlib.suppress(DriverError):
                self.kill()
            raise

    def forwards(self) -> Hostfwd | None:
        """See `Driver.forwards`."""
        return None if self.features.remote else Hostfwd(self._tell_monitor, _HOSTNET)

    def _tell_monitor(self, line: str) -> str:
        return self._with_domain(STATE_TIMEOUT, lambda found: _monitor_of(found, line)) or ""

    def _state(self) -> DomainState:
        libvirt = import_libvirt()
        states = {
            libvirt.VIR_DOMAIN_PAUSED: DomainState.PAUSED,
            libvirt.VIR_DOMAIN_PMSUSPENDED: DomainState.PAUSED,
            libvirt.VIR_DOMAIN_SHUTOFF: DomainState.OFF,
            libvirt.VIR_DOMAIN_CRASHED: DomainState.CRASHED,
        }
        with self._existing() as found:
            if found is not None:
                state, reason = found.state()
                if (state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
                    return DomainState.STALLED
                return states.get(state, DomainState.RUNNING)
        return DomainState.OFF

    def _within(self, seconds: float, call: Callable[[], T], give_up: Callable[[], object] | None = None) -> T:
        """libvirt's calls have no deadlines, and no Ctrl-C ends them: one that hangs is left to a thread.

        :param give_up: as of `within`.
        :raises DriverTimeout: it took longer than `seconds`.
        """
        return within(seconds, call, f"libvirt at {self._uri} does not answer", self._uri, give_up)

    def _of_running(self, seconds: float, call: Callable[[Any], T], give_up: Callable[[], object] | None = None) -> T:
        """What `call` gives of the domain, which must be there.

        :raises DriverError: it is not, libvirt refuses, or it took longer than `seconds`.
        """

        def work() -> T:
            with connected(self._uri) as connection:
                found = self._lookup(connection)
                if found is None:
                    raise DriverError(f"machine {self._name} does not run", None, f"hostvm start {self._name}")
                return call(found)

        return self._within(seconds, work, give_up)

    def _with_domain(self, seconds: float, call: Callable[[Any], T]) -> T | None:
        """What `call` gives of the domain; None when there is none any more.

        :raises DriverError: libvirt refuses, or it took longer than `seconds`.
        """

        def work() -> T | None:
            with self._existing() as found:
                return call(found) if found is not None else None
            return None

        return self._within(seconds, work)

    @contextlib.contextmanager
    def _existing(self) -> Iterator[Any]:
        """The domain, or None; that it ends meanwhile is no error: it was to be OFF."""
        libvirt = import_libvirt()
        with connected(self._uri) as connection:
            try:
                yield self._lookup(connection)
            except libvirt.libvirtError as error:
                if error.get_error_code() not in {libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID}:
                    raise

    def _lookup(self, connection: Any) -> Any:
        libvirt = import_libvirt()
        try:
            return connection.lookupByUUIDString(self._uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise


def _require_awaited(late: threading.Event) -> None:
    if late.is_set():
        raise DriverTimeout("the domain comes too late", "nobody waits for it any more", "hostvm start")


def _save(domain: Any, target: Path) -> None:
    """libvirt 11.2 with QEMU 9.0, and later ones, can write each page at a place of its own, which loads faster."""
    libvirt = import_libvirt()
    connection = domain.connect()
    able = connection.getLibVersion() >= _SPARSE_LIBVIRT and connection.getVersion() >= _SPARSE_QEMU
    if able and hasattr(libvirt, "VIR_DOMAIN_SAVE_PARAM_IMAGE_FORMAT"):
        words = {libvirt.VIR_DOMAIN_SAVE_PARAM_FILE: str(target)}
        domain.saveParams({**words, libvirt.VIR_DOMAIN_SAVE_PARAM_IMAGE_FORMAT: "sparse"}, 0)
    else:
        domain.saveFlags(str(target), None, 0)


def _looked_for_anew(connection: Any, source: Path) -> str:
    """A saved domain's XML without what is beneath its disks: libvirt wrote of one that stood alone that nothing is.

    It may have become an overlay since, in a snapshot or for a clone, and would read as zeros.
    """
    domain = ET.fromstring(connection.saveImageGetXMLDesc(str(source), 0))  # noqa: S314 - libvirt's own words
    for disk in domain.iterfind("devices/disk"):
        for beneath in disk.findall("backingStore"):
            disk.remove(beneath)
    return ET.tostring(domain, encoding="unicode")


def _hypervisor(connection: Any) -> str:
    """Name and version of what writes and reads the state; libvirt reads older ones' files by itself."""
    number = connection.getVersion()
    return f"{connection.getType()} {number // 1000000}.{number // 1000 % 1000}.{number % 1000}, by libvirt"


def _monitor_of(domain: Any, line: str) -> str:
    """Ask QEMU itself: libvirt's user network has no forwards in its XML. It marks the domain as tainted, which
    is a line in its log and nothing else.
    """
    import libvirt_qemu

    return str(libvirt_qemu.qemuMonitorCommand(domain, line, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP))
