"""What a machine is now: asked of its hypervisor and its agent, never remembered.

What only a closer look needs is imported for that: `hostvm ls` is to be quick.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hostvm.agent.client import agent_status, docker_host, refuse_docker
from hostvm.agent.spawn import sleeper_status
from hostvm.drivers.base import DomainState
from hostvm.errors import ForwardError, HostvmError
from hostvm.machines.open import machine_driver
from hostvm.paths import MachinePaths, machine_names
from hostvm.sizes import format_size, human_size
from hostvm.spec import load_spec
from hostvm.state import load_state

if TYPE_CHECKING:
    from hostvm.drivers.base import Hardware
    from hostvm.machines.room import Room
    from hostvm.spec import MachineSpec
    from hostvm.state import MachineState, Trial

_GUEST_SECONDS = 3.0


@dataclass(slots=True)
class Observation:
    """One look. `spec` or `state` is None where its file is damaged; `faults` says so.

    :param status: running, starting, stopped, suspended, paused, stalled, crashed or broken.
    :param agent: the agent's own facts; empty when none answers.
    :param sleeper: facts of what listens for docker clients while the machine sleeps; empty when nothing does.
    :param hardware: what a running machine really has; known after `look_closely`, as is
    :param panics: what its kernel said when it panicked, of the boots since its last start; of one that is off, only
        when that is why.
    :param waiting: keys of machine.yaml whose values count from the next start.
    :param paused_why: of a paused machine that was to be suspended; "" of others.
    :param room: of a running machine's data disk, as its guest sees it.
    """

    paths: MachinePaths
    status: str = "broken"
    spec: MachineSpec | None = None
    state: MachineState | None = None
    agent: dict[str, Any] = field(default_factory=dict)
    sleeper: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    hardware: Hardware | None = None
    waiting: tuple[str, ...] = ()
    panics: tuple[str, ...] = ()
    room: Room | None = None
    paused_why: str = ""

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.paths.name

    @property
    def docker_host(self) -> str:
        """The value of DOCKER_HOST that reaches its engine; "" where docker clients cannot (containerd, Windows)."""
        try:
            if self.spec:
                refuse_docker(self.name, self.spec.engine)
            return docker_host(self.paths.run_dir)
        except ForwardError:
            return ""

    def facts(self) -> dict[str, Any]:
        """The facts of `ls --json` and `status --json`; sizes are bytes."""
        return {
            "name": self.name,
            "status": self.status,
            "cpus": self.spec.cpus if self.spec else None,
            "memory": self.spec.memory if self.spec else None,
            "disk": self.spec.disk if self.spec else None,
            "disk_used": self._disk_used(),
            "driver": self.state.driver if self.state else None,
            "engine": self.spec.engine if self.spec else None,
            "ssh_port": self.state.ssh_port if self.state else None,
            "image": self.state.image if self.state else None,
            "created": self.state.created if self.state else None,
            "docker_host": self.docker_host,
            "agent": self.agent or None,
            "sleeper": self.sleeper or None,
            "paused_why": self.paused_why or None,
            "faults": self.faults,
        }

    def everything(self) -> dict[str, Any]:
        """The facts of `inspect`: wanted, made and observed, each under its own key."""
        return {
            "name": self.name,
            "folder": str(self.paths.folder),
            "run_folder": str(self.paths.run_dir),
            "wanted": asdict(self.spec) if self.spec else None,
            "made": asdict(self.state) if self.state else None,
            "observed": {
                "status": self.status,
                "hardware": asdict(self.hardware) if self.hardware else None,
                "disk_used": self._disk_used(),
                "room": self.room_facts(),
                "agent": self.agent or None,
                "sleeper": self.sleeper or None,
            },
            "waiting": list(self.waiting),
            "docker_host": self.docker_host,
            "faults": self.faults,
        }

    def room_facts(self) -> dict[str, int | bool] | None:
        """The data disk's room, in bytes, and whether it is worth a word; None where nobody could be asked."""
        return {**asdict(self.room), "nearly_full": self.room.nearly_full} if self.room else None

    def lines(self) -> list[tuple[str, str]]:
        """The same for people."""
        rows = [("machine", self.name), ("status", self.status)]
        if self.spec and self.state:
            rows += [
                ("size", f"{self.spec.cpus} cpus, {format_size(self.spec.memory)} memory"),
                ("disk", f"{human_size(self._disk_used())} used of up to {format_size(self.spec.disk)}"),
                ("driver", self.state.driver + (f", {self.agent['accel']}" if self.agent.get("accel") else "")),
                ("ssh", f"127.0.0.1:{self.state.ssh_port}"),
                ("engine", self._engine(self.spec.engine)),
            ]
            if self.room and self.room.nearly_full:
                from hostvm.machines.room import way_out

                left = f"{human_size(self.room.free)} free of {human_size(self.room.size)} on the data disk"
                rows.append(("room", f"{left}: {way_out(self.name, self.spec)}"))
        rows += self._why_so()
        if self.state and self.state.trial:
            rows.append(("upgrade", self._trial(self.state, self.state.trial)))
        if self.waiting:
            from hostvm.machines.change import keys_in_words

            rows.append(("waiting", f"{keys_in_words(self.waiting)}, for: hostvm restart {self.name}"))
        if self.names_taken:
            rows.append(("names", f"{self.names_taken}; for another one: {self.names_fix}"))
        elif url := self._names.get("url"):
            rows.append(("names", url))
        if why := self.agent.get("services", {}).get("emulators", {}).get("why"):
            rows.append(("emulators", why))
        for service in self.agent.get("services", {}).values():
            rows += [("port", f"{_port(row)} -> {row['container']}") for row in service.get("open", [])]
            rows += [
                ("port", f"{_port(row)} for {row['container']} cannot be opened: {row['why']}")
                for row in service.get("failed", [])
            ]
        return rows + [("fault", fault) for fault in self.faults]

    def _why_so(self) -> list[tuple[str, str]]:
        """What became of the guest, and why."""
        rows = []
        if self.paused_why:
            rows.append(("paused", f"it was to be suspended, which cannot be: {self.paused_why}"))
        if self.silent:
            rows.append(("guest", f"{self.silent}: hostvm restart {self.name}"))
        if self.sleeper:
            rows.append(("listening", f"{self.sleeper['listens']}: the first client wakes the machine"))
        if self.panics and self.status == "stopped":
            rows.append(("kernel", f"panicked: {self.panics[-1]}; it is off. See: hostvm logs --console {self.name}"))
        elif self.panics:
            told = f"panicked {len(self.panics)} times, last: " if len(self.panics) > 1 else "panicked: "
            rows.append(("kernel", f"{told}{self.panics[-1]}; it booted anew. See: hostvm logs --console {self.name}"))
        return rows

    @property
    def silent(self) -> str:
        """That the guest runs while its ssh server does not answer, and since when; "" when it does."""
        since = self.agent.get("silent_since") if self.status == "starting" else None
        if not since:
            return ""
        from hostvm.agent.silence import silent_words

        return silent_words(str(since))

    @property
    def names_taken(self) -> str:
        """Why no name of a container answers; "" when they do, are off, or nobody knows."""
        port = self._names.get("port")
        return f"port {port} is another program's, or another user's" if self._names.get("taken") else ""

    @property
    def names_fix(self) -> str:
        """What gives them another port."""
        return f"hostvm set --restart {self.name} names={int(self._names.get('port', 0)) % 65535 + 1}"

    @property
    def _names(self) -> dict[str, Any]:
        found: dict[str, Any] = self.agent.get("services", {}).get("names", {})
        return found

    def _trial(self, state: MachineState, trial: Trial) -> str:
        from hostvm.machines.trial import is_broken_off, short

        if not is_broken_off(state):
            return f"image {short(state.image)} is being tried, in place of {short(trial.image)}"
        keeps = "keeps it" if self.status in ("running", "suspended") else f"has image {short(trial.image)} again"
        return f"to image {short(state.image)} was broken off; from the next start on the machine {keeps}"

    def _engine(self, name: str) -> str:
        version = self.agent.get("services", {}).get("engine", {}).get("version", "")
        return " ".join(
            filter(None, (name, version, f"at {self.docker_host}" if self.docker_host else "(no Docker API)"))
        )

    def _disk_used(self) -> int:
        try:
            found = self.paths.data_disk.stat()
        except OSError:
            return 0
        return getattr(found, "st_blocks", 0) * 512 or found.st_size


