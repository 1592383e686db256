"""The daemons behind virtiofs shares: Debian's older one in C, or the one in Rust that followed it.

The guest must ask anew for names and attributes every time, or it sees a file that was removed here for as long as it
remembers it (1 s with either daemon's `auto`). The C daemon can be told so. The Rust one remembers nothing with
`never` alone, where files cannot be mapped shared unless `--allow-mmap` (1.11) is there too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hostvm import process
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


def maps_uncached(program: Path) -> bool:
    """Whether this daemon lets the guest map files that it keeps nothing of; asks it.

    :raises HostvmError: it does not start.
    """
    return program not in C and b"--allow-mmap" in process.run([program, "--help"]).stdout


def daemon_argv(program: Path, share: DeviceShare, listener: int, *, uncached: bool) -> list[str]:
    """The daemon's command line; it ends with the hypervisor that connects to it.

    :param listener: a descriptor that it inherits, a Unix socket that listens already.
    :param uncached: what `maps_uncached` says of a daemon in Rust. Without it, what happens here is seen within 1 s.
    """
    # fmt: off
    if program in C:
        return [
            str(program),
            f"--fd={listener}",
            "-o", f"source={_escape(share.source)}",
            "-o", "cache=auto",
            "-o", "timeout=0",
            "-o", "xattr",
        ]
    return [
        str(program),
        f"--fd={listener}",
        "--shared-dir", str(share.source),
        *(["--cache=never", "--allow-mmap"] if uncached else ["--cache=auto"]),
        "--xattr",
    ]
    # fmt: on


def _escape(path: Path) -> str:
    # libfuse's option parser: a comma ends an option, a backslash takes the next letter as it is.
    return str(path).replace("\\", "\\\\").replace(",", "\\,")
