"""mount add, rm, ls."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli.commands.common import existing_paths, held_machine, print_json, print_table, say
from hostvm.advice import machine_named
from hostvm.agent.client import AgentAbsent, request
from hostvm.config.rewrite import set_value
from hostvm.errors import HostvmError, MachineError, SpecError
from hostvm.files import rewrite
from hostvm.machines.change import booted_spec, note_booted
from hostvm.machines.observe import observe
from hostvm.more_disks import check_places
from hostvm.platform.words import quoted
from hostvm.shares.choose import kind_of
from hostvm.shares.client import SERVICE, missing_shares, share_facts
from hostvm.shares.model import Mount, check_mounts, check_source, guest_path, make_mount, parse_mount
from hostvm.shares.settings import render_mounts
from hostvm.shares.sources import as_typed, is_there, moved_by
from hostvm.spec import load_spec

if TYPE_CHECKING:
    import argparse

    from hostvm.paths import MachinePaths

_SECONDS = 60.0


def add(options: argparse.Namespace) -> int:
    """Share one more folder; kept in machine.yaml, and there at once when the machine runs."""
    paths = existing_paths(options)
    try:
        mount = replace(parse_mount(options.folder), kind=options.kind)
    except ValueError as fault:
        raise SpecError(f"{options.folder} {fault}", None, "see: hostvm mount add --help") from None
    if why := check_source(mount):
        raise SpecError(f"{mount.source} cannot be shared", why, "name a folder that you can read")
    with machine_named(paths.name), held_machine(paths):
        spec = load_spec(paths.spec)
        mounts = spec.mounts
        try:
            mount = as_typed(mount, mounts)
        except ValueError as fault:
            raise SpecError(f"{mount.source} {fault}", None, "see: hostvm mount add --help") from None
        if is_there(mount, mounts) and mount.kind in ("auto", _kind_there(mounts, mount.source)):
            _see(paths, mount)
            say(options, f"{mount.source} is in the guest already, at {mount.target}")
            return _tell(options, paths)
        moved = _moved(mounts, mount)
        wanted = _with(tuple(moved.get(one, one) for one in mounts), mount)
        check_places(spec.disks, (mount, *moved.values()))
        running = _share(paths, mount, moved)
        _write(paths, wanted, running=running)
    when = "" if running else " from the machine's next start on"
    say(options, f"{mount.source} is {mount.target} in the guest{when}")
    for old, new in moved.items():
        say(options, f"{old.source} is {new.target} there{when}, where that link leads; it was {old.target}")
    for row in _hidden(paths, mount):
        say(options, f"{row['source']} is not in the guest any more: {row['why'] or row['state']}")
    return _tell(options, paths)


def _moved(mounts: tuple[Mount, ...], mount: Mount) -> dict[Mount, Mount]:
    """Shares that have another place in the guest with this one around them, and what they are then.

    :raises SpecError: one can have none.
    """
    try:
        return dict(moved_by(mount, mounts))
    except ValueError as fault:
        raise SpecError(
            f"{mount.source} would hide a folder that is shared",
            str(fault),
            f"share that folder at another place: hostvm mount rm, then hostvm mount add FOLDER:/some/where\n"
            f"or this one: hostvm mount add {_elsewhere(mount)}",
        ) from None


def _share(paths: MachinePaths, mount: Mount, moved: dict[Mount, Mount]) -> bool:
    """Tell the running machine of a new share, and where others are then; False when it does not run."""
    with ExitStack() as undo:
        for old, new in moved.items():
            _ask(paths, "rm", old)
            undo.callback(_quietly, paths, "add", old)
            _ask(paths, "add", new)
            undo.callback(_quietly, paths, "rm", new)
        running = _ask(paths, "add", mount)
        undo.pop_all()
    return running


def _quietly(paths: MachinePaths, what: str, mount: Mount) -> None:
    with suppress(HostvmError):  # what went wrong before is told
        _ask(paths, what, mount)


def _hidden(paths: MachinePaths, mount: Mount) -> list[dict[str, Any]]:
    """Shares inside of a new one that are not in the guest: their places are links in it, say."""
    with suppress(HostvmError):
        rows = share_facts(paths.run_dir)
        return [row for row in rows if row["state"] != "mounted" and row["target"].startswith(f"{mount.target}/")]
    return []


def _kind_there(mounts: tuple[Mount, ...], path: str) -> str:
    """The kind of the share that holds a path; of shares inside shares the deepest."""
    holders = [one for one in mounts if guest_path((one,), path) is not None]
    return kind_of(max(holders, key=lambda one: len(one.source)))


def _see(paths: MachinePaths, mount: Mount) -> None:
    """One that could not be shared when the machine started is tried once more; still not is a failure."""
    with suppress(AgentAbsent):
        for row in missing_shares(paths.run_dir):
            if guest_path([Mount(row["source"], row["target"])], mount.source) == mount.target:
                raise MachineError(
                    f"{row['source']} is not in the guest", row["why"] or row["state"], "hostvm mount ls"
                )


def _elsewhere(mount: Mount) -> str:
    """The words that share a folder at another place."""
    return quoted(f"{mount.source}:/some/where")


def _with(mounts: tuple[Mount, ...], mount: Mount) -> tuple[Mount, ...]:
    try:
        return check_mounts((*mounts, mount))
    except ValueError:
        targets = [one.target for one in mounts]
        there = next(one for one in mounts if one.target == mount.target or targets.count(one.target) > 1)
        raise SpecError(
            f"{there.target} in the guest is {there.source} already",
            None,
            f"choose another place: hostvm mount add {_elsewhere(mount)}\n"
            f"or take that one away: hostvm mount rm {quoted(there.target)}",
        ) from None


def remove(options: argparse.Namespace) -> int:
    """Share a folder no more. Containers that have it find nothing there from then on."""
    paths = existing_paths(options)
    with machine_named(paths.name), held_machine(paths):
        mounts = load_spec(paths.spec).mounts
        mount = _named(mounts, options.folder, paths.name)
        running = _ask(paths, "rm", mount)
        _write(paths, tuple(one for one in mounts if one.target != mount.target), running=running)
        late = not running and _has_still(paths, mount)
    late_words = f" from the machine's next start on; it still has it until then: hostvm restart {paths.name}"
    say(options, f"{mount.source} is not shared any more{late_words if late else ''}")
    return _tell(options, paths)


def _has_still(paths: MachinePaths, mount: Mount) -> bool:
    """Whether a machine without an agent has a share that it was started with: suspended, or its agent died.

    The next agent serves what the machine was started with.
    """
    booted = booted_spec(paths)
    return booted is not None and mount in booted.mounts and observe(paths).status != "stopped"


def _named(mounts: tuple[Mount, ...], word: str, machine: str) -> Mount:
    """The mount with this target, or with this source when only one has it."""
    with suppress(ValueError):
        source = make_mount(word, "/x").source
        found = [one for one in mounts if one.target == word] or [one for one in mounts if one.source == source]
        if len(found) == 1:
            return found[0]
        if found:
            targets = ", ".join(one.target for one in found)
            raise SpecError(f"{word} is shared more than once", f"it is {targets} in the guest", "name one of these")
    raise MachineError(f"{word} is not shared with machine {machine}", None, "see what is: hostvm mount ls")


def ls(options: argparse.Namespace) -> int:
    """List what machine.yaml asks for, with what the machine's agent knows of it."""
    paths = existing_paths(options)
    rows = mount_facts(paths)
    if options.json:
        return print_json(rows)
    print_table(
        ("SOURCE", "TARGET", "ACCESS", "KIND", "STATE"),
        [(row["source"], row["target"], "ro" if row["readonly"] else "rw", row["kind"], _state(row)) for row in rows],
    )
    return 0


