"""`provision:` of machine.yaml: scripts that a start runs in the guest, carried there in its seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hostvm.config.kinds import Choice, Key, Keys, ListOf, Text
from hostvm.errors import SpecError
from hostvm.files import user_path
from hostvm.platform.words import show_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM, USER = "system", "user"
BOOT, ONCE = "boot", "once"
SECONDS_MOST = 900.0
"""That one script may take."""

_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Script:
    """One script; either its text or the file of this computer that holds it.

    :param mode: `system`: before the engine starts; `user`: when it answers.
    :param when: `boot`: at each start; `once`: until it ended well with this very text.
    """

    script: str = ""
    file: str = ""
    mode: str = SYSTEM
    when: str = BOOT


def _make(found: dict[str, Any]) -> Script:
    if ("script" in found) == ("file" in found):
        raise ValueError("needs either script or file")
    return Script(**found)


def _read_script(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    if "\0" in text:
        raise ValueError("holds a zero byte")
    return text


def _read_file(text: str) -> str:
    if "\0" in text or not user_path(text).is_absolute():
        raise ValueError("must be the absolute path of a file; `~` is the home folder")
    return text


class Scripts(ListOf):
    """The kind of `provision:`."""

    def __init__(self) -> None:
        super().__init__(_SCRIPT, "scripts")

    def read(self, value: object) -> tuple[Script, ...]:  # type: ignore[override]
        """See `Kind.read`."""
        return tuple(super().read(value))


_SCRIPT = Keys(
    {
        "script": Key(Text(_read_script), "its text; run by what its first line names (`#!`), else by `sh`"),
        "file": Key(
            Text(_read_file, "absolute path"), "instead of `script`: a file of this computer, read at each start"
        ),
        "mode": Key(
            Choice((SYSTEM, USER)),
            "`system`: before the engine starts; `user`: in the home folder, when the engine answers",
            default=SYSTEM,
        ),
        "when": Key(
            Choice((BOOT, ONCE)),
            "`boot`: at each start; `once`: at the first one, and again when it failed or its text is another",
            default=BOOT,
        ),
    },
    make=_make,
)


def render_scripts(scripts: Sequence[Script]) -> list[dict[str, object]]:
    """For machine.yaml; what is as by default is left out."""
    usual = asdict(Script())
    return [{key: value for key, value in asdict(one).items() if value != usual[key]} for one in scripts]


def seed_scripts(scripts: Sequence[Script]) -> dict[str, bytes]:
    """Files of the guest's seed: each script by its number, and a table with a line for each: MODE WHEN DIGEST.

    :raises SpecError: a file cannot be read, or is too large.
    """
    texts = [_text(number, one) for number, one in enumerate(scripts)]
    if not texts:
        return {}
    import hashlib  # 2 ms of whoever only reads machine.yaml

    files = {f"provision/{number}": text for number, text in enumerate(texts)}
    rows = [
        f"{one.mode} {one.when} {hashlib.sha256(text).hexdigest()}\n" for one, text in zip(scripts, texts, strict=True)
    ]
    return {**files, "provision/table": "".join(rows).encode()}


def _text(number: int, one: Script) -> bytes:
    if one.script:
        return one.script.encode("utf-8", "surrogateescape")
    path = user_path(one.file)
    try:
        text = path.read_bytes()
    except OSError as fault:
        raise SpecError(
            f"provision[{number}].file: {path} cannot be read", fault.strerror, show_folder(str(path.parent))
        ) from fault
    if len(text) > _LARGEST:
        raise SpecError(
            f"provision[{number}].file: {path} is larger than 1 MiB",
            "scripts travel in the guest's initramfs",
            "let the script fetch what is large, or share its folder: hostvm mount add",
        )
    return text
