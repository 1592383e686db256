"""Podman, Debian's, as the guest's container engine: its service answers Docker's API and its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hostvm.net.certificates import registry_certificates
from hostvm.net.credentials import CredentialService, offered
from runtime.data_disk import DATA_DISK
from runtime.docker.binds import BindService
from runtime.docker.events import EngineEvents
from runtime.docker.names import EngineRouter
from runtime.docker.ports import PortService
from runtime.docker.residents import ContainerResidents
from runtime.docker.tidy import TidyService
from runtime.podman.health import HealthService
from runtime.podman.logins import logins_files, set_login_helpers
from runtime.podman.ports import look_at
from runtime.podman.settings import check_tables, containers_conf, registries_conf
from runtime.version import VersionService, api_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hostvm.agent.service import Preparation, Service
    from hostvm.checks import Check
    from hostvm.names.route import Router
    from hostvm.net.plan import NetworkPlan
    from hostvm.residents import Residents
    from hostvm.spec import MachineSpec
    from runtime.docker.api import EngineApi

_GROUP = "libpod_parent"
"""Below /sys/fs/cgroup: parent of all containers' groups (podman, libpod/container.go, CgroupfsDefaultCgroupParent)."""


class PodmanEngine:
    """See `runtime.engine.Engine`."""

    name = "podman"
    socket = "/run/podman/podman.sock"

    def __init__(self) -> None:
        self._events = EngineEvents(self.socket)

    def checks(self) -> tuple[Check, ...]:
        """Beyond its API answering, which the agent waits for by itself."""
        return (DATA_DISK,)

    def check(self, spec: MachineSpec) -> list[str]:
        """See `Engine.check`; machine.yaml's tables come beside the image's, so nothing is told of."""
        check_tables(spec)
        registries_conf(spec)
        return []

    def seed(self, spec: MachineSpec, plan: NetworkPlan) -> dict[str, bytes]:
        """Its configuration files, and registries' authorities."""
        return {
            "engine/containers.conf": containers_conf(spec, plan).encode(),
            "engine/registries.conf": registries_conf(spec).encode(),
            **logins_files(offered()),
            **registry_certificates(spec.registries.get("ca", {})),
        }

    def preparations(self, env: Mapping[str, str]) -> tuple[Preparation, ...]:
        """It learns of this computer's credential helpers; its own proxies it hands to containers by itself."""
        del env
        return (partial(set_login_helpers, offer=offered()),)

    def router(self, machine: str) -> Router:
        """Asks the API."""
        return EngineRouter(self.socket, machine)

    def services(self, spec: MachineSpec) -> tuple[Service, ...]:
        """Published ports; giving back room and memory; health checks; its version; logins by credential helpers."""
        logins = (CredentialService(),) if offered() else ()
        return (
            PortService(self._events, spec.ports.expose, look_at, reached=not spec.rootless),
            TidyService(self._events, _GROUP),
            HealthService(self._events),
            VersionService(api_version(self.socket)),
            *logins,
        )

    def residents(self, api: EngineApi) -> Residents:
        """See `Engine.residents`."""
        return ContainerResidents(api)

    def watchers(self, tell: Callable[[set[str]], None]) -> tuple[Service, ...]:
        """See `Engine.watchers`."""
        return (BindService(self._events, tell),)
