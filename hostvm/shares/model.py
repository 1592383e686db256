"""A shared folder as the user asks for it, and the words and rules for asking."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = ("auto", "9p", "virtiofs", "sftp", "nfs")
NONE = "none"

# What the guest itself lives in. A folder of the user's laid over one of these would break it.
_SYSTEM = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/image",
    "/lib",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var",
)
_WHOLE = ("/", "/home", "/mnt", "/opt", "/srv", "/tmp")  # noqa: S108 - a place in the guest
# macOS keeps each user's temporary files here; the guest keeps nothing here.
_EXCEPT = ("/var/folders",)


@dataclass(frozen=True, slots=True)
class Mount:
    """One folder of this computer in the guest.

    :param source: absolute path here; links in it are followed when it is opened, not before.
    :param target: absolute path in the guest, without `..` or a slash at its end.
    :param kind: one of `KINDS`; "auto" is decided at each start, see `hostvm.shares.choose`.
    :param leads_to: where a link led that is on the way to `source` in another share, when the user named it; "" where
        there was none. See `hostvm.shares.sources`.
    """

    source: str
    target: str
    readonly: bool = False
    kind: str = "auto"
    leads_to: str = field(default="", compare=False)

    def text(self) -> str:
        """SRC:DST[:ro], as `--mount` reads it."""
        return f"{self.source}:{self.target}" + (":ro" if self.readonly else "")


def default_mounts() -> tuple[Mount, ...]:
    """The user's home folder, read-write at the same path: what a machine shares unless told otherwise.

    None when the user has no home of their own (`/`, or a system folder).
    """
    try:
        return (make_mount(str(Path.home())),)
    except (ValueError, RuntimeError):
        return ()


def default_target(source: str) -> str:
    r"""Where a folder is in the guest unless told otherwise: at the same path.

    A Windows drive becomes a folder: `C:\Users\me` is `/c/Users/me`, as Docker Desktop has it.
    """
    drive, rest = os.path.splitdrive(source)
    letter = drive.rstrip(":\\/")
    path = rest.replace(os.sep, "/") if os.sep != "/" else rest
    if letter:
        return posixpath.normpath(f"/{letter.lower()}/{path.lstrip('/')}")
    return posixpath.normpath(path)


def make_mount(source: str, target: str = "", *, readonly: bool = False, kind: str = "auto") -> Mount:
    """A mount from the words a person wrote; `~` and relative sources are made absolute.

    :raises ValueError: with a reason that reads after the words.
    """
    if not source:
        raise ValueError("names no folder")
    if kind not in KINDS:
        raise ValueError(f"has an unknown kind '{kind}'; known ones are {', '.join(KINDS)}")
    origin = os.path.abspath(os.path.expanduser(source))  # noqa: PTH100, PTH111 - resolving links would change the path
    goal = target or default_target(origin)
    if not goal.startswith("/"):
        raise ValueError(f"has a target that is not absolute: {goal}")
    goal = "/" + posixpath.normpath(goal).lstrip("/")
    check_target(goal)
    for path in (origin, goal):
        if any(letter in path for letter in "\n\r\0"):
            raise ValueError("has a line end in its path, which a mount table cannot hold")
    return Mount(origin, goal, readonly, kind)


def check_target(target: str) -> None:
    """:raises ValueError: the guest itself lives there; the reason reads after the words."""
    if any(target.startswith(f"{folder}/") for folder in _EXCEPT):
        return
    if target in _WHOLE or _is_in(target, _SYSTEM):
        raise ValueError(f"would cover {target}, which the guest itself needs; choose another target: SRC:/some/where")


def _is_in(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def parse_mount(text: str) -> Mount:
    """SRC[:DST[:ro|rw]] of `--mount`. A Windows drive's colon belongs to SRC.

    :raises ValueError: with a reason that reads after the text.
    """
    drive, rest = os.path.splitdrive(text)
    source, *more = rest.split(":")
    readonly = False
    if more and more[-1] in ("ro", "rw"):
        readonly = more.pop() == "ro"
    if len(more) > 1:
        raise ValueError("is not SRC[:DST[:ro]]")
    return make_mount(drive + source, more[0] if more else "", readonly=readonly)


def option_mounts(words: list[str], besides: tuple[Mount, ...] | None = None) -> tuple[Mount, ...]:
    """What `--mount` options ask for: `besides` and theirs; `none` leaves the former out.

    :param besides: what a template shares; None: the home folder.
    :raises ValueError: with a reason that reads after the words.
    """
    mounts = default_mounts() if besides is None else besides
    if NONE in words:
        mounts = ()
    for word in words:
        if word == NONE:
            continue
        try:
            added = parse_mount(word)
        except ValueError as fault:
            raise ValueError(f"{word} {fault}") from None
        if why := check_source(added):
            raise ValueError(f"{word} cannot be shared: {why}")
        mounts = (*(mount for mount in mounts if mount.target != added.target), added)
    return check_mounts(mounts)


def check_mounts(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """The same mounts, those that others lie inside of first, so that they can be mounted in this order.

    :raises ValueError: two have the same target.
    """
    targets = [mount.target for mount in mounts]
    for mount in mounts:
        if targets.count(mount.target) > 1:
            raise ValueError(f"has {mount.target} twice; each needs a target of its own")
    return tuple(sorted(mounts, key=lambda mount: mount.target.split("/")))


def check_source(mount: Mount) -> str | None:
    """What is wrong with the folder on this computer; None when it can be shared."""
    try:
        with os.scandir(mount.source):
            pass
        os.stat(os.path.join(mount.source, "."))  # noqa: PTH116, PTH118 - pathlib leaves the dot out; may it be entered?
    except NotADirectoryError:
        return "it is not a folder"
    except FileNotFoundError:
        return "there is no such folder"
    except OSError as fault:
        return f"it cannot be read: {fault.strerror}"
    return None


def guest_path(mounts: Iterable[Mount], path: str) -> str | None:
    """Where an absolute path of this computer is in the guest; None when no share holds it.

    Of shares inside shares the deepest counts. Links are followed only when the path as written is not shared.
    """
    ordered = sorted(mounts, key=lambda mount: -len(mount.source))
    for spelled, sources in (
        (path, [mount.source for mount in ordered]),
        (os.path.realpath(path), [os.path.realpath(mount.source) for mount in ordered]),
    ):
        for mount, source in zip(ordered, sources, strict=True):
            if spelled == source:
                return mount.target
            inside = source.rstrip(os.sep) + os.sep
            if spelled.startswith(inside):
                return posixpath.join(mount.target, spelled[len(inside) :].replace(os.sep, "/"))
    return None
