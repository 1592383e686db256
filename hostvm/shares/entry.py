"""One folder of a running machine, and how it is shared now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hostvm.shares.choose import SERVED, served_kinds
from hostvm.shares.device import DeviceShare, device_kind

if TYPE_CHECKING:
    from hostvm.shares.model import Mount


@dataclass(slots=True)
class Share:
    """:param kind: how it is shared, or will be; decided anew when it is mounted."""

    mount: Mount
    device: DeviceShare | None
    kind: str = ""
    state: str = "waiting"
    why: str = ""

    def __post_init__(self) -> None:
        self.kind = self.kinds[0]

    @property
    def kinds(self) -> tuple[str, ...]:
        """How it may be shared, the best first."""
        return (self.device.kind,) if self.device else served_kinds(self.mount)

    def facts(self) -> dict[str, Any]:
        """What `ShareService.describe` tells of it."""
        return {
            "source": self.mount.source,
            "target": self.mount.target,
            "readonly": self.mount.readonly,
            "kind": self.kind,
            "state": self.state,
            "why": self.why,
        }


def fstype(kind: str) -> str:
    """The type of file system that the guest has of a kind."""
    return SERVED.get(kind) or device_kind(kind).fstype
