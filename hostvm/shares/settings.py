"""The key `mounts:` of machine.yaml: what it may hold, and how it is written."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hostvm.config.kinds import Bool, Choice, Either, Key, Keys, Text, WrongValueError
from hostvm.shares.model import (
    KINDS,
    Mount,
    check_mounts,
    check_target,
    default_target,
    make_mount,
    parse_mount,
)
from images.faults import Fault

if TYPE_CHECKING:
    from hostvm.config.kinds import Kind


def _mount_of_words(facts: dict[str, Any]) -> Mount:
    mount = make_mount(
        facts["source"],
        facts.get("target", ""),
        readonly=facts.get("readonly", False),
        kind=facts.get("kind", "auto"),
    )
    return replace(mount, leads_to=facts.get("leads_to", ""))


def _read_path(text: str) -> str:
    if not text:
        raise ValueError("names no folder")
    if any(letter in text for letter in "\n\r\0"):
        raise ValueError("has a line end, which a mount table cannot hold")
    return text


def _read_target(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("is not absolute")
    check_target("/" + posixpath.normpath(text).lstrip("/"))
    return _read_path(text)


_MAPPING = Keys(
    {
        "source": Key(Text(_read_path), "folder of this computer; `~` is the home folder", required=True),
        "target": Key(
            Text(_read_target, "absolute path"), "where it is in the guest", default="the same path as `source`"
        ),
        "readonly": Key(Bool(), "whether the guest may only read", default="false"),
        "kind": Key(Choice(KINDS), "how it is shared; `auto` is nfs", default="auto"),
        "leads_to": Key(
            Text(_read_path),
            "where `source` led when it was shared, through a link in another share; written by `hostvm mount add`",
            default="",
        ),
    },
    make=_mount_of_words,
)
_WORDS = Either(lambda words: parse_mount(str(words)), "`SRC[:DST[:ro]]`", {"type": "string"})


class Mounts:
    """The kind of `mounts:`; also takes mounts that were read before, from options."""

    words = "list of folders: `SRC[:DST[:ro]]` or a mapping, see below"
    keys = _MAPPING.keys

    def read(self, value: object) -> tuple[Mount, ...]:
        """The mounts in the order in which they can be mounted."""
        if value is None:
            return ()
        if isinstance(value, tuple) and all(isinstance(entry, Mount) for entry in value):
            return self._in_order(value)
        if not isinstance(value, list):
            raise WrongValueError.of(value, "must be a list of folders")
        mounts: list[Mount] = []
        faults: list[Fault] = []
        for number, entry in enumerate(value):
            try:
                kind: Kind = _WORDS if isinstance(entry, str) else _MAPPING
                mount: Mount = kind.read(entry)
            except WrongValueError as wrong:
                faults += wrong.below(number)
                continue
            if any(mount.target == one.target for one in mounts):
                faults.append(Fault((number,), f"has the target {mount.target}, as another one; each needs its own"))
            mounts.append(mount)
        if faults:
            raise WrongValueError(*faults)
        return self._in_order(tuple(mounts))

    def _in_order(self, mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
        try:
            return check_mounts(mounts)
        except ValueError as fault:
            raise WrongValueError.of(None, str(fault)) from None

    def schema(self) -> dict[str, Any]:
        """See `Kind.schema`."""
        entry = {"anyOf": [_WORDS.schema(), _MAPPING.schema()]}
        return {"type": ["array", "null"], "items": entry}


def render_mounts(mounts: tuple[Mount, ...]) -> list[dict[str, object]]:
    """For machine.yaml; what is as by default is left out."""
    entries: list[dict[str, object]] = []
    for mount in mounts:
        entry: dict[str, object] = {"source": mount.source}
        if mount.target != default_target(mount.source):
            entry["target"] = mount.target
        if mount.readonly:
            entry["readonly"] = True
        if mount.kind != "auto":
            entry["kind"] = mount.kind
        if mount.leads_to:
            entry["leads_to"] = mount.leads_to
        entries.append(entry)
    return entries