def _port(row: dict[str, Any]) -> str:
    return str(row["host"]) + ("" if row.get("protocol") == "tcp" else f"/{row.get('protocol')}")


def observe(paths: MachinePaths) -> Observation:
    """Look at one machine; never fails, however damaged it is."""
    seen = Observation(paths)
    try:
        seen.state = load_state(paths)
    except HostvmError as fault:
        seen.faults.append(str(fault))
    try:
        seen.spec = load_spec(paths.spec)
    except HostvmError as fault:
        seen.faults.append(str(fault))
    if seen.state is None:
        return seen
    try:
        power = machine_driver(paths, seen.state, seen.spec).state()
    except HostvmError as fault:
        seen.faults.append(str(fault))
        return seen
    if power is not DomainState.OFF:
        seen.agent = agent_status(paths.run_dir) or {}
    seen.status = power.value
    if power is DomainState.STALLED:
        from hostvm.machines.stalled import no_room

        error = no_room(paths)
        seen.faults.append(str(error) if error else "its disk could not be written; it is about to go on")
    if power is DomainState.RUNNING and not seen.agent.get("ready"):
        seen.status = "starting"
    if power is DomainState.OFF and paths.suspended.exists():
        seen.status = "suspended"
    if not seen.agent:
        seen.sleeper = sleeper_status(paths.run_dir) or {}
        if power is DomainState.PAUSED:
            seen.paused_why = paused_why(paths)
    if seen.spec is None:
        seen.status = "broken" if power is DomainState.OFF else seen.status
    return seen


def paused_why(paths: MachinePaths) -> str:
    """Why the machine was last paused in place of being suspended; "" when it was not."""
    try:
        return paths.paused_why.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def look_closely(seen: Observation) -> Observation:
    """Add what only `status` and `inspect` tell; never fails, as `observe`. Gives `seen` back."""
    if seen.spec is None or seen.state is None or seen.status == "broken":
        return seen
    from hostvm.console import ended_in_panic, panics

    if seen.status == "stopped":
        seen.panics = tuple(filter(None, [ended_in_panic(seen.paths.console)]))
        return seen
    from hostvm.machines.change import pending
    from hostvm.machines.room import guest_room

    try:
        seen.panics = tuple(panics(seen.paths.console))
        seen.waiting = pending(seen.paths, seen.spec)
        seen.hardware = machine_driver(seen.paths, seen.state, seen.spec).hardware()
    except HostvmError as fault:
        seen.faults.append(str(fault))
    if seen.status == "running":
        with suppress(HostvmError):
            seen.room = guest_room(seen.paths, timeout=_GUEST_SECONDS)
    return seen


def observe_all() -> list[Observation]:
    """Look at every machine; one that is removed meanwhile is left out."""
    found = [observe(MachinePaths.of(name)) for name in machine_names()]
    return [seen for seen in found if seen.status != "broken" or seen.paths.folder.is_dir()]
