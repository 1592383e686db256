"""containerd, Debian's, used by its own client `ctr` (and nerdctl where the user brings it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.checks import Check
from hostvm.errors import SpecError
from hostvm.net.certificates import registry_certificates
from runtime.containerd.registries import hosts_files
from runtime.containerd.tasks import TaskService
from runtime.data_disk import DATA_DISK
from runtime.docker.tidy import TidyService
from runtime.version import VersionService

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hostvm.agent.service import Preparation, Service
    from hostvm.guest import Guest
    from hostvm.names.route import Router, Target
    from hostvm.net.plan import NetworkPlan
    from hostvm.residents import Residents
    from hostvm.spec import MachineSpec
    from runtime.docker.api import EngineApi


class _NoRouter:
    """Implements `hostvm.names.route.Router` where containers have no network of their own to be reached by."""

    def find(self, guest: Guest, labels: Sequence[str]) -> Target | None:
        """See `Router.find`."""
        del guest, labels
        return None

    def names(self, guest: Guest) -> list[str]:
        """See `Router.names`."""
        del guest
        return []


class _NoResidents:
    """Implements `hostvm.residents.Residents`."""

    def note(self) -> None:
        """See `Residents.note`."""

    def missing(self) -> list[str]:
        """See `Residents.missing`."""
        return []


class ContainerdEngine:
    """See `runtime.engine.Engine`."""

    name = "containerd"
    socket = "/run/containerd/containerd.sock"

    def checks(self) -> tuple[Check, ...]:
        """That it answers: its socket says only that it listens."""
        return (
            DATA_DISK,
            Check("containerd", ("ctr", "version"), "containerd does not answer; its log: hostvm logs --engine"),
        )

    def check(self, spec: MachineSpec) -> list[str]:
        """See `Engine.check`."""
        if spec.daemon:
            raise SpecError(
                "daemon: cannot be set for containerd",
                "its clients bring their own settings: ctr takes them as options",
                "correct it: hostvm set daemon={}",
            )
        hosts_files(spec.registries)
        return []

    def seed(self, spec: MachineSpec, plan: NetworkPlan) -> dict[str, bytes]:
        """How its clients reach registries, and those registries' authorities."""
        del plan
        self.check(spec)
        hosts = {f"registries/{host}": text.encode() for host, text in hosts_files(spec.registries).items()}
        return {**hosts, **registry_certificates(spec.registries.get("ca", {}))}

    def preparations(self, env: Mapping[str, str]) -> tuple[Preparation, ...]:
        """See `Engine.preparations`."""
        del env
        return ()

    def router(self, machine: str) -> Router:
        """See `_NoRouter`."""
        del machine
        return _NoRouter()

    def services(self, spec: MachineSpec) -> tuple[Service, ...]:
        """Whether tasks run; giving back room; its version. It publishes no ports."""
        del spec
        return (TaskService(), TidyService(), VersionService(_version))

    def residents(self, api: EngineApi) -> Residents:
        """None: its tasks end with the machine."""
        del api
        return _NoResidents()

    def watchers(self, tell: Callable[[set[str]], None]) -> tuple[Service, ...]:
        """See `Engine.watchers`."""
        del tell
        return ()


def _version(guest: Guest, machine: str) -> str:
    """`containerd github.com/containerd/containerd 1.7.24 ...`."""
    del machine
    return guest.run(["containerd", "--version"]).stdout.decode().split()[2]
