"""docs/internals.md and hostvm/paths.py tell the same."""

from __future__ import annotations

import re
from pathlib import Path

from hostvm import paths

PAGE = (Path(__file__).parents[3] / "docs" / "internals.md").read_text(encoding="utf-8")
NOT_NAMES = {"DEFAULT_MACHINE"}


def constants() -> dict[str, str]:
    return {
        name: value
        for name, value in vars(paths).items()
        if name.isupper() and isinstance(value, str) and name not in NOT_NAMES
    }


def test_there_are_names_to_compare() -> None:
    assert len(constants()) > 10


def test_every_name_is_explained() -> None:
    explained = set(re.findall(r"`([^`]+)`", PAGE)) | {
        part for words in re.findall(r"`([^`]+)`", PAGE) for part in words.split("/")
    }
    missing = {name: value for name, value in constants().items() if value not in explained}
    assert not missing


def test_every_file_in_the_machines_tables_has_a_constant() -> None:
    tables = PAGE.split("## `$HOSTVM_HOME")[1].split("## `$HOSTVM_CACHE")[0]
    rows = re.findall(r"^\| (`[^|]+`) \|", tables, re.MULTILINE)
    names = {word.split("/")[-1] for row in rows for word in re.findall(r"`([^`]+)`", row)}
    drivers_own = {"qemu.pid", "qemu.log"}  # constants of hostvm/drivers/qemu/argv.py
    assert names - drivers_own == {value for name, value in constants().items() if name != "KEYS"}
