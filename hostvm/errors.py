"""Errors of machines, drivers, ssh and the agent; the shape is `images.failure.HostvmError`."""

from __future__ import annotations

from images.failure import ForwardError, HostvmError, ImageError, UsageError

__all__ = [
    "AgentError",
    "DriverError",
    "DriverGone",
    "DriverTimeout",
    "ForwardError",
    "GuestTimeout",
    "HostvmError",
    "ImageError",
    "MachineError",
    "PortTaken",
    "SpecError",
    "SshError",
    "UsageError",
]


class MachineError(HostvmError):
    """A machine is unknown, damaged or in the wrong state."""


class SpecError(UsageError):
    """What the user wants of a machine cannot be had: a wrong value, an unknown key."""


class DriverError(HostvmError):
    """The hypervisor is missing, refuses, or does not do what it was told."""


class DriverTimeout(DriverError):  # noqa: N818 - it is one, in the words of its callers
    """The hypervisor did not answer in time, which says nothing of the machine."""


class DriverGone(DriverTimeout):
    """Whoever runs the hypervisor is not there, or ended meanwhile: no answer comes, and the machine is as it was."""


class SshError(HostvmError):
    """The guest cannot be reached, or is not the one that was made."""


class GuestTimeout(SshError):  # noqa: N818 - it is one, in the words of its callers
    """A program in the guest took longer than it was given."""


class AgentError(HostvmError):
    """The machine's background agent cannot be started or does not answer."""


class PortTaken(DriverError):  # noqa: N818 - named for what happened, as callers catch it to choose again
    """A port of this computer that a machine wanted was taken by another program meanwhile: choose another."""
