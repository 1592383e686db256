"""Room on this computer: what a machine's files take, and giving back what its guest deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hostvm.agent.client import run_in_guest
from hostvm.errors import MachineError
from hostvm.more_disks import more_files
from hostvm.paths import SUSPENDED_RAM, layers

if TYPE_CHECKING:
    from pathlib import Path

    from hostvm.paths import MachinePaths

_SCRIPT = r"""
status=0; sync
for dir in /var $(cut -d ' ' -f 2 /run/hostvm/seed/disks 2> /dev/null); do /usr/sbin/fstrim "$dir" || status=1; done
exit $status
"""
TRIM = ("sh", "-c", _SCRIPT)
"""In the guest: the blocks of deleted files become holes of the disks' files. Deletions count once they are on disk."""

_TRIM_SECONDS = 600.0


def trim_machine(paths: MachinePaths) -> None:
    """Trim a running machine's disks.

    :raises HostvmError: the guest cannot be asked, or refuses.
    """
    done = run_in_guest(paths.run_dir, TRIM, timeout=_TRIM_SECONDS)
    if done.status != 0:
        raise MachineError(
            f"the disk of machine {paths.name} could not be trimmed",
            done.stderr.decode(errors="replace").strip() or None,
            f"hostvm logs --console {paths.name}",
        )


def host_bytes(paths: MachinePaths) -> dict[str, Any]:
    """What a machine's files take on this computer, in bytes; `layers` is what all machines have in common."""
    return {
        "disk": sum(map(allocated, (paths.data_disk, *more_files(paths.folder)))),
        "saved_memory": allocated(paths.suspended_ram),
        "snapshots": sum(map(allocated, paths.snapshots.glob(f"*/{SUSPENDED_RAM}"))),
        "layers": sum(map(allocated, layers().glob("*.qcow2"))),
    }


def allocated(path: Path) -> int:
    """Bytes that a file takes on its disk, holes not counted; 0 for one that is missing."""
    try:
        found = path.stat()
    except OSError:
        return 0
    return getattr(found, "st_blocks", 0) * 512 or found.st_size
