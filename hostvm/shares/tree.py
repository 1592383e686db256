"""The files of one shared folder, reached so that nothing outside of it can be.

Paths are those of the share, `a/b/c`. On POSIX each folder on the way is opened from the one before without
following links (openat, O_NOFOLLOW), so neither `..`, nor a link to elsewhere, nor a folder that is swapped for a
link meanwhile leads out. Links are data: the guest's kernel follows them, in the guest.

Windows has no openat: there the resolved folder is compared with the share's, which a race could beat.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hostvm.platform.birth import birth_of
from hostvm.platform.unlinked import open_unlinked
from hostvm.shares.known import Known

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_POSIX = sys.platform != "win32"
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_ALWAYS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_ALWAYS |= getattr(os, "O_NONBLOCK", 0)  # a named pipe must not hold the server up
_OWNER = "user.hostvm.owner"
_SAME = 0xFFFFFFFF
"""A user or group that chown(2) is to leave as it is."""


@dataclass(frozen=True, slots=True)
class Place:
    """A name in an open folder. Without `folder` (Windows) the name is an absolute path."""

    folder: int | None
    name: str


class Seen(NamedTuple):
    """What is known of a file: stat, whose it is in the guest's eyes, and when it was made (ns; 0: not known)."""

    found: os.stat_result
    owner: tuple[int, int]
    birth: int


