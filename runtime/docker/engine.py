"""dockerd, Debian's docker.io, as the guest's container engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.checks import Check
from runtime.docker.binds import BindService
from runtime.docker.ports import PortService

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.agent.service import Service
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

    def services(self, spec: MachineSpec) -> tuple[Service, ...]:
        """Published ports."""
        return (PortService(self.socket, spec.ports.expose),)

    def watchers(self, tell: Callable[[set[str]], None]) -> tuple[Service, ...]:
        """See `Engine.watchers`."""
        return (BindService(self.socket, tell),)
