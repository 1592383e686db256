"""`emulate:` of machine.yaml: programs of which other architectures a machine's containers may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.config.kinds import Either
from hostvm.errors import MachineError
from images.faults import shown
from images.foreign import FOREIGN

if TYPE_CHECKING:
    from collections.abc import Sequence

AUTO = ("auto",)
"""The other one of amd64 and arm64, its emulator fetched when it is first wanted."""

_OTHER = {"amd64": ("arm64",), "arm64": ("amd64",)}
_NATIVE = {"amd64": ("amd64", "386"), "arm64": ("arm64",)}
_ALIASES = {"aarch64": "arm64", "x86_64": "amd64", "x86-64": "amd64", "armhf": "arm", "armel": "arm", "i386": "386"}


def platform_arch(platform: str) -> str:
    """The architecture in a platform's name, without system and variant: linux/arm/v7 is arm."""
    words = [word for word in platform.strip().lower().split("/") if word]
    if words[:1] == ["linux"]:
        words = words[1:]
    first = words[0] if words else ""
    return _ALIASES.get(first, first)


def _read(value: object) -> tuple[str, ...]:
    if value == AUTO[0]:
        return AUTO
    entries = str(value).split(",") if isinstance(value, str | int) and not isinstance(value, bool) else value
    if not isinstance(entries, list):
        raise ValueError("must be auto, or a list of architectures")  # noqa: TRY004 - as `Either` wants it
    found = {platform_arch(str(entry)): entry for entry in entries}
    for name, entry in found.items():
        if name not in FOREIGN:
            raise ValueError(f"names {shown(entry)}; there are emulators of {', '.join(FOREIGN)}")
    return tuple(sorted(found))


EMULATE = Either(
    _read,
    "`auto`, or list of " + ", ".join(f"`{name}`" for name in FOREIGN),
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "integer"]}}]},
)


def render_emulate(wanted: Sequence[str]) -> object:
    """What `EMULATE` reads back."""
    return AUTO[0] if tuple(wanted) == AUTO else list(wanted)


def emulated(wanted: Sequence[str], arch: str) -> tuple[str, ...]:
    """The architectures that a guest of `arch` is to emulate."""
    named = _OTHER[arch] if tuple(wanted) == AUTO else wanted
    return tuple(name for name in named if name not in _NATIVE[arch])


def is_native(name: str, arch: str) -> bool:
    """Whether a guest of `arch` runs its programs by itself."""
    return name in _NATIVE[arch]


def seed_emulators(wanted: Sequence[str], arch: str) -> dict[str, bytes]:
    """The guest's seed: the architectures to register, one a line."""
    names = emulated(wanted, arch)
    return {"emulate": "".join(f"{name}\n" for name in names).encode()} if names else {}


def not_emulated(machine: str, name: str, platform: str, wanted: Sequence[str], arch: str) -> MachineError:
    """The error for a container of an architecture that this machine does not run."""
    have = ", ".join(emulated(wanted, arch)) or "none"
    if name not in FOREIGN:
        return MachineError(
            f"machine {machine} does not run containers of {platform}",
            f"there are emulators of {', '.join(FOREIGN)}",
            "name another platform, for example --platform linux/arm64",
        )
    words = ",".join(dict.fromkeys([*emulated(wanted, arch), name]))
    return MachineError(
        f"machine {machine} does not run containers of {platform}",
        f"`emulate` in its machine.yaml means: {have}",
        f"add it, then try again: hostvm set {machine} emulate={words}",
    )
