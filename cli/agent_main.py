"""The background process of one machine: puts the agent together with what the machine's engine needs.

Run as `python -m cli.agent_main RUN_DIR`, where RUN_DIR holds agent.json.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm.agent.config import load
from hostvm.agent.run import run_agent
from hostvm.machines.identity import port_is_free
from hostvm.paths import MACHINE_YAML

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hostvm.agent.config import AgentConfig
    from hostvm.agent.service import Forwards, Service
    from hostvm.checks import Check
    from hostvm.shares.service import ShareService


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the machine is off; returns the process's exit status."""
    words = sys.argv[1:] if argv is None else argv
    config = load(Path(words[0]))
    running, forwards = forward_listens(config.ssh_port), hypervisor_forwards(config)
    services, checks, shares = compose(config)
    return run_agent(
        config,
        services,
        checks,
        running,
        forwards=forwards,
        operations={shares.name: shares.ask},
        find_folder=shares.guest_folder,
        capture=True,
    )


def compose(config: AgentConfig) -> tuple[Sequence[Service], Sequence[Check], ShareService]:
    """The machine's services, those of an engine only where there is one; its checks; and the service for shares."""
    from hostvm.net.addresses import GuestNetwork
    from hostvm.net.dns_service import DnsService
    from hostvm.shares.service import ShareService
    from hostvm.spec import load_spec
    from runtime.engine import find_engine

    spec = load_spec(Path(config.home) / MACHINE_YAML)
    shares = ShareService(spec.mounts, Path(config.run_dir))
    common: list[Service] = [shares, DnsService(GuestNetwork.of(config.subnet))]
    if not config.engine_socket:
        return common, (), shares
    engine = find_engine(spec.engine)
    return (*common, *engine.services(spec), *engine.watchers(shares.watch)), engine.checks(), shares


def hypervisor_forwards(config: AgentConfig) -> Forwards | None:
    """The way of the machine's own hypervisor into it, whatever `auto` would choose today; None when it has none."""
    from hostvm.errors import HostvmError
    from hostvm.machines.open import machine_driver
    from hostvm.paths import MachinePaths
    from hostvm.spec import load_spec
    from hostvm.state import load_state

    paths = MachinePaths.of(config.name)
    try:
        return machine_driver(paths, load_state(paths), load_spec(paths.spec)).forwards()
    except HostvmError:
        return None  # everything goes through ssh then


def forward_listens(port: int) -> Callable[[], bool]:
    """Whether the machine is on, seen by its ssh forward: the hypervisor listens exactly as long as it lives.

    True for a paused machine too, and needs no driver. Nothing is connected to: each connection would make the
    guest's sshd fork, which an emulated guest feels.
    """

    def listens() -> bool:
        return not port_is_free(port)

    return listens


if __name__ == "__main__":
    sys.exit(main())
