"""The files of one shared folder, reached by `hostvm.shares.open_folder` alone.

Paths are those of the share, `a/b/c`. Links are data: the guest's kernel follows them, in the guest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hostvm.platform.birth import birth_of
from hostvm.shares.known import Known
from hostvm.shares.open_folder import ALWAYS, FOLDER, POSIX, OpenFolder, Place, pinned, refuse_link, split
from hostvm.shares.owners import SAME, owner_of, owner_of_open, set_owner, set_owner_of_open
from hostvm.shares.protected import removable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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
        self._inside = os.path.join(source, "")  # noqa: PTH118 - text throughout
        self.known = Known()
        self.readonly = readonly
        self.heeds_modes = True
        """Whether names in a folder of the user's own are left alone where its mode says so: where it is not known who
        asks. By NFS the guest's kernel has asked for rights before, for all but root."""

        self._root = OpenFolder(source, unlinked)

    def close(self) -> None:
        """Let go of the folder. Idempotent."""
        self._root.close()

    def hold(self) -> None:
        """Until `let_go` this thread opens each folder once; see `OpenFolder.hold`."""
        self._root.hold()

    def let_go(self) -> None:
        """See `hold`. Idempotent."""
        self._root.let_go()

    def is_current(self) -> bool:
        """Whether it is open, and its path still leads to the same folder."""
        return self._root.is_current()

    def outside(self, path: str) -> str:
        """What this computer calls it; for comparing, never for opening."""
        names = split(path)
        return self._inside + os.sep.join(names) if names else self.source  # noqa: PTH118 - as above

    # ---- looking

    def stat(self, path: str) -> os.stat_result:
        """Of the thing itself, a link included."""
        with self._root.place(path) as place:
            return os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)

    def look(self, path: str) -> tuple[os.stat_result, tuple[int, int]]:
        """`stat` and `owner` at once."""
        with self._root.place(path) as place:
            found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            return found, owner_of(place)

    def see(self, path: str) -> Seen:
        """All that can be known of it."""
        if (held := self._root.held(path)) is not None:
            return _see(held)
        with self._root.place(path) as place:
            return _see(place)

    def see_open(self, descriptor: int) -> Seen:
        """The same of a file that is open, whatever its name is by now."""
        found = os.fstat(descriptor)
        return Seen(found, owner_of_open(descriptor), birth_of("", descriptor))

    def look_open(self, descriptor: int) -> Seen:
        """`see_open` of a file that need not be told from another: when it was made is not looked for."""
        return Seen(os.fstat(descriptor), owner_of_open(descriptor), 0)

    def entries(self, path: str) -> list[tuple[str, os.stat_result]]:
        """Names with what is known of each; what vanishes meanwhile is left out."""
        with self._root.folder(path) as folder:
            found = []
            with os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        found.append((entry.name, entry.stat(follow_symlinks=False)))
            return found

    def names(self, path: str) -> list[str]:
        """Names in a folder, in no order."""
        with self._root.folder(path) as folder:
            return os.listdir(folder)  # noqa: PTH208 - may be a descriptor

    def see_each(self, path: str, names: Iterable[str]) -> Iterator[tuple[str, Seen]]:
        """What `see` tells of some names in a folder, the folder opened once; those that vanished are left out."""
        with self._root.folder(path) as folder:
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

    def may(self, path: str, how: int, found: os.stat_result) -> bool:
        """Whether this process may do that with a file: os.R_OK, os.W_OK. Its own it may; see `open_owned`.

        :param found: what was found there.
        """
        if sys.platform == "win32" or os.geteuid() in (0, found.st_uid):
            return True
        with self._root.place(path) as place:
            return os.access(place.name, how, dir_fd=place.folder, effective_ids=os.access in os.supports_effective_ids)

    def readlink(self, path: str) -> str:
        """Where a link says that it leads."""
        with self._root.place(path) as place:
            return os.readlink(place.name, dir_fd=place.folder)

    def statvfs(self, path: str) -> os.statvfs_result:
        """Of the file system that holds it; POSIX only."""
        if sys.platform == "win32":
            raise OSError(errno.ENOSYS, "no statvfs")
        with self._root.folder(os.path.dirname(path)) as folder:  # noqa: PTH120 - not a path of this computer
            return os.fstatvfs(folder) if isinstance(folder, int) else os.statvfs(folder)

    # ---- opening

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        """A descriptor of a regular file; links, pipes and devices are refused.

        :param flags: those of `os.open`.
        """
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            self._check_writable()
        with self._naming(path) if flags & os.O_CREAT else self._root.place(path) as place:
            refuse_link(place)
            opened = os.open(place.name, flags | ALWAYS, mode, dir_fd=place.folder)
        if stat.S_ISREG(os.fstat(opened).st_mode):
            return opened
        os.close(opened)
        raise OSError(errno.EACCES, "not a regular file")

    def open_owned(self, path: str, flags: int) -> int:
        """`open` of a file that exists, even where its mode forbids that and it is the user's own.

        Whoever opened a file before its mode was changed may go on with it, and root in the guest asks no mode.
        """
        try:
            return self.open(path, flags)
        except PermissionError as refused:
            if self.readonly:
                raise
            with self._root.place(path) as place, pinned(place) as name:
                mode = stat.S_IMODE(os.stat(name).st_mode)  # noqa: PTH116 - may be a descriptor
                wanted = mode | stat.S_IRUSR | (stat.S_IWUSR if flags & (os.O_WRONLY | os.O_RDWR) else 0)
                if wanted == mode:
                    raise
                try:
                    os.chmod(name, wanted)  # noqa: PTH101
                except OSError:
                    raise refused from None  # it is another user's
                try:
                    return self.open(path, flags)
                finally:
                    os.chmod(name, mode)  # noqa: PTH101

    def hold_file(self, path: str) -> int | None:
        """A descriptor by which nothing can be done, of what is there: it is not freed until that is closed. Linux."""
        if sys.platform != "linux":
            return None
        with self._root.place(path) as place:
            return os.open(place.name, os.O_PATH | ALWAYS, dir_fd=place.folder)

    # ---- changing

    def mkdir(self, path: str, mode: int) -> None:
        """Make a folder."""
        with self._naming(path) as place:
            if sys.platform == "win32":
                Path(place.name).mkdir(mode)
                return
            os.mkdir(place.name, 0o700, dir_fd=place.folder)
            made = os.open(place.name, FOLDER, dir_fd=place.folder)  # a link that has the name by now is not followed
            try:
                with contextlib.suppress(OSError):  # a file system without modes
                    os.fchmod(made, mode)
            finally:
                os.close(made)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        with self._naming(path) as place, removable(place):
            os.rmdir(place.name, dir_fd=place.folder)

    def unlink(self, path: str) -> None:
        """Remove a file or link."""
        with self._naming(path) as place, removable(place):
            os.unlink(place.name, dir_fd=place.folder)

    def rename(self, old: str, new: str) -> None:
        """Give it another name, in place of what has that name already."""
        with self._naming(old) as source, self._naming(new) as target, removable(target):
            os.replace(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder)

    def symlink(self, text: str, path: str) -> None:
        """A link that says `text`, whatever that is: it is never followed here."""
        with self._naming(path) as place:
            os.symlink(text, place.name, dir_fd=place.folder)

    def chmod(self, path: str, mode: int) -> None:
        """Permission bits of a file or folder."""
        with self._change(path) as place, pinned(place) as name:
            os.chmod(name, mode & 0o7777)  # noqa: PTH101 - may be a descriptor

    def utime(self, path: str, times: tuple[int, int]) -> None:
        """Access and modification time, seconds; a time to the second that it has already keeps its fraction."""
        with self._change(path) as place:
            found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            same = found.st_mtime_ns // 10**9 == times[1]
            exact = (times[0] * 10**9, found.st_mtime_ns if same else times[1] * 10**9)
            if POSIX:
                os.utime(place.name, ns=exact, dir_fd=place.folder, follow_symlinks=False)
            else:
                refuse_link(place)
                os.utime(place.name, ns=exact)

    def set_times(self, path: str, accessed: int | None, modified: int | None) -> None:
        """Access and modification time, nanoseconds; None: as it is."""
        with self._change(path) as place:
            found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            times = (
                found.st_atime_ns if accessed is None else accessed,
                found.st_mtime_ns if modified is None else modified,
            )
            if POSIX:
                os.utime(place.name, ns=times, dir_fd=place.folder, follow_symlinks=False)
            else:
                refuse_link(place)
                os.utime(place.name, ns=times)

    def set_open(
        self, descriptor: int, *, mode: int | None, owner: tuple[int, int] | None, times: tuple[int, int] | None
    ) -> None:
        """Mode, owner and times (ns) of a file that is open, where its name is another's by now; None: as they are."""
        self._check_writable()
        if owner is not None:
            set_owner_of_open(descriptor, owner)
        if mode is not None and hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode & 0o7777)
        if times is not None and os.utime in os.supports_fd:
            os.utime(descriptor, ns=times)

    def link(self, path: str, new: str) -> None:
        """A second name for a file."""
        with self._change(path) as source, self._naming(new) as target:
            os.link(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder, follow_symlinks=False)

    def make_special(self, path: str, kind: int, mode: int) -> None:
        """A named pipe or a socket's name; what these do happens in the guest.

        :param kind: stat.S_IFIFO or stat.S_IFSOCK.
        """
        if sys.platform == "win32" or (sys.platform != "linux" and kind != stat.S_IFIFO):
            raise OSError(errno.EOPNOTSUPP, "this computer does not make such files")
        with self._naming(path) as place:
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
            before = owner_of(place)
            user, group = (old if new == SAME else new for old, new in zip(before, owner, strict=True))
            set_owner(place, (user, group))

    def owner(self, path: str) -> tuple[int, int]:
        """Whose it is in the guest's eyes: what was set there, else root's."""
        if sys.platform != "linux":
            return (0, 0)
        try:
            with self._root.place(path) as place:
                return owner_of(place)
        except OSError:
            return (0, 0)

    def _check_writable(self) -> None:
        if self.readonly:
            raise OSError(errno.EROFS, "the share is read-only")

    @contextlib.contextmanager
    def _change(self, path: str) -> Iterator[Place]:
        self._check_writable()
        with self._root.place(path) as place:
            yield place

    @contextlib.contextmanager
    def _naming(self, path: str) -> Iterator[Place]:
        """For a change of what is in a folder."""
        with self._change(path) as place:
            if self.heeds_modes or place.folder is None:
                yield place
                return
            with _may_change(place.folder):
                yield place


@contextlib.contextmanager
def _may_change(folder: int) -> Iterator[None]:
    """For the block, names in it may be changed where it is the user's own, whatever its mode."""
    found, wanted = os.fstat(folder), stat.S_IWUSR | stat.S_IXUSR
    if sys.platform == "win32" or found.st_mode & wanted == wanted or os.geteuid() != found.st_uid:
        yield
        return
    mode = stat.S_IMODE(found.st_mode)
    os.fchmod(folder, mode | wanted)
    try:
        yield
    finally:
        os.fchmod(folder, mode)


def _see(place: Place) -> Seen:
    found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    return Seen(found, owner_of(place), birth_of(place.name, place.folder))
