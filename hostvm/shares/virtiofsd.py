"""The daemons behind virtiofs shares: Debian's older one in C, or the one in Rust that followed it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hostvm.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hostvm.shares.device import DeviceShare

# Where distributions put it; none is on PATH.
RUST = (Path("/usr/libexec/virtiofsd"), Path("/usr/lib/virtiofsd"), Path("/usr/local/libexec/virtiofsd"))
C = (Path("/usr/lib/qemu/virtiofsd"), Path("/usr/libexec/qemu/virtiofsd"))


def find_virtiofsd(candidates: Iterable[Path] = (*RUST, *C)) -> Path:
    """The daemon of this computer, the newer kind if both are there.

    :raises DriverError: there is none.
    """
    for path in candidates:
        if path.is_file():
            return path
    raise DriverError(
        "virtiofs needs virtiofsd, which is not on this computer",
        f"looked for {', '.join(str(path) for path in (*RUST, *C))}",
        "install it: apt install virtiofsd   # or share by 9p: set kind: 9p in machine.yaml",
    )


def daemon_argv(program: Path, share: DeviceShare, listener: int) -> list[str]:
    """The daemon's command line; it ends with the hypervisor that connects to it.

    :param listener: a descriptor that it inherits, a Unix socket that listens already.
    """
    # fmt: off
    if program in C:
        return [
            str(program),
            f"--fd={listener}",
            "-o", f"source={_escape(share.source)}",
            "-o", "cache=auto",
            "-o", "xattr",
        ]
    return [
        str(program),
        f"--fd={listener}",
        "--shared-dir", str(share.source),
        "--cache=auto",
        "--xattr",
    ]
    # fmt: on


def _escape(path: Path) -> str:
    # libfuse's option parser: a comma ends an option, a backslash takes the next letter as it is.
    return str(path).replace("\\", "\\\\").replace(",", "\\,")
