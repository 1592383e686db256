"""The JSON Schema of machine.yaml and the documentation's table of keys, both from `hostvm.spec.SETTINGS`."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from hostvm.config.kinds import Keys, ListOf, plain_words
from hostvm.spec import SETTINGS, Effect, MachineSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hostvm.config.kinds import Key, Kind
    from hostvm.spec import Setting

SCHEMA_FILE = "machine.schema.json"
_WHEN = {
    Effect.NOW: "at once",
    Effect.START: "next start",
    Effect.MADE: "when made",
    Effect.UPGRADE: "`hostvm upgrade`",
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What the computer decides is no default for a schema, which is the same everywhere.
_FIXED = MachineSpec(cpus=0, memory=0, disk=60 * 1024**3, mounts=())


def machine_schema() -> dict[str, Any]:
    """The schema, made anew. Limits that depend on the computer are not in it."""
    return {
        "$schema": _DIALECT,
        "title": "machine.yaml of hostvm",
        "description": "What a machine of hostvm should be. Every key may be left out.",
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {setting.key: _property(setting) for setting in SETTINGS},
    }


def schema_text() -> str:
    """The schema as the file that is shipped."""
    return json.dumps(machine_schema(), indent=2, ensure_ascii=False) + "\n"


def shipped_schema() -> str:
    """The file that is shipped; a test says that it is the one made anew."""
    return files("hostvm").joinpath("config", SCHEMA_FILE).read_text(encoding="utf-8")


def _property(setting: Setting) -> dict[str, Any]:
    told = plain_words(f"{setting.help}. Counts {setting.effect.value}.")
    described = {**setting.kind.schema(), "description": told[0].upper() + told[1:]}
    return described if setting.default else {**described, "default": _default(setting)}


def _default(setting: Setting) -> object:
    return setting.render(getattr(_FIXED, setting.key))


def settings_table() -> str:
    """Markdown: every key, those of mappings below it."""
    lines = ["| key | value | default | counts | what it is |", "|---|---|---|---|---|"]
    for setting in SETTINGS:
        default = setting.default or f"`{_short(_default(setting))}`"
        when = _WHEN[setting.effect]
        lines.append(_row(setting.key, setting.kind.words, default, when, setting.help))
        lines += [
            _row(path, key.kind.words, "required" if key.required else _quoted(key.default), "", key.help)
            for path, key in _below(setting.key, setting.kind)
        ]
    return "\n".join(lines) + "\n"


def _below(path: str, kind: Kind) -> Iterator[tuple[str, Key]]:
    entries = kind.kind if isinstance(kind, ListOf) else kind
    keys: Mapping[str, Key] = getattr(entries, "keys", {}) if not isinstance(entries, Keys) else entries.keys
    stem = path if isinstance(kind, Keys) else f"{path}[]"
    for name, key in keys.items():
        yield f"{stem}.{name}", key


def _short(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def _quoted(text: str) -> str:
    return f"`{text}`" if text and " " not in text else text


def _row(key: str, *cells: str) -> str:
    return "| " + " | ".join([f"`{key}`", *(cell.replace("|", "\\|") for cell in cells)]) + " |"
