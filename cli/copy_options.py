"""The command line's words for what a machine was and for others made of it: clone, snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import TypeAlias

    Settings: TypeAlias = Callable[[argparse.ArgumentParser], None]


def add_copy_verbs(verbs: Any, make: Callable[..., argparse.ArgumentParser], rule: str, settings: Settings) -> None:
    """:param make: adds one verb with what all verbs have.
    :param rule: what cannot be suspended.
    :param settings: adds the options of a new machine to a verb.
    """
    clone = make(
        verbs,
        "clone",
        "life:clone",
        "make another machine with the data of one that is stopped or suspended; at once, and without copying",
        "hostvm clone default try-it",
        "hostvm clone ci ci-2 && hostvm start ci-2",
        named=False,
    )
    clone.add_argument("source", metavar="SRC", help="the machine; when suspended, its disk is taken, not its memory")
    clone.add_argument("new", metavar="DST", help="the new one; with ssh keys, host name, engine id, MAC of its own")
    _add_snapshot_verbs(verbs, make, rule)
    run = make(
        verbs,
        "run",
        "run:run",
        "run a command of this computer with DOCKER_HOST of a machine, or of one that is made for it and then gone",
        "hostvm run --rm-machine -- docker run --rm IMAGE",
        "hostvm run --rm-machine --memory 4GiB -- make test",
        "hostvm run --rm-machine --of ci/warm -- pytest      # from a snapshot, with the images it has",
        "hostvm run -m ci -- ./deploy.sh",
        named=False,
    )
    settings(run)
    run.add_argument("--rm-machine", action="store_true", help="make a machine for the command, within seconds")
    run.add_argument(
        "--of", metavar="NAME[/SNAPSHOT]", help="let it begin from a running machine's snapshot (default: the newest)"
    )


def _add_snapshot_verbs(verbs: Any, make: Callable[..., argparse.ArgumentParser], rule: str) -> None:
    snapshot = verbs.add_parser("snapshot", help="keep a machine as it is now, memory included, and go back to that")
    parts = snapshot.add_subparsers(title="commands", metavar="COMMAND", required=True)
    create = make(
        parts,
        "create",
        "snapshot:create",
        "keep the machine as it is: of one that runs its memory too, for which it stands still some seconds",
        "hostvm snapshot create before-upgrade",
        "hostvm snapshot create -m ci",
        named=False,
    )
    create.epilog = f"{create.epilog}\n\n{rule}"
    create.add_argument("snapshot", nargs="?", metavar="SNAPSHOT", help="its name (default: made of date and time)")
    make(parts, "ls", "snapshot:ls", "list the machine's snapshots", "hostvm snapshot ls --json", named=False)
    restore = make(
        parts,
        "restore",
        "snapshot:restore",
        "make the machine what it was in a snapshot, running or stopped; what it is now is lost",
        "hostvm snapshot restore before-upgrade",
        "hostvm snapshot restore --force -m ci     # the newest one, without being asked",
        named=False,
    )
    restore.add_argument("snapshot", nargs="?", metavar="SNAPSHOT", help="its name (default: the newest)")
    restore.add_argument("-f", "--force", action="store_true", help="do not ask")
    rm = make(parts, "rm", "snapshot:remove", "forget a snapshot", "hostvm snapshot rm before-upgrade", named=False)
    rm.add_argument("snapshot", metavar="SNAPSHOT", help="its name")