def _state(row: dict[str, Any]) -> str:
    later = f", {row['next_kind']} from the next start on" if row["kind"] != row["next_kind"] else ""
    return str(row["state"]) + (f": {row['why']}" if row["why"] else "") + later


def mount_facts(paths: MachinePaths) -> list[dict[str, Any]]:
    """One row for each share; `kind` is today's, `next_kind` that of the next start."""
    mounts = load_spec(paths.spec).mounts
    known: dict[str, dict[str, Any]] = {}
    with suppress(HostvmError):
        known = {row["target"]: row for row in share_facts(paths.run_dir)}
    later = "after the next start" if known else "off"
    rows = []
    for mount in mounts:
        kind = kind_of(mount)
        row = known.get(mount.target) or {"kind": kind, "state": later, "why": ""}
        rows.append(
            {
                "source": mount.source,
                "target": mount.target,
                "readonly": mount.readonly,
                "kind": row["kind"],
                "next_kind": row.get("best", kind) if mount.kind == "auto" else kind,
                "state": row["state"],
                "why": row["why"],
            }
        )
    return rows


def _ask(paths: MachinePaths, what: str, mount: Mount) -> bool:
    """Tell the running machine; False when it does not run."""
    facts = {
        "source": mount.source,
        "target": mount.target,
        "readonly": mount.readonly,
        "kind": mount.kind,
        "leads_to": mount.leads_to,
    }
    try:
        request(paths.run_dir, SERVICE, timeout=_SECONDS, do=what, **facts)
    except AgentAbsent:
        return False
    return True


def _write(paths: MachinePaths, mounts: tuple[Mount, ...], *, running: bool) -> None:
    text = set_value(paths.spec.read_text(encoding="utf-8"), ["mounts"], render_mounts(mounts))
    rewrite(paths.spec, text)
    if running and (booted := booted_spec(paths)):
        note_booted(paths, replace(booted, mounts=mounts))  # nothing waits for a restart


def _tell(options: argparse.Namespace, paths: MachinePaths) -> int:
    return print_json(mount_facts(paths)) if options.json else 0
