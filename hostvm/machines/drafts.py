"""What killed commands leave of machines, snapshots, disks and files that were not to have their names before whole.

All of them are made under their machine's lock, which the system takes from who dies: whoever has it knows that nobody
makes them any more.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from hostvm import paths as places
from hostvm.disks import UNFINISHED
from hostvm.errors import HostvmError
from hostvm.locks import machine_lock
from hostvm.paths import MachinePaths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIX = ".new"

_LOCKED = (
    places.MACHINE_YAML,
    places.STATE_JSON,
    places.BOOT_INITRAMFS,
    places.SUSPENDED_JSON,
    places.REGISTRY_JSON,
    places.REGISTRY_CA,
)
_AGENTS = (places.SHARES_BEFORE, places.CONSOLE_LOG_BEFORE)
"""Files that an agent writes, which holds no lock."""

_RUN = (
    places.AGENT_JSON,
    places.BOOTED_YAML,
    places.DOMAIN_JSON,
    places.SHARES_JSON,
    places.SHARE_SERVER_JSON,
)


def draft_of(path: Path) -> Path:
    """Where a machine's or a snapshot's folder is made."""
    return path.with_name(f".{path.name}{SUFFIX}")


def sweep_drafts(*held: MachinePaths) -> None:
    """Delete what commands that are gone left half made, of any machine. What is being made now stays.

    Best effort: what cannot be deleted is left to the next one. Waits for nobody.

    :param held: machines whose locks the caller holds.
    """
    own = {paths.name for paths in held}
    found: dict[str, list[Path]] = {}
    for name, draft in _all_drafts(places.home() / "machines"):
        found.setdefault(name, []).append(draft)
    for name, drafts in found.items():
        if name in own:
            _delete(drafts)
            continue
        with suppress(HostvmError, OSError), machine_lock(_of(name), timeout=0.0):
            _delete(drafts)


def clear_drafts(paths: MachinePaths) -> None:
    """Delete what starts and agents of before left half written of a machine. It has no agent, and its lock is held."""
    _delete([*_files_in(paths.folder, _LOCKED + _AGENTS), *_files_in(paths.run_dir, _RUN)])


def _all_drafts(machines: Path) -> Iterator[tuple[str, Path]]:
    """Each draft, and the name of the machine whose lock its maker held."""
    for folder in machines.glob("*"):
        name = folder.name.removeprefix(".")  # those that ephemeral ones begin from are hidden
        if folder.name.startswith(".") and name.endswith(SUFFIX):
            yield name.removeprefix(".").removesuffix(SUFFIX), folder
        elif places.is_name(name) and folder.name != places.LAYERS:
            drafts = [*_files_in(folder, _LOCKED), *(folder / places.SNAPSHOTS).glob(f".*{SUFFIX}")]
            yield from ((name, draft) for draft in drafts)


def _files_in(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Half made disks, and what `write_atomic` writes beside files of these names."""
    beside = re.compile(rf"\.(?:{'|'.join(map(re.escape, names))})\.[a-z0-9_]{{8}}")
    for one in folder.glob(".*"):
        if one.name.startswith(UNFINISHED) or beside.fullmatch(one.name):
            yield one


def _of(name: str) -> MachinePaths:
    return MachinePaths(name, places.home() / "machines" / name, places.run() / name)


def _delete(drafts: list[Path]) -> None:
    for draft in drafts:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            with suppress(OSError):
                draft.unlink()
