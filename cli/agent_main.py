"""The background process of one machine: puts the agent together with what the machine's engine needs.

Run as `python -m cli.agent_main RUN_DIR`, where RUN_DIR holds agent.json.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm import process, process_id
from hostvm.agent.config import load
from hostvm.agent.parts import Parts
from hostvm.agent.run import run_agent
from hostvm.errors import HostvmError
from hostvm.machines.identity import port_is_free
from hostvm.own import own_argv, own_env
from hostvm.paths import MACHINE_YAML, PROVISION_LOG, SHARE_PLACES
from hostvm.process_id import ProcessId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hostvm.agent.config import AgentConfig
    from hostvm.agent.service import Service
    from hostvm.drivers.base import Driver
    from hostvm.guest import Guest
    from hostvm.shares.service import ShareService
    from hostvm.spec import MachineSpec
    from runtime.docker.foreign import ForeignService

_LOOK_SECONDS = 3600.0
_AGAIN_SECONDS = 5.0
_FETCH_SECONDS = 1800.0  # 71 MB, over a slow line


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the machine is off; returns the process's exit status."""
    words = sys.argv[1:] if argv is None else argv
    config = load(Path(words[0]))
    if config.owner:
        owner = ProcessId.of(config.owner)
        threading.Thread(target=go_with, args=(owner, config), name="owner", daemon=True).start()
    listens = forward_listens(config.ssh_port)
    driver = own_driver(config)
    return run_agent(
        config,
        compose(config),
        listens,
        forwards=driver.forwards() if driver else None,
        stalled=stall_watcher(config, driver),
        capture=True,
    )


def go_with(owner: ProcessId, config: AgentConfig) -> None:
    """Have the machine removed when its owner has ended; by a process of its own, which ends this one too."""
    while not _is_gone(owner):
        pass
    argv = own_argv("cli.main", "rm", "--force", "--quiet", config.name)
    process.spawn_detached(argv, Path(os.devnull), env=own_env())


def _is_gone(owner: ProcessId) -> bool:
    try:
        return process_id.wait_gone(owner, _LOOK_SECONDS)
    except OSError:  # no descriptors are left: nobody knows
        time.sleep(_AGAIN_SECONDS)
        return False


def compose(config: AgentConfig) -> Parts:
    """The machine's services, checks and the like; those of an engine only where there is one."""
    from hostvm.agent.idle import IdleService
    from hostvm.agent.provision import Provisioner
    from hostvm.agent.spawn import spawn_in_background
    from hostvm.clock.service import ClockService
    from hostvm.engines import AS_ENGINE
    from hostvm.machines.change import booted_spec
    from hostvm.machines.room import Explainer
    from hostvm.names.service import NamesService
    from hostvm.net.addresses import GuestNetwork
    from hostvm.net.auth_agent import AuthAgentService
    from hostvm.net.dns_service import DnsService
    from hostvm.paths import MachinePaths
    from hostvm.shares.service import ShareService
    from hostvm.spec import load_spec
    from runtime.engine import find_engine
    from runtime.registry.service import RegistryService

    spec = load_spec(Path(config.home) / MACHINE_YAML)
    network = GuestNetwork.of(config.subnet)
    # As of its boot: what machine.yaml says since then counts from the next one on.
    booted = booted_spec(MachinePaths.of(config.name)) or spec
    actor = AS_ENGINE if spec.rootless else ()
    places = Path(config.home) / SHARE_PLACES
    shares = ShareService(booted.mounts, Path(config.run_dir), network.gateway, actor, places)
    clock = ClockService()
    idle = IdleService(
        Path(config.home) / MACHINE_YAML, lambda: spawn_in_background("sleep", config.name, Path(config.log))
    )
    services: list[Service] = [clock, shares, DnsService(network), idle]
    awaited = (clock.wait_right,) if config.woken else ()
    parts = Parts(
        services,
        preparations=awaited,
        operations={shares.name: shares.ask},
        find_folder=shares.guest_folder,
        explain=Explainer(MachinePaths.of(config.name)).why_failed,
    )
    if config.provision and not config.woken:
        scripts = Provisioner(config.name, Path(config.home) / PROVISION_LOG, config.env)
        parts = replace(parts, provision=scripts.run)
    if spec.ssh_agent:
        auth = AuthAgentService(config.auth_sock)
        services.append(auth)
        parts = replace(parts, hear=auth.use)
    if not config.engine_socket:
        return parts
    engine = find_engine(spec.engine)
    registry = RegistryService(Path(config.home), spec.engine)
    services += [*engine.services(spec), *engine.watchers(shares.watch), registry]
    parts = replace(
        parts,
        operations={**parts.operations, registry.name: registry.ask},
        explain=_first_of(parts.explain, registry.why_failed),
    )
    if spec.names and not spec.rootless:  # its containers' addresses are of a network of its own
        services.append(NamesService(engine.router(config.name), spec.names, config.name, Path(config.run_dir)))
    parts = with_docker_clients(parts, config, booted, engine.socket, shares)
    if config.woken:
        return parts  # it had passed the checks of its boot, and was prepared
    prepared = (*engine.preparations(config.env), registry.prepare)
    return replace(parts, checks=engine.checks(), preparations=prepared)


