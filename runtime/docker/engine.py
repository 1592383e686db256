"""dockerd, Debian's docker.io, as the guest's container engine.

Its parts are imported by the method that needs them: every command that wakes or starts a machine has an engine, and
most of them are the agent's alone.
"""

from __future__ import annotations

import json
from functools import cached_property, partial
from typing import TYPE_CHECKING

from hostvm.net.credentials import CredentialService, offered
from runtime.data_disk import DATA_DISK
from runtime.docker.client_config import set_client_config
from runtime.docker.daemon import check_daemon, daemon_settings, image_settings, replaced_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hostvm.agent.service import Preparation, Service
    from hostvm.checks import Check
    from hostvm.names.route import Router
    from hostvm.net.plan import NetworkPlan
    from hostvm.residents import Residents
    from hostvm.spec import MachineSpec
    from runtime.docker.api import EngineApi
    from runtime.docker.events import EngineEvents

_DOCKER_HUB = ("registry-1.docker.io", "index.docker.io", "auth.docker.io", "docker.io")
"""Nothing listens at this guest's loopback for them: refused at once, where no network would cost a time-out each."""


class DockerEngine:
    """The default engine."""

    name = "docker"
    socket = "/run/docker.sock"

    @cached_property
    def _events(self) -> EngineEvents:
        from runtime.docker.events import EngineEvents

        return EngineEvents(self.socket)

    def checks(self) -> tuple[Check, ...]:
        """Beyond its API answering, which the agent waits for by itself."""
        return (DATA_DISK,)

    def check(self, spec: MachineSpec) -> list[str]:
        """See `Engine.check`."""
        check_daemon(spec)
        return replaced_settings(image_settings(rootless=spec.rootless), spec.daemon)

    def seed(self, spec: MachineSpec, plan: NetworkPlan) -> dict[str, bytes]:
        """dockerd's configuration file, registries' authorities, and names that are shut off."""
        from hostvm.net.certificates import registry_certificates

        settings = daemon_settings(image_settings(rootless=spec.rootless), spec, plan)
        found = {"engine/daemon.json": json.dumps(settings, indent=1).encode()}
        found |= registry_certificates(spec.registries.get("ca", {}))
        if "default" in spec.registries:
            found["hosts"] = f"127.0.0.1\t{' '.join(_DOCKER_HUB)}\n".encode()
        return found

    def preparations(self, env: Mapping[str, str]) -> tuple[Preparation, ...]:
        """The guest's docker client learns the proxies, and of this computer's credential helper."""
        return (partial(set_client_config, proxies=env, offer=offered()),)

    def router(self, machine: str) -> Router:
        """Asks the API."""
        from runtime.docker.names import EngineRouter

        return EngineRouter(self.socket, machine)

    def services(self, spec: MachineSpec) -> tuple[Service, ...]:
        """Published ports; giving back room and memory; its version; logins by this computer's credential helper."""
        from runtime.docker.ports import PortService
        from runtime.docker.tidy import TidyService
        from runtime.version import VersionService, api_version

        logins = (CredentialService(),) if offered() else ()
        return (
            PortService(self._events, spec.ports.expose, reached=not spec.rootless),
            TidyService(self._events, "docker"),
            VersionService(api_version(self.socket)),
            *logins,
        )

    def residents(self, api: EngineApi) -> Residents:
        """See `Engine.residents`."""
        from runtime.docker.residents import ContainerResidents

        return ContainerResidents(api)

    def watchers(self, tell: Callable[[set[str]], None]) -> tuple[Service, ...]:
        """See `Engine.watchers`."""
        from runtime.docker.binds import BindService

        return (BindService(self._events, tell),)
