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
    _add_changes(verbs, verb)
    _add_templates(verbs, verb)
    _add_autostart(verbs, verb)
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


def _add_templates(verbs: Any, verb: Verb) -> None:
    template = verbs.add_parser("template", help="settings files to make machines from")
    parts = template.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verb(parts, "ls", "template:ls", "list the templates that come with hostvm", "hostvm template ls", named=False)
    show = verb(
        parts,
        "show",
        "template:show",
        "print a template, to begin one's own with",
        "hostvm template show ci > mine.yaml",
        "hostvm create --template mine.yaml mine",
        named=False,
    )
    show.add_argument("template", metavar="NAME", help="its name")


def _add_changes(verbs: Any, verb: Verb) -> None:
    change = verb(
        verbs,
        "set",
        "settings:set_",
        "change settings of a machine, say what waits for a restart; a.b=c inside mappings, KEY= for the default",
        "hostvm set cpus=4 memory=8GiB",
        "hostvm set ci disk=100GiB            # grows at once, in a running machine too",
        "hostvm set --restart ports.expose=lan daemon.log-opts.max-size=10m",
        "hostvm set 'registries={mirrors: [https://mirror.example]}' ca=",
        named=False,
    )
    change.add_argument("words", nargs="+", metavar="[NAME] KEY=VALUE", help="the machine (default: default), settings")
    edit = verb(
        verbs,
        "edit",
        "settings:edit",
        "change machine.yaml in $VISUAL or $EDITOR; it is saved only when it is sound",
        "hostvm edit",
        "hostvm edit --restart ci",
    )
    for one in (change, edit):
        one.add_argument("--restart", action="store_true", help="restart the running machine if a change waits for it")


def _add_autostart(verbs: Any, verb: Verb) -> None:
    autostart = verbs.add_parser("autostart", help="start a machine when you log in")
    parts = autostart.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text in (
        ("enable", "start the machine at each login: systemd user unit, launchd agent or scheduled task"),
        ("disable", "start it at login no more"),
        ("status", "whether it starts at login"),
        ("run", "start it and stay in the foreground while it runs; SIGTERM stops it; what the above run"),
    ):
        one = verb(parts, name, f"autostart:{name}", text, f"hostvm autostart {name}", f"hostvm autostart {name} ci")
        if name == "enable":
            one.add_argument("--print", action="store_true", help="print the unit's file instead of installing it")
