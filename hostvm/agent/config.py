"""What an agent is told: written by the command that starts a machine, read by the agent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from hostvm.engines import WITHOUT_DOCKER_API
from hostvm.errors import AgentError
from hostvm.files import private_folder, write_atomic
from hostvm.net.addresses import DEFAULT_SUBNET
from hostvm.paths import AGENT_JSON, AGENT_LOCK, AGENT_SOCK, DOCKER_SOCK
from hostvm.process_id import ProcessId

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """One machine as its agent sees it.

    :param run_dir: where the sockets are.
    :param home: the machine's folder.
    :param log: the agent's log.
    :param ssh_port: on 127.0.0.1, leads to the guest's sshd.
    :param client_key: path of the private key.
    :param host_public_key: `ssh-ed25519 BASE64`, the only one accepted.
    :param engine_socket: the engine's socket in the guest; "" when the machine has no engine.
    :param engine: its name.
    :param console: the guest's console log.
    :param boot_seconds: from the agent's start until the machine must be ready.
    :param user: the guest's account.
    :param subnet: of the guest's network.
    :param env: variables of every program that runs in the guest.
    :param auth_sock: this computer's ssh agent; "" for none.
    :param provision: this boot's seed holds scripts to be run.
    :param owner: `ProcessId.facts` of the process with which the machine is to go; None for one that stays.
    :param woken: the guest was suspended or paused before: its clock is wrong until it is set.
    """

    name: str
    run_dir: str
    home: str
    log: str
    ssh_port: int
    client_key: str
    host_public_key: str
    engine_socket: str
    console: str
    boot_seconds: float = 180.0
    user: str = "root"
    subnet: str = DEFAULT_SUBNET
    env: dict[str, str] = field(default_factory=dict)
    auth_sock: str = ""
    woken: bool = False
    provision: bool = False
    owner: list[float | str] | None = None
    engine: str = "docker"

    @property
    def docker_api(self) -> bool:
        """Whether docker clients can talk to the engine."""
        return bool(self.engine_socket) and self.engine not in WITHOUT_DOCKER_API

    @property
    def agent_sock(self) -> str:
        """Where clients of the agent connect."""
        return f"{self.run_dir}/{AGENT_SOCK}"

    @property
    def engine_sock(self) -> str:
        """The engine's API on this computer."""
        return f"{self.run_dir}/{DOCKER_SOCK}"

    @property
    def lock(self) -> str:
        """Held by the machine's agent while it lives."""
        return f"{self.run_dir}/{AGENT_LOCK}"


def store(config: AgentConfig, run_dir: Path, process: ProcessId | None = None) -> None:
    """Write agent.json into `run_dir`, which is made 0700.

    :param process: the agent's, once it is known.
    :raises OSError: it cannot be written.
    """
    private_folder(run_dir)
    facts = {"process": process.facts() if process else None, **asdict(config)}
    write_atomic(run_dir / AGENT_JSON, json.dumps(facts, indent=1).encode())


def load(run_dir: Path) -> AgentConfig:
    """Read agent.json.

    :raises AgentError: it is missing, damaged, or another version's.
    """
    path = run_dir / AGENT_JSON
    try:
        facts = json.loads(path.read_bytes())
        facts.pop("process", None)
        return AgentConfig(**facts)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise AgentError(
            f"the agent's settings {path} cannot be used",
            str(error),
            f"hostvm restart {run_dir.name}   # writes them anew",
        ) from error


def spawned(run_dir: Path) -> ProcessId | None:
    """The process that was started last as the machine's agent; None when that is unknown."""
    try:
        return ProcessId.of(json.loads((run_dir / AGENT_JSON).read_bytes())["process"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def provisions(run_dir: Path) -> bool:
    """Whether this boot's seed holds scripts, as the last agent was told."""
    try:
        return load(run_dir).provision
    except AgentError:
        return False


def guest_env(run_dir: Path) -> dict[str, str]:
    """The variables that the last agent was told; they are those of the running boot."""
    try:
        return load(run_dir).env
    except AgentError:
        return {}
