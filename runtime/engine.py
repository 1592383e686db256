"""What every container engine offers the layers above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hostvm.engines import ENGINES
from hostvm.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hostvm.agent.service import Preparation, Service
    from hostvm.checks import Check
    from hostvm.names.route import Router
    from hostvm.net.plan import NetworkPlan
    from hostvm.residents import Residents
    from hostvm.spec import MachineSpec
    from runtime.docker.api import EngineApi


class Engine(Protocol):
    """A container engine inside a guest."""

    name: str
    socket: str  # path in the guest of its API socket; Docker's API unless `hostvm.engines.WITHOUT_DOCKER_API` has it

    def checks(self) -> tuple[Check, ...]:
        """What must hold before the engine is called ready, the essential first."""

    def check(self, spec: MachineSpec) -> list[str]:
        """Where machine.yaml replaces what the guest image gives the engine, one line each.

        :raises SpecError: settings that the engine could not start with, or not as hostvm needs it.
        """

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

    def residents(self, api: EngineApi) -> Residents:
        """Containers that are to run again after a boot.

        :param api: of the running engine; not asked where the engine has none.
        """

    def watchers(self, tell: Callable[[set[str]], None]) -> tuple[Service, ...]:
        """Services that tell which paths of the guest running containers have as bind mounts."""


def find_engine(name: str) -> Engine:
    """The engine called `name`.

    :raises SpecError: there is none.
    """
    if name == "docker":
        from runtime.docker.engine import DockerEngine

        return DockerEngine()
    if name == "podman":
        from runtime.podman.engine import PodmanEngine

        return PodmanEngine()
    if name == "containerd":
        from runtime.containerd.engine import ContainerdEngine

        return ContainerdEngine()
    raise SpecError(f"unknown engine '{name}'", f"known ones are: {', '.join(ENGINES)}", "see: hostvm start --help")
