"""The options of the verbs that look at and change machine.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import TypeAlias

    Verb: TypeAlias = Callable[..., argparse.ArgumentParser]


def add_config_verbs(verbs: Any, verb: Verb) -> None:
    """Add them.

    :param verb: makes one, as manage.py does.
    """
    config = verbs.add_parser("config", help="the settings file machine.yaml: its schema, a check")
    parts = config.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verb(
        parts,
        "schema",
        "config:schema",
        "print machine.yaml's JSON Schema, for editors",
        "hostvm config schema > machine.schema.json",
        named=False,
    )
    check = verb(
        parts,
        "check",
        "config:check",
        "read a settings file as a start would; every fault is told with its line",
        "hostvm config check ci.yaml",
        "hostvm config check default --json     # a machine's, with its defaults",
        named=False,
    )
    check.add_argument("file", metavar="FILE", help="a file, or a machine's name")
