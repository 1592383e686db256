"""dockerd, Debian's docker.io, as the guest's container engine."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from hostvm.checks import Check
from runtime.docker.binds import BindService
from runtime.docker.client_config import set_client_proxies
from runtime.docker.daemon import daemon_settings, image_settings
from runtime.docker.names import EngineRouter
from runtime.docker.ports import PortService
from runtime.docker.tidy import TidyService

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hostvm.agent.service import Preparation, Service
    from hostvm.names.route import Router
    from hostvm.net.plan import NetworkPlan
    from hostvm.spec import MachineSpec


class DockerEngine:
    """The default engine."""

    name = "docker"
    socket = "/run/docker.sock"

    def checks(self) -> tuple[Check, ...]:
        """Beyond its API answering, which the agent waits for by itself."""
        return (
            Check(
                "data disk",
                ("mountpoint", "-q", "/var"),
                "the data disk is not mounted; its messages are in: hostvm logs --console",
            ),
        )

    def seed(self, spec: MachineSpec, plan: NetworkPlan) -> dict[str, bytes]:
        """dockerd's configuration file."""
        settings = daemon_settings(image_settings(), spec, plan)
        return {"engine/daemon.json": json.dumps(settings, indent=1).encode()}

    def preparations(self, env: Mapping[str, str]) -> tuple[Preparation, ...]:
        """The guest's docker client learns the proxies."""
        return (partial(set_client_proxies, proxies=env),)

    def router(self, machine: str) -> Router:
        """Asks the API."""
        return EngineRouter(self.socket, machine)

    def services(self, spec: MachineSpec) -> tuple[Service, ...]:
        """Published ports; giving back room and memory."""
        return (PortService(self.socket, spec.ports.expose), TidyService(self.socket))

    def watchers(self, tell: Callable[[set[str]], None]) -> tuple[Service, ...]:
        """See `Engine.watchers`."""
        return (BindService(self.socket, tell),)
