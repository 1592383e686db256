"""start, create, clone, stop, restart, rm."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from cli import held
from cli.api import Machine
from cli.commands.common import (
    chosen_paths,
    confirm,
    existing_machine,
    existing_paths,
    require_machine,
    say,
    say_of,
)
from cli.progress import make_progress
from hostvm.config.templates import template_settings
from hostvm.errors import HostvmError, MachineError, SpecError
from hostvm.locks import machine_lock
from hostvm.machines.change import other_engine
from hostvm.machines.snapshots import restore_snapshot
from hostvm.platform import login
from hostvm.platform.words import quoted
from hostvm.shares.sources import typed_mounts
from hostvm.sizes import human_size
from hostvm.spec import SETTINGS, Effect, default_spec, load_spec, parse_settings, with_own_image
from runtime.words import FIRST

if TYPE_CHECKING:
    import argparse

    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec, Setting


def wanted_settings(options: argparse.Namespace) -> dict[str, object]:
    """The settings among the options, by their keys.

    :raises SpecError: a wrong --mount, or a wrong template beside it.
    """
    given = {setting.key: getattr(options, setting.key, None) for setting in SETTINGS if setting.option}
    wanted: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    if options.mount:
        # One that shares nothing (ci) is not to share the home folder because of another one.
        besides = template_settings(options.template).get("mounts") if options.template else None
        try:
            wanted["mounts"] = typed_mounts(options.mount, besides)
        except ValueError as fault:
            raise SpecError(f"--mount {fault}", None, "see: hostvm start --help") from None
    return wanted


def _over(base: MachineSpec, options: argparse.Namespace) -> MachineSpec:
    """`base` with the template's settings over it, and the options' over both."""
    if options.template:
        base = replace(base, **template_settings(options.template))
    return parse_settings(wanted_settings(options), base, "command line")


def _new_spec(options: argparse.Namespace) -> MachineSpec:
    return with_own_image(_over(default_spec(), options))


def create(options: argparse.Namespace) -> int:
    """Make a machine."""
    paths = chosen_paths(options)
    spec = _new_spec(options)
    with machine_lock(paths):
        held.create(paths, spec, make_progress(quiet=options.quiet))
    return say_of(options, paths.name, f"is made; start it with: hostvm start {paths.name}")


def start(options: argparse.Namespace) -> int:
    """Make the machine if it is missing, start it, wait for its engine."""
    paths = chosen_paths(options)
    spec = _new_spec(options)
    progress = make_progress(quiet=options.quiet)
    with machine_lock(paths):  # for all of it: of several that make the same machine, the others start it
        if not paths.folder.exists() and not options.from_snapshot:
            held.create(paths, spec, progress)
        else:
            _refuse_other(require_machine(paths), options)
        if options.from_snapshot:
            restore_snapshot(paths, options.from_snapshot, progress, disk_only=options.discard_state)
        seconds = held.start(paths, progress, discard_state=options.discard_state, use_context=options.use_context)
    suffix = "" if paths.name == "default" else f" -m {paths.name}"
    state = "was running already" if seconds is None else f"is ready after {seconds:.1f} s"
    return say_of(options, paths.name, f"{state}. Try: hostvm{suffix} {FIRST[load_spec(paths.spec).engine]}")


def _refuse_other(paths: MachinePaths, options: argparse.Namespace) -> None:
    """Options of `start` shape a new machine; for one that exists they must say what it already is."""
    there = load_spec(paths.spec)
    wanted = _over(there, options)
    differing = [setting for setting in SETTINGS if getattr(wanted, setting.key) != getattr(there, setting.key)]
    if differing:
        raise MachineError(
            f"machine {paths.name} exists already and is another one",
            "\n".join(
                f"{setting.key}: it has {setting.render(getattr(there, setting.key))}, "
                f"given was {setting.render(getattr(wanted, setting.key))}"
                for setting in differing
            ),
            "\n".join([f"start it as it is: hostvm start {paths.name}", *_ways(paths.name, there, wanted, differing)]),
        )


def _ways(name: str, there: MachineSpec, wanted: MachineSpec, differing: list[Setting]) -> list[str]:
    settable = [setting for setting in differing if setting.effect is not Effect.MADE]
    ways = [other_engine(there.engine, wanted.engine, name)] if there.engine != wanted.engine else []
    made = [setting.key for setting in differing if setting.effect is Effect.MADE and setting.key != "engine"]
    if made:
        ways.append(f"{', '.join(made)}: make another machine with it, by the same words: hostvm start NEW ...")
    if settable:
        words = " ".join(f"{setting.key}={_spelled(setting, wanted)}" for setting in settable)
        ways.insert(0, f"or change it: hostvm set --restart {name} {words}")
    return ways


def _spelled(setting: Setting, spec: MachineSpec) -> str:
    """A value as `set` reads it."""
    return quoted(json.dumps(setting.render(getattr(spec, setting.key))).strip('"'))


def clone(options: argparse.Namespace) -> int:
    """Another machine with the data of one that is off."""
    made = Machine(options.source).clone(options.new)
    return say_of(options, made.name, f"is made of {options.source}; start it with: hostvm start {made.name}")


def stop(options: argparse.Namespace) -> int:
    """Power off; a machine that is off already is no error."""
    machine = existing_machine(options)
    was_on = machine.stop(force=options.force)
    return say_of(options, machine.name, "is stopped" if was_on else "was stopped already")


def restart(options: argparse.Namespace) -> int:
    """Stop and start."""
    machine = existing_machine(options)
    return say_of(options, machine.name, f"is ready again after {machine.restart():.1f} s")


def remove(options: argparse.Namespace) -> int:
    """Delete a machine with all its data."""
    machine, disk = existing_machine(options), existing_paths(options).data_disk
    used = disk.stat().st_size if disk.exists() else 0
    question = f"Delete machine {machine.name} with its images, containers and volumes ({human_size(used)})?"
    if not options.force and not confirm(question):
        say(options, "nothing was deleted")
        return 1
    machine.remove(force=options.force)
    say(options, f"machine {machine.name} is deleted")
    with suppress(HostvmError):  # Windows does not tell
        if login.is_installed(machine.name):  # perhaps for one of the same name in another HOSTVM_HOME
            say(options, f"it starts at login still; no more with: hostvm autostart disable {machine.name}")
    return 0
