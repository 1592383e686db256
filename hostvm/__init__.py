"""Machines: spec, state, drivers, disks, ssh, forwards, agent.

`from hostvm import Machine` is for programs: docs/python.md. Nothing is imported until it is asked for, since every
forwarded command passes here.
"""

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    from cli.api import EphemeralMachine, Machine
    from hostvm.errors import HostvmError

__all__ = ["EphemeralMachine", "HostvmError", "Machine"]


def __getattr__(name: str) -> object:
    if name in ("Machine", "EphemeralMachine"):
        from cli import api

        return getattr(api, name)
    if name == "HostvmError":
        from hostvm.errors import HostvmError

        return HostvmError
    raise AttributeError(f"module 'hostvm' has no attribute {name!r}")
