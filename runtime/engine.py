"""What every container engine offers the layers above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hostvm.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hostvm.agent.service import Preparation, Service
    from hostvm.checks import Check
    from hostvm.names.route import Router
    from hostvm.net.plan import NetworkPlan
    from hostvm.spec import MachineSpec


class Engine(Protocol):
    """A container engine inside a guest."""

    name: str
    socket: str  # path of its API socket in the guest

    def checks(self) -> tuple[Check, ...]:
        """What must hold before the engine is called ready, the essential first."""

    def seed(self, spec: MachineSpec, plan: NetworkPlan) -> dict[str, bytes]:
        """Its settings as files of the guest's seed.

        :raises SpecError: settings that contradict each other.
        """

    def preparations(self, env: Mapping[str, str]) -> tuple[Preparation, ...]:
        """What is put in order in the guest before the machine is called ready.

        :param env: variables of every program in the guest, the proxies among them.
        """

    def router(self, machine: str) -> Router:
        """Finds containers of the machine by their names."""

    def services(self, spec: MachineSpec) -> tuple[Service, ...]:
        """What the machine's agent runs for it; new objects on every call."""

    def watchers(self, tell: Callable[[set[str]], None]) -> tuple[Service, ...]:
        """Services that tell which paths of the guest running containers have as bind mounts."""


def find_engine(name: str) -> Engine:
    """The engine called `name`.

    :raises SpecError: there is none.
    """
    if name == "docker":
        from runtime.docker.engine import DockerEngine

        return DockerEngine()
    raise SpecError(f"unknown engine '{name}'", "known ones are: docker", "see: hostvm start --help")
