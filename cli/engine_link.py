"""`/var/run/docker.sock`, where programs look that know no DOCKER_HOST: a link to a machine's socket, if it is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm import paths as places
from hostvm.errors import HostvmError
from hostvm.platform.local import connect_local

if TYPE_CHECKING:
    from pathlib import Path


def is_ours(link: Path) -> bool:
    """Whether it is a link to one of our machines' sockets, running or not."""
    return link.is_symlink() and places.run() in link.readlink().parents


def make_link(link: Path, target: Path) -> bool:
    """Link to `target`; False when that is so already. Another machine's link of ours is turned.

    :raises HostvmError: something else is there, or the folder is not ours to write in.
    """
    if link.is_symlink() and link.readlink() == target:
        return False
    if (link.is_symlink() or link.exists()) and not is_ours(link):
        raise HostvmError(
            f"{link} is in use",
            _who(link),
            f'let programs find the machine otherwise: eval "$(hostvm env)"\nor remove it, then try again: rm {link}',
        )
    beside = link.with_name(f".{link.name}.hostvm")
    try:
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        beside.replace(link)
    except OSError as fault:
        raise HostvmError(
            f"{link} cannot be made", f"{fault.strerror}: {link.parent}", f"sudo ln -sfn {target} {link}"
        ) from fault
    return True


def remove_link(link: Path) -> bool:
    """Remove it when it is ours; False when there was none of ours.

    :raises HostvmError: it cannot be removed.
    """
    if not is_ours(link):
        return False
    try:
        link.unlink()
    except OSError as fault:
        raise HostvmError(f"{link} cannot be removed", fault.strerror, f"sudo rm {link}") from fault
    return True


def _who(link: Path) -> str:
    if link.is_symlink():
        return f"it is a link to {link.readlink()}, which hostvm did not make"
    try:
        connect_local(str(link)).close()
    except OSError:
        return "nothing answers there now, but hostvm did not make it"
    return "an engine of this computer's own answers there"
