"""What a machine's agent is told, put together from the machine's settings and state."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hostvm.agent.config import AgentConfig
from hostvm.net.addresses import GUEST_AUTH_SOCK
from hostvm.ssh.keys import make_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec
    from hostvm.state import MachineState

# The slowest sound boot seen under emulation took 15 s; a loaded computer may need several times that.
BOOT_SECONDS = 180.0
# Longer than the agent waits, which then says what kept the guest and shows its console.
START_SECONDS = BOOT_SECONDS + 15.0


def agent_config(
    paths: MachinePaths,
    spec: MachineSpec,
    state: MachineState,
    engine_socket: str,
    env: Mapping[str, str],
    *,
    woken: bool = False,
    provision: bool = False,
) -> AgentConfig:
    """The settings of this machine's agent.

    :param env: variables of programs in the guest.
    :param provision: whether the seed of this boot holds scripts.
    :param woken: the guest was suspended or paused, so its clock stands where it stood.
    """
    keys = make_keys(paths.keys)
    auth_sock = os.environ.get("SSH_AUTH_SOCK", "") if spec.ssh_agent else ""
    more = {"SSH_AUTH_SOCK": GUEST_AUTH_SOCK} if auth_sock else {}
    return AgentConfig(
        name=paths.name,
        run_dir=str(paths.run_dir),
        home=str(paths.folder),
        log=str(paths.agent_log),
        ssh_port=state.ssh_port,
        client_key=str(keys.client_key),
        host_public_key=keys.host_public,
        engine_socket=engine_socket,
        console=str(paths.console),
        boot_seconds=BOOT_SECONDS,
        subnet=state.subnet,
        env={**{key: value for key, value in env.items() if key != "SSH_AUTH_SOCK"}, **more},
        auth_sock=auth_sock,
        woken=woken,
        provision=provision,
        owner=state.owner,
        engine=spec.engine,
    )