class Tree:
    """One shared folder. Every method raises OSError; none follows a link.

    What the guest sets as an owner is kept in an extended attribute and shown again, since the user may not give
    files away: a container's `chown` works, and the file stays the user's. Where it cannot be kept (no such
    attributes) it has no effect.

    :param readonly: every change is refused with EROFS.
    :param unlinked: its real path, where that has to be opened without following a link.
    """

    def __init__(self, source: str, *, readonly: bool = False, unlinked: str = "") -> None:
        self.source = source
        self.known = Known()
        self.readonly = readonly
        self._closing = threading.Lock()
        self._root = _open_root(source, unlinked) if _POSIX else None
        self._real = os.path.realpath(source)

    def close(self) -> None:
        """Let go of the folder. Idempotent."""
        with self._closing:
            root, self._root = self._root, None
            if root is not None:
                os.close(root)

    def is_current(self) -> bool:
        """Whether it is open, and its path still leads to the same folder."""
        with self._closing:
            try:
                if self._root is not None:
                    return os.path.samestat(os.fstat(self._root), Path(self.source).stat())
            except OSError:
                return False
            return not _POSIX and os.path.realpath(self.source) == self._real

    def outside(self, path: str) -> str:
        """What this computer calls it; for comparing, never for opening."""
        return os.path.join(self.source, *split(path))  # noqa: PTH118 - text throughout

    # ---- looking

    def stat(self, path: str) -> os.stat_result:
        """Of the thing itself, a link included."""
        with self._place(path) as place:
            return os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)

    def look(self, path: str) -> tuple[os.stat_result, tuple[int, int]]:
        """`stat` and `owner` at once."""
        with self._place(path) as place:
            found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            return found, _owner_of(place)

    def see(self, path: str) -> Seen:
        """All that can be known of it."""
        with self._place(path) as place:
            return _see(place)

    def see_open(self, descriptor: int) -> Seen:
        """The same of a file that is open, whatever its name is by now."""
        found = os.fstat(descriptor)
        try:
            owner = _get_owner(descriptor)
        except OSError:
            owner = (0, 0)
        return Seen(found, owner, birth_of("", descriptor))

    def entries(self, path: str) -> list[tuple[str, os.stat_result]]:
        """Names with what is known of each; what vanishes meanwhile is left out."""
        with self._folder(path) as folder:
            found = []
            with os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        found.append((entry.name, entry.stat(follow_symlinks=False)))
            return found

    def names(self, path: str) -> list[str]:
        """Names in a folder, in no order."""
        with self._folder(path) as folder:
            return os.listdir(folder)  # noqa: PTH208 - may be a descriptor

    def see_each(self, path: str, names: Iterable[str]) -> Iterator[tuple[str, Seen]]:
        """What `see` tells of some names in a folder, the folder opened once; those that vanished are left out."""
        with self._folder(path) as folder:
            for name in names:
                at = Place(folder, name) if isinstance(folder, int) else Place(None, os.path.join(folder, name))  # noqa: PTH118
                with contextlib.suppress(OSError):
                    yield name, _see(at)

    def walk(self) -> Iterator[tuple[str, list[tuple[str, Seen]]]]:
        """Every folder with what is in it, outer before inner; without other file systems and what cannot be read."""
        device = self.stat("").st_dev
        waiting = [""]
        while waiting:
            path = waiting.pop()
            with contextlib.suppress(OSError):
                found = [one for one in self.see_each(path, self.names(path)) if one[1].found.st_dev == device]
                yield path, found
                waiting += [f"{path}/{name}" for name, seen in found if stat.S_ISDIR(seen.found.st_mode)]

    def may(self, path: str, how: int) -> bool:
        """Whether this process may do that with a file: os.R_OK, os.W_OK. Its own it may; see `open_owned`."""
        if sys.platform == "win32":
            return True
        with self._place(path) as place:
            found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            if found.st_uid == os.geteuid() or not os.geteuid():
                return True
            return os.access(place.name, how, dir_fd=place.folder, effective_ids=os.access in os.supports_effective_ids)

    def readlink(self, path: str) -> str:
        """Where a link says that it leads."""
        with self._place(path) as place:
            return os.readlink(place.name, dir_fd=place.folder)

    def statvfs(self, path: str) -> os.statvfs_result:
        """Of the file system that holds it; POSIX only."""
        if sys.platform == "win32":
            raise OSError(errno.ENOSYS, "no statvfs")
        with self._folder(os.path.dirname(path)) as folder:  # noqa: PTH120 - not a path of this computer
            return os.fstatvfs(folder) if isinstance(folder, int) else os.statvfs(folder)

    # ---- opening

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        """A descriptor of a regular file; links, pipes and devices are refused.

        :param flags: those of `os.open`.
        """
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            self._check_writable()
        with self._place(path) as place:
            opened = os.open(place.name, flags | _ALWAYS, mode, dir_fd=place.folder)
        if stat.S_ISREG(os.fstat(opened).st_mode):
            return opened
        os.close(opened)
        raise OSError(errno.EACCES, "not a regular file")

    def open_owned(self, path: str, flags: int) -> int:
        """`open` of a file that exists, for writing, even where its mode forbids that and it is the user's own.

        Whoever opened a file before its mode was changed may go on writing to it.
        """
        with contextlib.suppress(PermissionError):
            return self.open(path, flags)
        self._check_writable()
        with self._place(path) as place, _pinned(place) as name:
            mode = stat.S_IMODE(os.stat(name).st_mode)  # noqa: PTH116 - may be a descriptor
            os.chmod(name, mode | stat.S_IWUSR | stat.S_IRUSR)  # noqa: PTH101
            try:
                return self.open(path, flags)
            finally:
                os.chmod(name, mode)  # noqa: PTH101

    # ---- changing

    def mkdir(self, path: str, mode: int) -> None:
        """Make a folder."""
        with self._change(path) as place:
            if sys.platform == "win32":
                Path(place.name).mkdir(mode)
                return
            os.mkdir(place.name, 0o700, dir_fd=place.folder)
            made = os.open(place.name, _FOLDER, dir_fd=place.folder)  # a link that has the name by now is not followed
            try:
                with contextlib.suppress(OSError):  # a file system without modes
                    os.fchmod(made, mode)
            finally:
                os.close(made)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        with self._change(path) as place:
            os.rmdir(place.name, dir_fd=place.folder)

    def unlink(self, path: str) -> None:
        """Remove a file or link."""
        with self._change(path) as place:
            os.unlink(place.name, dir_fd=place.folder)

    def rename(self, old: str, new: str) -> None:
        """Give it another name, in place of what has that name already."""
        with self._change(old) as source, self._change(new) as target:
            os.replace(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder)

    def symlink(self, text: str, path: str) -> None:
        """A link that says `text`, whatever that is: it is never followed here."""
        with self._change(path) as place:
            os.symlink(text, place.name, dir_fd=place.folder)

    def chmod(self, path: str, mode: int) -> None:
        """Permission bits of a file or folder."""
        with self._change(path) as place, _pinned(place) as name:
            os.chmod(name, mode & 0o7777)  # noqa: PTH101 - may be a descriptor

    def utime(self, path: str, times: tuple[int, int]) -> None:
        """Access and modification time, seconds; a time to the second that it has already keeps its fraction."""
        with self._change(path) as place:
            found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            same = found.st_mtime_ns // 10**9 == times[1]
            exact = (times[0] * 10**9, found.st_mtime_ns if same else times[1] * 10**9)
            if _POSIX:
                os.utime(place.name, ns=exact, dir_fd=place.folder, follow_symlinks=False)
            else:
                os.utime(place.name, ns=exact)

    def set_times(self, path: str, accessed: int | None, modified: int | None) -> None:
        """Access and modification time, nanoseconds; None: as it is."""
        with self._change(path) as place:
            found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            times = (
                found.st_atime_ns if accessed is None else accessed,
                found.st_mtime_ns if modified is None else modified,
            )
            if _POSIX:
                os.utime(place.name, ns=times, dir_fd=place.folder, follow_symlinks=False)
            else:
                os.utime(place.name, ns=times)

    def set_open(
        self, descriptor: int, *, mode: int | None, owner: tuple[int, int] | None, times: tuple[int, int] | None
    ) -> None:
        """Mode, owner and times (ns) of a file that is open, where its name is another's by now; None: as they are."""
        self._check_writable()
        if owner is not None and sys.platform == "linux":
            with contextlib.suppress(OSError):  # the file system keeps no attributes
                os.setxattr(descriptor, _OWNER, b"%d:%d" % owner)
        if mode is not None and hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode & 0o7777)
        if times is not None and os.utime in os.supports_fd:
            os.utime(descriptor, ns=times)

    def link(self, path: str, new: str) -> None:
        """A second name for a file."""
        with self._change(path) as source, self._change(new) as target:
            os.link(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder, follow_symlinks=False)

    def make_special(self, path: str, kind: int, mode: int) -> None:
        """A named pipe or a socket's name; what these do happens in the guest.

        :param kind: stat.S_IFIFO or stat.S_IFSOCK.
        """
        if sys.platform == "win32" or (sys.platform != "linux" and kind != stat.S_IFIFO):
            raise OSError(errno.EOPNOTSUPP, "this computer does not make such files")
        with self._change(path) as place:
            if kind == stat.S_IFIFO:
                os.mkfifo(place.name, 0o600, dir_fd=place.folder)
            else:
                os.mknod(place.name, kind | 0o600, dir_fd=place.folder)
        self.chmod(path, mode)  # whatever this process's umask is

    def truncate(self, path: str, size: int) -> None:
        """Cut or extend a file."""
        opened = self.open(path, os.O_WRONLY)
        try:
            os.ftruncate(opened, size)
        finally:
            os.close(opened)

    def chown(self, path: str, owner: tuple[int, int]) -> None:
        """Remember whose the guest wants it to be; see the class."""
        with self._change(path) as place:
            if stat.S_ISLNK(os.stat(place.name, dir_fd=place.folder, follow_symlinks=False).st_mode):
                return
            before = _owner_of(place)
            user, group = (old if new == _SAME else new for old, new in zip(before, owner, strict=True))
            _set_owner(place, (user, group))

    def owner(self, path: str) -> tuple[int, int]:
        """Whose it is in the guest's eyes: what was set there, else root's."""
        if sys.platform != "linux":
            return (0, 0)
        try:
            with self._place(path) as place:
                return _owner_of(place)
        except OSError:
            return (0, 0)

    # ---- the way there

    def _check_writable(self) -> None:
        if self.readonly:
            raise OSError(errno.EROFS, "the share is read-only")

    @contextlib.contextmanager
    def _change(self, path: str) -> Iterator[Place]:
        self._check_writable()
        with self._place(path) as place:
            yield place

    @contextlib.contextmanager
    def _place(self, path: str) -> Iterator[Place]:
        """The folder that holds the last name; the share itself is `.` in itself."""
        names = split(path)
        last = names.pop() if names else "."
        if not _POSIX:
            yield Place(None, self._windows_path([*names, last]))
            return
        with self._walk(names) as folder:
            yield Place(folder, last)

    @contextlib.contextmanager
    def _folder(self, path: str) -> Iterator[int | str]:
        if not _POSIX:
            yield self._windows_path(split(path))
            return
        with self._walk(split(path)) as folder:
            yield folder

    @contextlib.contextmanager
    def _walk(self, names: list[str]) -> Iterator[int]:
        with self._closing:  # or the number could be another file's by the time that it is used
            if self._root is None:
                raise OSError(errno.ENODEV, "the share is closed")
            current = os.dup(self._root)
        try:
            for name in names:
                inner = os.open(name, _FOLDER, dir_fd=current)
                os.close(current)
                current = inner
            yield current
        finally:
            os.close(current)

    def _windows_path(self, names: list[str]) -> str:
        if any(letter in name for name in names for letter in '\\/:*?"<>|'):
            raise OSError(errno.EINVAL, "a name that Windows cannot hold")
        path = os.path.join(self._real, *(name for name in names if name != "."))  # noqa: PTH118 - text throughout
        folder = os.path.realpath(os.path.dirname(path)) if names else self._real  # noqa: PTH120 - see above
        if os.path.commonpath([folder, self._real]) != self._real and path != self._real:
            raise OSError(errno.EACCES, "outside the share")
        return path


