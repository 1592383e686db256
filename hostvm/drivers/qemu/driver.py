"""The driver that runs QEMU itself: no daemon beside it, the same on Linux, macOS and Windows."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from hostvm import process, process_id
from hostvm.advice import machine_named
from hostvm.drivers.base import DomainState, Features, Hardware
from hostvm.drivers.consoles import rotate_console
from hostvm.drivers.hostfwd import Hostfwd
from hostvm.drivers.qemu import unix_socket
from hostvm.drivers.qemu.argv import (
    DATA_DISK,
    LOG_FILE,
    NETWORK,
    PID_FILE,
    QMP_SOCKET,
    QUICK_BIOS,
    HostFacts,
    board_words,
    build_argv,
    incoming_argv,
)
from hostvm.drivers.qemu.qmp import Qmp, QmpGoneError
from hostvm.drivers.qemu.saving import hypervisor_text, read_state, run_on, write_state
from hostvm.errors import DriverError, PortTaken
from hostvm.platform.words import show_process
from hostvm.qemu_binary import has_firmware, inspect_qemu
from hostvm.shares.virtiofsd import daemon_argv, find_virtiofsd, maps_uncached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from hostvm.drivers.base import DomainSpec
    from hostvm.process_id import ProcessId
    from hostvm.shares.device import DeviceShare

START_TIMEOUT = 20.0
"""Seconds from QEMU's start to its monitor's greeting: a loaded computer, a virus scanner; 0.1 otherwise."""

ANSWER_TIMEOUT = 2.0
"""Seconds for the monitor to answer one question."""

_CONT_TIMEOUT = 20.0

_SSH = 22

_STATES = {
    "running": DomainState.RUNNING,
    "internal-error": DomainState.CRASHED,
    "guest-panicked": DomainState.CRASHED,
    "io-error": DomainState.STALLED,
    "shutdown": DomainState.OFF,
}


class QemuDriver:
    """Implements `hostvm.drivers.base.Driver` for one machine.

    Nothing is remembered but who was started last: the machine's QEMU is the process that the pid file names and whose
    command line holds the machine's uuid.
    """

    features = Features(name="qemu", saves_state=sys.platform != "win32")

    def __init__(self, name: str, uuid: str, run_dir: Path) -> None:
        self._name = name
        self._uuid = uuid
        self._run_dir = run_dir
        self._qmp = run_dir / QMP_SOCKET
        self._log = run_dir / LOG_FILE
        self._last: ProcessId | None = None

    def start(self, domain: DomainSpec) -> None:
        """See `Driver.start`.

        :raises PortTaken: another program listens on `domain.ssh_port`.
        """
        unix_socket.check_path(self._qmp)
        if self.state() is not DomainState.OFF:
            raise DriverError(f"machine {self._name} already runs", None, f"Stop it first: hostvm stop {self._name}")
        self._make_folder()
        rotate_console(domain.console)
        with contextlib.ExitStack() as undo:
            undo.callback(self._clear)
            started = self._last = self._spawn(domain, undo)
            try:
                self._greet(started)
            except (OSError, DriverError) as error:
                process_id.kill(started)
                raise self._explain(domain, error) from error
            undo.pop_all()

    def pause(self) -> None:
        """See `Driver.pause`."""
        with self._monitor() as qmp:
            qmp.execute("stop", timeout=ANSWER_TIMEOUT)

    def unpause(self) -> None:
        """See `Driver.unpause`."""
        with self._monitor() as qmp:
            run_on(qmp)

    def board(self, domain: DomainSpec) -> list[str]:
        """See `Driver.board`."""
        return board_words(domain, _facts(domain))

    def hypervisor(self, domain: DomainSpec) -> str:
        """See `Driver.hypervisor`."""
        return hypervisor_text(inspect_qemu(domain.qemu, domain.arch).version)

    def save(self, target: Path, commit: Callable[[str], None]) -> None:
        """See `Driver.save`."""
        with self._monitor() as qmp:
            write_state(qmp, target, commit)
        self.kill()

    def restore(self, domain: DomainSpec, source: Path, hypervisor: str, consume: Callable[[], None]) -> None:
        """See `Driver.restore`."""
        self._make_folder()
        with source.open("rb") as file, contextlib.ExitStack() as undo:
            undo.callback(self._clear)
            started = self._spawn(domain, undo, incoming=file.fileno())
            try:
                self._greet(started)
                with self._monitor() as qmp:
                    if hypervisor_text(qmp.version) != hypervisor:
                        raise DriverError(
                            "another hypervisor saved this state",
                            f"it is {hypervisor}'s, here is {hypervisor_text(qmp.version)}",
                            "Have that version here, or start without the state",
                        )
                    read_state(qmp, source, file.fileno())
                    Hostfwd(partial(_human, qmp), NETWORK).add("tcp", domain.ssh_port, _SSH)
                    consume()
                    undo.pop_all()  # what is in QEMU's memory now is nowhere else
                    qmp.execute("cont", timeout=_CONT_TIMEOUT)
            except (OSError, QmpGoneError) as error:
                raise self._explain(domain, error) from error

    def state(self) -> DomainState:
        """See `Driver.state`."""
        try:
            with Qmp.connect(self._qmp, ANSWER_TIMEOUT / 2) as qmp:
                status = qmp.execute("query-status", timeout=ANSWER_TIMEOUT / 2)["status"]
        except (OSError, DriverError):
            # Not up yet, going down, or its monitor is held by somebody: then the process decides.
            found = self._find()
            if found is None or (process_id.is_ending(found.pid) and process_id.wait_gone(found, ANSWER_TIMEOUT)):
                return DomainState.OFF
            return DomainState.RUNNING
        return _STATES.get(status, DomainState.PAUSED)

    def powerdown(self) -> None:
        """See `Driver.powerdown`. A monitor that does not answer is no error: the button is not felt by every guest."""
        with contextlib.suppress(OSError, DriverError), Qmp.connect(self._qmp, ANSWER_TIMEOUT) as qmp:
            qmp.execute("system_powerdown", timeout=ANSWER_TIMEOUT)

    def kill(self) -> None:
        """See `Driver.kill`. QEMU is first asked to close its disk images."""
        found = self._find()
        with contextlib.suppress(OSError, DriverError), Qmp.connect(self._qmp, ANSWER_TIMEOUT) as qmp:
            qmp.execute("quit", timeout=ANSWER_TIMEOUT)
        if found and not process_id.wait_gone(found, ANSWER_TIMEOUT) and not process_id.kill(found):
            raise DriverError(
                f"QEMU of machine {self._name} cannot be killed",
                f"process {found.pid} hangs in the kernel",
                f"Look what it waits for: {show_process(found.pid)}",
            )
        self._clear()

    def wait_off(self, timeout: float) -> bool:
        """See `Driver.wait_off`."""
        found = self._find()
        if found is not None and not process_id.wait_gone(found, timeout):
            return False
        self._clear()
        return True

    def has_crashed(self) -> bool:
        """See `Driver.has_crashed`."""
        return self._last is not None and process.has_crashed(self._last)

    def hardware(self) -> Hardware | None:
        """See `Driver.hardware`."""
        if self._find() is None:
            return None
        try:
            with Qmp.connect(self._qmp, ANSWER_TIMEOUT / 2) as qmp:
                cpus = qmp.execute("query-cpus-fast", timeout=ANSWER_TIMEOUT / 2)
                memory = qmp.execute("query-memory-size-summary", timeout=ANSWER_TIMEOUT / 2)["base-memory"]
                nodes = qmp.execute("query-named-block-nodes", {"flat": True}, timeout=ANSWER_TIMEOUT / 2)
        except OSError as error:
            raise self._silent(error) from error
        disk = next(node["image"]["virtual-size"] for node in nodes if node["node-name"] == DATA_DISK)
        return Hardware(len(cpus), int(memory), int(disk))

    def grow_disk(self, size: int) -> None:
        """See `Driver.grow_disk`."""
        try:
            with Qmp.connect(self._qmp, ANSWER_TIMEOUT) as qmp:
                qmp.execute("block_resize", {"node-name": DATA_DISK, "size": size}, timeout=ANSWER_TIMEOUT)
        except OSError as error:
            raise self._silent(error) from error

    def _silent(self, error: OSError) -> DriverError:
        return DriverError(
            f"QEMU of machine {self._name} does not answer",
            str(error),
            f"look at the machine: hostvm status {self._name}",
        )

    def forwards(self) -> Hostfwd:
        """See `Driver.forwards`."""
        return Hostfwd(self._tell_monitor, NETWORK)

    def _tell_monitor(self, line: str) -> str:
        with Qmp.connect(self._qmp, ANSWER_TIMEOUT / 2) as qmp:
            return _human(qmp, line)

    @contextlib.contextmanager
    def _monitor(self) -> Iterator[Qmp]:
        """A session with a machine that was found to run; what its errors advise names the machine."""
        try:
            session = Qmp.connect(self._qmp, ANSWER_TIMEOUT)
        except OSError as error:
            raise DriverError(
                f"QEMU of machine {self._name} does not answer",
                f"{self._qmp}: {error}",
                f"Look at the machine: hostvm status {self._name}",
            ) from error
        with machine_named(self._name), session as qmp:
            yield qmp

    def _make_folder(self) -> None:
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._run_dir.chmod(0o700)
        self._clear()

    def _spawn(self, domain: DomainSpec, undo: contextlib.ExitStack, incoming: int | None = None) -> ProcessId:
        """:param incoming: a saved state, open, that it is to wait for."""
        build = build_argv if incoming is None else incoming_argv
        if sys.platform == "win32":
            return self._begin(build(domain, _facts(domain)), undo)
        for share in domain.shares:
            if share.socket is not None:
                self._spawn_virtiofsd(share, share.socket, undo)
        # QEMU gets a socket that listens already: nobody has to wait for it to appear, and connecting to a QEMU
        # that fails ends at once.
        with unix_socket.listen(self._qmp) as listener:
            facts = _facts(domain, listener.fileno())
            inherited = [listener.fileno(), *([] if incoming is None else [incoming])]
            by_hand = build(domain, _facts(domain))
            return self._begin(build(domain, facts), undo, inherited, by_hand)

    def _begin(
        self,
        argv: Sequence[str],
        undo: contextlib.ExitStack,
        inherited: Sequence[int] = (),
        shown: Sequence[str] = (),
    ) -> ProcessId:
        """No Ctrl-C comes before it is known to `undo`: it would run on, and its pid file be removed."""
        with process.signals_held():
            started = process.spawn_detached(argv, self._log, pass_fds=inherited, shown=shown)
            undo.callback(process_id.kill, started)
        return started

    def _spawn_virtiofsd(self, share: DeviceShare, place: Path, undo: contextlib.ExitStack) -> None:
        """One that listens before QEMU connects, and ends when QEMU does."""
        if sys.platform == "win32":
            raise DriverError("virtiofs needs a Linux host", None, "share by sftp: set kind: sftp in machine.yaml")
        program = find_virtiofsd()
        with unix_socket.listen(place) as listener:
            argv = daemon_argv(program, share, listener.fileno(), uncached=maps_uncached(program))
            self._begin(argv, undo, [listener.fileno()])

    def _greet(self, started: ProcessId) -> None:
        """Wait until QEMU's main loop runs, which is after its virtual CPUs were started."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                Qmp.connect(self._qmp, max(0.1, deadline - time.monotonic())).close()
            except (FileNotFoundError, ConnectionRefusedError):
                # Only where QEMU makes the socket itself.
                if not process_id.is_alive(started) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def _explain(self, domain: DomainSpec, error: OSError | DriverError) -> DriverError:
        try:
            said = self._log.read_text("utf-8", "replace").strip()[-4000:]
        except OSError:
            said = ""
        if "Could not set up host forwarding rule" in said:
            return PortTaken(
                f"port {domain.ssh_port} of this computer is taken", said, "Start it again: another one is chosen"
            )
        if 'Failed to get "write" lock' in said:
            return DriverError(
                f"the data disk of machine {self._name} is in use",
                f"another process has opened it\n{said}",
                f"Find it: fuser -v {shlex.quote(str(domain.data_disk))}",
            )
        return DriverError(
            f"QEMU cannot start machine {self._name}",
            said or f"it printed nothing; {error}",
            "Look at what this computer lacks: hostvm doctor",
        )

    def _find(self) -> ProcessId | None:
        """The machine's QEMU, if it runs; zombies and other processes of that number do not count."""
        try:
            pid = int((self._run_dir / PID_FILE).read_text())
        except (OSError, ValueError):
            return None
        found = process_id.identify(pid)
        # One that was killed has no command while its threads end, and its disks are still locked.
        return found if found and (self._uuid in process_id.command_of(pid) or process_id.is_ending(pid)) else None

    def _clear(self) -> None:
        for name in (QMP_SOCKET, PID_FILE, LOG_FILE):
            (self._run_dir / name).unlink(missing_ok=True)
        for socket in self._run_dir.glob("share*.sock"):
            socket.unlink(missing_ok=True)


def _facts(domain: DomainSpec, qmp_fd: int | None = None) -> HostFacts:
    return HostFacts(
        inspect_qemu(domain.qemu, domain.arch).version,
        qmp_fd,
        intel_mac=sys.platform == "darwin",
        quick_bios=has_firmware(domain.qemu, domain.firmware, QUICK_BIOS),
    )


def _human(qmp: Qmp, line: str) -> str:
    return str(qmp.execute("human-monitor-command", {"command-line": line}, timeout=ANSWER_TIMEOUT / 2))
