"""start, create, clone, stop, restart, rm."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from cli.commands.common import chosen_paths, confirm, existing_paths, print_json, require_machine, say
from cli.contexts import drop_context, keep_context
from cli.progress import make_progress
from hostvm.config.templates import template_settings
from hostvm.errors import MachineError, SpecError
from hostvm.guest_images import ensure_image
from hostvm.locks import machine_lock
from hostvm.machines.boot import check_startable, start_machine
from hostvm.machines.change import other_engine
from hostvm.machines.clone import clone_machine, require_free
from hostvm.machines.create import create_machine
from hostvm.machines.halt import stop_machine
from hostvm.machines.observe import observe
from hostvm.machines.remove import remove_machine
from hostvm.machines.snapshots import restore_snapshot
from hostvm.paths import MachinePaths
from hostvm.shares.model import option_mounts
from hostvm.sizes import human_size
from hostvm.spec import SETTINGS, Effect, default_spec, load_spec, parse_settings, with_own_image
from runtime.engine import find_engine
from runtime.words import FIRST

if TYPE_CHECKING:
    import argparse

    from hostvm.spec import MachineSpec, Setting
    from images.progress import Progress
    from runtime.engine import Engine


def wanted_settings(options: argparse.Namespace) -> dict[str, object]:
    """The settings among the options, by their keys.

    :raises SpecError: a wrong --mount.
    """
    given = {setting.key: getattr(options, setting.key, None) for setting in SETTINGS if setting.option}
    wanted: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    if options.mount:
        try:
            wanted["mounts"] = option_mounts(options.mount)
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
    progress = make_progress(quiet=options.quiet)
    with machine_lock(paths):
        if paths.folder.exists():
            raise MachineError(
                f"machine {paths.name} exists already", None, f"start it with: hostvm start {paths.name}"
            )
        _create(paths, spec, progress)
    if options.json:
        return print_json(observe(paths).facts())
    say(options, f"machine {paths.name} is made; start it with: hostvm start {paths.name}")
    return 0


def _create(paths: MachinePaths, spec: MachineSpec, progress: Progress) -> None:
    paths.check_socket_length()
    create_machine(paths, spec, ensure_image(spec.image, progress, spec.arch))


def start(options: argparse.Namespace) -> int:
    """Make the machine if it is missing, start it, wait for its engine."""
    paths = chosen_paths(options)
    spec = _new_spec(options)
    progress = make_progress(quiet=options.quiet)
    with machine_lock(paths):
        if not paths.folder.exists() and not options.from_snapshot:
            _create(paths, spec, progress)
        else:
            _refuse_other(require_machine(paths), options)
        if options.from_snapshot:
            restore_snapshot(paths, options.from_snapshot, progress)
        seconds = start_machine(paths, progress, _engine(paths), discard_state=options.discard_state)
        keep_context(paths, progress, use=options.use_context)
    if options.json:
        return print_json(observe(paths).facts())
    suffix = "" if paths.name == "default" else f" -m {paths.name}"
    state = "was running already" if seconds is None else f"is ready after {seconds:.1f} s"
    say(options, f"machine {paths.name} {state}. Try: hostvm{suffix} {FIRST[load_spec(paths.spec).engine]}")
    return 0


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
    ways = [other_engine(there.engine, wanted.engine)] if there.engine != wanted.engine else []
    made = [setting.key for setting in differing if setting.effect is Effect.MADE and setting.key != "engine"]
    if made:
        ways.append(f"{', '.join(made)}: make another machine with it, by the same words: hostvm start NEW ...")
    if settable:
        words = " ".join(f"{setting.key}={_spelled(setting, wanted)}" for setting in settable)
        ways.insert(0, f"or change it: hostvm set --restart {name} {words}")
    return ways


def _spelled(setting: Setting, spec: MachineSpec) -> str:
    """A value as `set` reads it."""
    return shlex.quote(json.dumps(setting.render(getattr(spec, setting.key))).strip('"'))


def _engine(paths: MachinePaths) -> Engine:
    return find_engine(load_spec(paths.spec).engine)


def clone(options: argparse.Namespace) -> int:
    """Another machine with the data of one that is off."""
    source, target = require_machine(MachinePaths.of(options.source)), MachinePaths.of(options.new)
    require_free(target)
    first, second = sorted((source, target), key=lambda paths: paths.name)  # as everybody else who needs two
    with machine_lock(first), machine_lock(second):
        clone_machine(source, target)
    if options.json:
        return print_json(observe(target).facts())
    say(options, f"machine {target.name} is made of {source.name}; start it with: hostvm start {target.name}")
    return 0


def stop(options: argparse.Namespace) -> int:
    """Power off; a machine that is off already is no error."""
    paths = existing_paths(options)
    progress = make_progress(quiet=options.quiet)
    with machine_lock(paths):
        was_on = stop_machine(paths, progress, force=options.force)
    if options.json:
        return print_json(observe(paths).facts())
    say(options, f"machine {paths.name} " + ("is stopped" if was_on else "was stopped already"))
    return 0


def restart(options: argparse.Namespace) -> int:
    """Stop and start."""
    paths = existing_paths(options)
    progress = make_progress(quiet=options.quiet)
    with machine_lock(paths):
        spec = load_spec(paths.spec)
        check_startable(paths, spec, find_engine(spec.engine))  # rather than leave it stopped
        seconds = restart_machine(paths, progress)
    if options.json:
        return print_json(observe(paths).facts())
    say(options, f"machine {paths.name} is ready again after {seconds:.1f} s")
    return 0


def restart_machine(paths: MachinePaths, progress: Progress) -> float:
    """Stop and start; gives the seconds of the start. The machine's lock must be held."""
    stop_machine(paths, progress)
    seconds = start_machine(paths, progress, _engine(paths))
    keep_context(paths, progress)
    return seconds or 0.0


def remove(options: argparse.Namespace) -> int:
    """Delete a machine with all its data."""
    paths = existing_paths(options)
    used = paths.data_disk.stat().st_size if paths.data_disk.exists() else 0
    question = f"Delete machine {paths.name} with its images, containers and volumes ({human_size(used)})?"
    if not options.force and not confirm(question):
        say(options, "nothing was deleted")
        return 1
    progress = make_progress(quiet=options.quiet)
    with machine_lock(paths):
        # Broken off afterwards, nobody would look for the context any more.
        remove_machine(paths, progress, force=options.force, before=lambda: drop_context(paths, progress))
    say(options, f"machine {paths.name} is deleted")
    return 0