def _open_root(source: str, unlinked: str) -> int:
    return open_unlinked(unlinked) if unlinked else os.open(source, _FOLDER & ~getattr(os, "O_NOFOLLOW", 0))


def split(path: str) -> list[str]:
    """A path's names. OSError for one that names a way up, which the guest's kernel never sends."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise OSError(errno.EACCES, "a way out of the share")
    if any("\0" in name for name in names):
        raise OSError(errno.EINVAL, "a zero byte in a name")
    return names


@contextlib.contextmanager
def _pinned(place: Place) -> Iterator[int | str]:
    """A file or folder by something that cannot become a link meanwhile; unreadable ones too where that is possible."""
    if place.folder is None:
        yield place.name
        return
    path_only = getattr(os, "O_PATH", 0)
    opened = os.open(place.name, (path_only or os.O_RDONLY) | _ALWAYS, dir_fd=place.folder)
    try:
        if stat.S_ISLNK(os.fstat(opened).st_mode):
            raise OSError(errno.EOPNOTSUPP, "a link has no mode of its own")
        yield f"/proc/self/fd/{opened}" if path_only else opened
    finally:
        os.close(opened)


def _set_owner(place: Place, owner: tuple[int, int]) -> None:
    if sys.platform != "linux":
        return
    path = f"/proc/self/fd/{place.folder}/{place.name}"
    with contextlib.suppress(OSError):  # the file system keeps no attributes
        if owner == (0, 0):
            os.removexattr(path, _OWNER, follow_symlinks=False)
        else:
            os.setxattr(path, _OWNER, b"%d:%d" % owner, follow_symlinks=False)


def _see(place: Place) -> Seen:
    found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    return Seen(found, _owner_of(place), birth_of(place.name, place.folder))


def _owner_of(place: Place) -> tuple[int, int]:
    if sys.platform != "linux":
        return (0, 0)
    try:
        return _get_owner(f"/proc/self/fd/{place.folder}/{place.name}")
    except OSError:
        return (0, 0)


def _get_owner(path: str | int) -> tuple[int, int]:
    """The owner that was set; root otherwise.

    :raises OSError: there is none.
    """
    if sys.platform != "linux":
        return (0, 0)
    value = os.getxattr(path, _OWNER) if isinstance(path, int) else os.getxattr(path, _OWNER, follow_symlinks=False)
    user, _, group = value.partition(b":")
    owner = (int(user), int(group)) if user.isdigit() and group.isdigit() else (0, 0)
    return owner if max(owner) < _SAME else (0, 0)
