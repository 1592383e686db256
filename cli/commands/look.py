"""ls, status, inspect, logs, env."""

from __future__ import annotations

import os
import shlex
import sys
import time
from codecs import getincrementaldecoder
from contextlib import suppress
from io import IncrementalNewlineDecoder
from typing import TYPE_CHECKING

from cli.commands.common import existing_paths, print_facts, print_json, print_table
from cli.host_client import OTHER_ENGINE
from cli.printer import tell
from hostvm.agent.client import docker_host, refuse_docker
from hostvm.engines import LOGS
from hostvm.errors import UsageError
from hostvm.files import tail
from hostvm.growing import Growing
from hostvm.machines.observe import look_closely, observe, observe_all
from hostvm.paths import machine_names
from hostvm.plain import plain
from hostvm.sizes import format_size
from hostvm.spec import load_spec

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from hostvm.machines.observe import Observation
    from hostvm.paths import MachinePaths


def ls(options: argparse.Namespace) -> int:
    """All machines, damaged ones included; with --quiet their names alone, for scripts."""
    if options.quiet and not options.json:
        sys.stdout.writelines(f"{name}\n" for name in machine_names())  # nobody has to be asked
        return 0
    found = observe_all()
    if options.json:
        return print_json([observation.facts() for observation in found])
    head = ("NAME", "STATUS", "CPUS", "MEMORY", "DISK", "DRIVER", "ENGINE", "SSH", "IMAGE")
    print_table(head, [_row(observation) for observation in found])
    return 0


def _row(seen: Observation) -> tuple[str, ...]:
    spec, state = seen.spec, seen.state
    return (
        seen.name,
        seen.status + (",unsaved" if seen.paused_why else "") + (",listening" if seen.sleeper else ""),
        str(spec.cpus) if spec else "-",
        format_size(spec.memory) if spec else "-",
        format_size(spec.disk) if spec else "-",
        state.driver if state else "-",
        spec.engine if spec else "-",
        f"127.0.0.1:{state.ssh_port}" if state else "-",
        state.image.removeprefix("sha256:")[:12] if state else "-",
    )


def status(options: argparse.Namespace) -> int:
    """One machine, now. The exit status is 0 when it runs and 1 otherwise, for scripts."""
    seen = look_closely(observe(existing_paths(options)))
    if options.json:
        closely = {"waiting": list(seen.waiting), "panics": list(seen.panics), "room": seen.room_facts()}
        print_json({**seen.facts(), **closely})
    else:
        print_facts(seen.lines(), 10)
    return 0 if seen.status == "running" else 1


def inspect(options: argparse.Namespace) -> int:
    """Everything: wanted, made, observed."""
    return print_json(look_closely(observe(existing_paths(options))).everything())


def logs(options: argparse.Namespace) -> int:
    """Console and agent log, or those that are named; with --follow until Ctrl-C."""
    paths = existing_paths(options)
    named = options.console + options.agent + options.provision
    if options.engine:
        if named:
            alone = f"ask for it alone: hostvm logs --engine {paths.name}"
            raise UsageError("the engine's log is in the guest", None, alone)
        return _engine_log(paths, options)
    files = [
        path
        for path, wanted in (
            (paths.console, options.console or not named),
            (paths.agent_log, options.agent or not named),
            (paths.provision_log, options.provision),
        )
        if wanted
    ]
    for path in files:
        if len(files) > 1:
            sys.stdout.write(f"==> {path} <==\n")
        if options.lines:
            lines = tail(path, options.lines, 16 * 1024 * 1024)
            sys.stdout.write((plain(lines) if sys.stdout.isatty() else lines) + "\n")
    sys.stdout.flush()
    if options.follow:
        _follow(files)
    return 0


def _engine_log(paths: MachinePaths, options: argparse.Namespace) -> int:
    from cli.forward import forward

    words = ["tail", "-n", str(options.lines), *(["-F"] if options.follow else []), LOGS[load_spec(paths.spec).engine]]
    text = _reader()
    shown = (lambda piece: text(piece).encode()) if sys.stdout.isatty() else None
    return forward(paths.run_dir, words, stdin=None, ready=False, wait=_ENGINE_SECONDS, shown=shown)


def _reader() -> Callable[[bytes], str]:
    """Makes text of the pieces of a log: on a terminal plain, elsewhere as it is."""
    utf8 = getincrementaldecoder("utf-8")("replace")
    if not sys.stdout.isatty():
        return utf8.decode
    lines = IncrementalNewlineDecoder(utf8, translate=True)  # a serial console ends its lines with CR and LF
    return lambda piece: plain(lines.decode(piece))


def _follow(files: list[Path]) -> None:
    """Also over a boot, a log that is full, and a console that is cut: what stood there last is told first."""
    logs = [(Growing(path, path.with_name(f"{path.name}.1")), _reader()) for path in files]
    for log, _ in logs:
        log.skip()
    while True:
        for log, text in logs:
            # Not there yet, or for the instant in which another takes its place (Windows: as no permission).
            with suppress(FileNotFoundError, *([PermissionError] if sys.platform == "win32" else [])):
                sys.stdout.writelines(map(text, log.pieces()))
        sys.stdout.flush()
        time.sleep(_FOLLOW_EVERY)


_FOLLOW_EVERY = 0.2
_ENGINE_SECONDS = 10.0
_SET = {"sh": "export {0}={1}", "fish": "set -gx {0} {1};", "powershell": "$Env:{0} = {1}"}
_UNSET = {"sh": "unset {0}", "fish": "set -e {0};", "powershell": "Remove-Item Env:{0} -ErrorAction SilentlyContinue"}


def env(options: argparse.Namespace) -> int:
    """What `eval` needs so that docker clients find the machine's engine."""
    if options.unset:  # of a machine that was removed, too
        gone = ("DOCKER_HOST", "HOSTVM_MACHINE")
        if options.json:
            return print_json(dict.fromkeys(gone))
        sys.stdout.writelines(_UNSET[options.shell].format(key) + "\n" for key in gone)
        return 0
    paths = existing_paths(options)
    seen = observe(paths)
    if seen.spec:
        refuse_docker(paths.name, seen.spec.engine)
    values = {"DOCKER_HOST": docker_host(paths.run_dir), "HOSTVM_MACHINE": paths.name}
    if options.json:
        return print_json(values)
    for key in OTHER_ENGINE:
        if os.environ.get(key):
            sys.stdout.write(_UNSET[options.shell].format(key) + "\n")
    for key, value in values.items():
        quoted = "'" + value.replace("'", "''") + "'" if options.shell == "powershell" else shlex.quote(value)
        sys.stdout.write(_SET[options.shell].format(key, quoted) + "\n")
    if seen.status != "running":
        tell(f"hostvm: machine {paths.name} is {seen.status}; start it with: hostvm start {paths.name}")
    return 0
