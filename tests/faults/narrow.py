"""A file system of its own that can be filled to the last block, for HOSTVM_HOME and HOSTVM_CACHE."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from machines import eventually  # a helper of the e2e tests

KIB, MIB = 1 << 10, 1 << 20
SIZE = 3 << 30
"""Bytes that the file system may grow to; what holds it is sparse."""

_PIECES = (64 * MIB, MIB, 64 * KIB, 4 * KIB)
_RECORDS = ("state.json", "machine.yaml", "snapshot.json", "suspended.json", "registry.json")
_PASSING = ("console.log", "console.log.1", "agent.log", "provision.log", "boot.initramfs", "snapshots", ".lock")
"""What a start writes anew, what only logs, and empty folders and files that say nothing."""


class Narrow:
    """One that is mounted.

    `apart` is a place for another HOSTVM_CACHE.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.cache, self.apart = folder / "home", folder / "cache", folder / "apart"
        self._filler = folder / "filler"

    @property
    def free(self) -> int:
        """Bytes that anybody may still use."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_bsize

    def fill(self, left: int) -> None:
        """Take all room but `left` bytes, which are whole blocks."""
        self.empty()
        with self._filler.open("wb") as file:
            for piece in _PIECES:
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, piece)
            os.truncate(file.fileno(), os.fstat(file.fileno()).st_size - left)
            os.fsync(file.fileno())
        if not left:
            assert self._refuses(), f"{self.free} bytes are free"

    def _refuses(self) -> bool:
        """Whether not one more byte finds a place."""
        probe = self.folder / "probe"
        try:
            with probe.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 1)
        except OSError as fault:
            return fault.errno == errno.ENOSPC
        finally:
            probe.unlink(missing_ok=True)
        return False

    def empty(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)
        subprocess.run(["sync", "-f", self.folder], check=True)

    @contextlib.contextmanager
    def full(self, left: int):
        """It is, within the block."""
        self.fill(left)
        try:
            yield
        finally:
            self.empty()

    def there(self) -> dict[str, bytes]:
        """What hostvm keeps here: every name, and what is in those files that are records."""
        found = {}
        for place in (self.home / "machines", self.cache / "images", self.apart / "images"):
            for path in sorted(place.rglob("*")):
                if path.name not in _PASSING:
                    found[str(path.relative_to(self.folder))] = path.read_bytes() if path.name in _RECORDS else b""
        return found


@contextlib.contextmanager
def mounted():
    """Gives it; skips the test where none can be mounted.

    Not in a folder of pytest's: those are removed by other runs, with all that is mounted there.
    """
    folder = Path(tempfile.mkdtemp(prefix="hv-full-"))
    try:
        with _mounted(folder) as made:
            yield made
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _mounted(folder: Path):
    image, place = folder / "narrow.img", folder / "narrow"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as fault:
        pytest.skip(f"only root mounts a file, and only on Linux: {fault}")
    try:
        yield Narrow(place)
    finally:
        try:
            eventually(lambda: subprocess.run(["umount", place], check=False).returncode == 0, "it is unmounted", 20)
        except AssertionError:
            subprocess.run(["umount", "-l", place], check=False)  # whoever holds it is told of, not waited for
            raise
