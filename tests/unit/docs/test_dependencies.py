"""docs/dependencies.md lists what pyproject.toml and scripts/packages.txt name."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")


def test_system_packages() -> None:
    table = PAGE.split("<!-- packages: begin -->")[1].split("<!-- packages: end -->")[0]
    documented = [re.split(r" *\| *", line.strip("| \n")) for line in table.strip().splitlines()[2:]]
    lines = (ROOT / "scripts" / "packages.txt").read_text(encoding="utf-8").splitlines()
    assert documented == [line.split(maxsplit=3) for line in lines if line and not line.startswith("#")]


def test_python_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    named = [*project["project"]["dependencies"], *chain(*extras.values()), *chain(*groups.values())]
    names = {re.match(r"[\w-]+", word)[0].lower() for word in named}
    missing = {name for name in names if name not in PAGE.lower() and not name.startswith("types-")}
    assert not missing


def test_pins_are_bounded_where_private_parts_are_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    paramiko = next(word for word in project["project"]["dependencies"] if word.startswith("paramiko"))
    assert "<" in paramiko
