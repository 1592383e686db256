"""mount add, rm, ls."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli.commands.common import existing_paths, print_json, print_table, say
from hostvm.agent.client import AgentAbsent, request
from hostvm.config.rewrite import set_value
from hostvm.errors import HostvmError, MachineError, SpecError
from hostvm.files import write_atomic
from hostvm.locks import machine_lock
from hostvm.machines.change import booted_spec, note_booted
from hostvm.more_disks import check_places
from hostvm.shares.choose import kind_of
from hostvm.shares.client import SERVICE, missing_shares, share_facts
from hostvm.shares.model import Mount, check_mounts, check_source, guest_path, make_mount, parse_mount
from hostvm.shares.settings import render_mounts
from hostvm.shares.sources import as_typed, is_there
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
    with machine_lock(paths):
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
        wanted = _with(mounts, mount)
        check_places(spec.disks, (mount,))
        running = _ask(paths, "add", mount)
        _write(paths, wanted, running=running)
    when = "" if running else " from the machine's next start on"
    say(options, f"{mount.source} is {mount.target} in the guest{when}")
    return _tell(options, paths)


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


def _with(mounts: tuple[Mount, ...], mount: Mount) -> tuple[Mount, ...]:
    try:
        return check_mounts((*mounts, mount))
    except ValueError:
        there = next(one for one in mounts if one.target == mount.target)
        raise SpecError(
            f"{mount.target} in the guest is {there.source} already",
            None,
            f"choose another place: hostvm mount add {mount.source}:/some/where\n"
            f"or take that one away: hostvm mount rm {there.target}",
        ) from None


def remove(options: argparse.Namespace) -> int:
    """Share a folder no more. Containers that have it find nothing there from then on."""
    paths = existing_paths(options)
    with machine_lock(paths):
        mounts = load_spec(paths.spec).mounts
        mount = _named(mounts, options.folder, paths.name)
        running = _ask(paths, "rm", mount)
        _write(paths, tuple(one for one in mounts if one.target != mount.target), running=running)
    say(options, f"{mount.source} is not shared any more")
    return _tell(options, paths)


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
    write_atomic(paths.spec, text.encode(), mode=os.stat(paths.spec).st_mode & 0o777)  # noqa: PTH116
    if running and (booted := booted_spec(paths)):
        note_booted(paths, replace(booted, mounts=mounts))  # nothing waits for a restart


def _tell(options: argparse.Namespace, paths: MachinePaths) -> int:
    return print_json(mount_facts(paths)) if options.json else 0
