"""Folders of this computer that the engine is told of, for bind mounts: where the guest has them.

The engine knows only the guest's paths, and makes an empty folder for one that it does not have. So before a
container is made its folders are looked up among the shares, and one that is not shared is told by name.
"""

from __future__ import annotations

import os
import posixpath
import sys
from typing import TYPE_CHECKING

from hostvm.errors import ForwardError
from hostvm.shares.model import guest_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hostvm.shares.model import Mount

ENGINE_SOCK = "/run/docker.sock"
"""Where every engine that speaks docker's API has it in the guest."""

# The guest's own, which people mean when they name them: its engine's socket, its kernel's files.
_GUESTS = ("/dev", "/lib/modules", "/proc", "/run", "/sys", "/var/lib", "/var/log", "/var/run")
_GUESTS_FILES = frozenset({"/", "/etc/localtime", "/etc/timezone", "/etc/resolv.conf", "/etc/ssl/certs"})


def engine_path(
    source: str,
    mounts: Sequence[Mount],
    disks: Callable[[], Sequence[str]] = tuple,
    *,
    folder: str = "/",
    sock: str = "",
    option: str = "",
    run: str = "docker run",
    platform: str = sys.platform,
) -> str:
    """Where the guest has what a path of this computer names; the path itself, where the guest's own is meant.

    :param source: absolute, or counting from `folder`.
    :param disks: where the machine's further disks are mounted; asked only for what is not shared.
    :param sock: where docker clients of this computer find the machine's engine: in the guest it is the engine's own.
    :param option: of hostvm's commands in the error's last lines, to choose the machine.
    :param run: what makes containers in the guest, for the same lines.
    :raises ForwardError: it is not shared.
    """
    path = _here(source, folder, platform)
    if sock and path == sock:
        return ENGINE_SOCK
    if path is None or _is_guests(path, mounts):
        return source
    inside = guest_path(mounts, path)
    if inside is not None:
        return inside
    if _is_in(path, disks()):
        return source
    from hostvm.platform.words import quoted  # for forwarding clients every millisecond counts

    raise ForwardError(
        f"{path} is not shared with the machine",
        "the container would see an empty folder of the guest instead; shared are: "
        + (", ".join(mount.source for mount in mounts) or "none"),
        f"hostvm mount add {quoted(_folder_of(path), platform)}{option}\n"
        f"or, if a path of the guest is meant: hostvm shell{option} -- {run} ...",
    )


def told_path(
    source: str,
    mounts: Sequence[Mount],
    disks: Callable[[], Sequence[str]],
    option: str,
    sock: str = "",
    *,
    platform: str = sys.platform,
) -> str:
    """The same for an absolute path of a docker client, which may have the guest's paths of shares already.

    :raises ForwardError: it is not shared.
    """
    plain = _plain(source) if source.startswith("/") else source
    if sock and plain == sock:
        return ENGINE_SOCK
    if _is_in(plain, [mount.target for mount in mounts]):
        return source
    found = engine_path(plain, mounts, disks, option=option, platform=platform)
    return source if found == plain else found


def is_whole(source: str, platform: str = sys.platform) -> bool:
    """Whether a docker client names a place of this computer or of the guest, and no volume and nothing relative."""
    if platform == "win32" and not source.startswith("/"):
        from hostvm.platform import windows_paths

        return windows_paths.has_drive(source)
    return source.startswith("/")


def cut_bind(bind: str, platform: str = sys.platform) -> tuple[str, str]:
    """The source of a docker client's `SOURCE:TARGET:OPTIONS`, and all that follows it, from the colon on."""
    if platform == "win32":
        from hostvm.platform import windows_paths

        source = windows_paths.cut_source(bind)[0]
    else:
        source = bind.partition(":")[0]
    return source, bind[len(source) :]


def _here(source: str, folder: str, platform: str) -> str | None:
    """The absolute path of this computer; None where it has none of that name, as Windows for `/var/run`."""
    if platform == "win32" and is_whole(source, platform):
        from hostvm.platform import windows_paths

        return windows_paths.windows_path(windows_paths.guest_path(source))
    return os.path.normpath(os.path.join(folder, source))  # noqa: PTH118 - links stay as they are


def _is_guests(path: str, mounts: Iterable[Mount]) -> bool:
    """A share of such a folder itself means this computer's; one of the whole computer is no reason to.

    A link here does not count: /var/run/docker.sock may be one to a machine's socket.
    """
    if path not in _GUESTS_FILES and not _is_in(path, _GUESTS):
        return False
    return not any(mount.source == path or (mount.source != "/" and _is_in(path, (mount.source,))) for mount in mounts)


def _folder_of(path: str) -> str:
    """What would be shared for the path: folders alone can be."""
    single = os.path.lexists(path) and not os.path.isdir(path)  # noqa: PTH112 - a plain word
    return os.path.dirname(path) if single else path  # noqa: PTH120


def _plain(path: str) -> str:
    """As the engine reads it: two slashes at the beginning, as Git Bash wants them, are one."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _is_in(path: str, folders: Iterable[str]) -> bool:
    return any(path == own or path.startswith(f"{own}/") for own in folders)