def _first_of(*explain: Callable[[Guest], str]) -> Callable[[Guest], str]:
    """The first that knows."""
    return lambda guest: next((text for one in explain if (text := one(guest))), "")


def with_docker_clients(
    parts: Parts, config: AgentConfig, booted: MachineSpec, socket: str, shares: ShareService
) -> Parts:
    """With what looks at docker clients' requests: at folders that they name, at platforms that want an emulator."""
    if not config.docker_api:
        return parts
    from hostvm.paths import machine_option
    from hostvm.shares.named import told_path
    from runtime.docker.bind_requests import BindJudge
    from runtime.docker.requests import ClientRequests

    option = machine_option(config.name)
    disks = [disk.mount for disk in booted.disks]

    def tell(source: str) -> str:
        return told_path(source, shares.mounted(), lambda: disks, option, config.engine_sock)

    judge = BindJudge(tell)
    foreign = emulator_service(config, booted, socket)
    if foreign is None:
        return replace(parts, examine=lambda: ClientRequests(judge))
    services = [*parts.services, foreign]
    return replace(parts, services=services, examine=lambda: ClientRequests(judge, foreign.before))


def emulator_service(config: AgentConfig, booted: MachineSpec, socket: str) -> ForeignService | None:
    """What brings `auto`'s emulator for docker clients; none where a list in `emulate` names all."""
    from hostvm.emulate import AUTO, emulated
    from hostvm.paths import MachinePaths
    from hostvm.state import load_state
    from runtime.docker.foreign import ForeignService

    if tuple(booted.emulate) != AUTO:
        return None
    # Not by its name: one that is kept warm lies elsewhere.
    paths = MachinePaths(config.name, Path(config.home), Path(config.run_dir))
    try:
        (arch,) = emulated(AUTO, load_state(paths).arch)
    except HostvmError:
        return None  # a damaged state is told of by who looks; the machine may run, and its commands need an agent
    return ForeignService(socket, arch, lambda: bring_emulator(config.name))


def bring_emulator(name: str) -> str:
    """Have the guest run programs of `auto`'s architecture; "" when it does, otherwise why not."""
    argv = own_argv("cli.background", "emulate", name)
    try:
        done = process.run(argv, timeout=_FETCH_SECONDS, env=own_env(), check=False, tied=True)
    except HostvmError as fault:
        return fault.brief
    return "" if done.status == 0 else done.stderr.decode(errors="replace").strip() or f"status {done.status}"


def own_driver(config: AgentConfig) -> Driver | None:
    """The machine's own hypervisor, whatever `auto` would choose today; None when it cannot be told."""
    from hostvm.machines.open import machine_driver
    from hostvm.paths import MachinePaths
    from hostvm.spec import load_spec
    from hostvm.state import load_state

    paths = MachinePaths.of(config.name)
    try:
        return machine_driver(paths, load_state(paths), load_spec(paths.spec))
    except HostvmError:
        return None  # everything goes through ssh then


def stall_watcher(config: AgentConfig, driver: Driver | None) -> Callable[[], HostvmError | None]:
    """Why the machine stands still though it is on; see `Life`."""
    from hostvm.machines.stalled import watcher
    from hostvm.paths import MachinePaths

    return watcher(MachinePaths.of(config.name), driver) if driver else lambda: None


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
