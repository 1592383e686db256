"""Names of processor architectures, Debian's throughout."""

from __future__ import annotations

import platform

from hostvm.errors import UsageError

ARCHES = ("amd64", "arm64")
_HOST = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def host_arch() -> str:
    """This computer's architecture.

    :raises UsageError: it is neither amd64 nor arm64.
    """
    machine = platform.machine().lower()
    if machine not in _HOST:
        raise UsageError(
            f"hostvm does not run on a {machine} computer",
            "guests are built for amd64 and arm64",
            "use a computer with one of these processors",
        )
    return _HOST[machine]
