"""What probes found, kept for as long as nothing they depended on has changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostvm.process_id import linux_boot

if TYPE_CHECKING:
    from hostvm.qemu_binary import QemuBinary

CACHE_FILE = "accel.json"
_KEPT = 32


class ProbeCache:
    """A small JSON file: key -> why the accelerator does not work ("" when it does).

    Losing it costs one probe; so a damaged or unwritable file is not an error, and writers need no lock.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CACHE_FILE

    def get(self, key: str) -> str | None:
        """The finding; None when there is none."""
        found = self._load().get(key)
        return found if isinstance(found, str) else None

    def put(self, key: str, finding: str) -> None:
        """Keep a finding; the oldest ones go."""
        entries = self._load()
        entries.pop(key, None)
        entries[key] = finding
        kept = dict(list(entries.items())[-_KEPT:])
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".accel-")
            with os.fdopen(descriptor, "w") as file:
                json.dump(kept, file, indent=1)
            Path(name).replace(self._path)

    def _load(self) -> dict[str, Any]:
        try:
            entries = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}


def probe_key(accel: str, qemu: QemuBinary, kernel: Path) -> str:
    """Everything a probe's result depends on: QEMU, kernel, this boot of the host, the right to use the device."""
    parts = [accel, qemu.arch, str(qemu.path), qemu.version_text, _stamp(qemu.path), _digest(kernel), host_boot()]
    if sys.platform == "linux":
        parts.append(str(os.access("/dev/kvm", os.R_OK | os.W_OK)))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def host_boot() -> str:
    """Names this boot of the host."""
    if boot := linux_boot():
        return boot
    import psutil

    return str(round(psutil.boot_time(), -2))  # it wanders by seconds when the clock is set


def _digest(path: Path) -> str:
    """By content: a builder guest's kernel lies elsewhere each time; 12 MB take 10 ms."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"
