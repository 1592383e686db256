"""doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli.commands.common import chosen_paths, print_json, require_machine, say
from hostvm.doctor.bundle import check_place, write_bundle
from hostvm.doctor.computer import look_at_computer
from hostvm.doctor.finding import FAIL, OK, Finding
from hostvm.doctor.hypervisor import look_at_hypervisors
from hostvm.doctor.machine import look_at_machine
from hostvm.paths import MachinePaths, machine_names
from hostvm.plain import plain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def doctor(options: argparse.Namespace) -> int:
    """Look at everything; the exit status is 1 when something will not work."""
    findings: list[Finding] = []
    if options.bundle:
        check_place(Path(options.bundle))
    for finding in _all(options):
        findings.append(finding)
        if not options.json:
            _tell(finding)
    if options.bundle:
        names = write_bundle(Path(options.bundle), findings)
        say(options, f"{options.bundle}: {len(names)} files, secrets masked; look before you send it on")
    if options.json:
        print_json([finding.facts() for finding in findings])
    return 1 if any(finding.level == FAIL for finding in findings) else 0


def _all(options: argparse.Namespace) -> Iterator[Finding]:
    one = require_machine(chosen_paths(options)) if options.name or options.machine else None
    yield from look_at_computer()
    yield from look_at_hypervisors()
    for paths in [one] if one else [MachinePaths.of(name) for name in machine_names()]:
        yield from look_at_machine(paths)


def _tell(finding: Finding) -> None:
    """A line each, as it is found: some looks take seconds."""
    first, *more = finding.found.splitlines() or [""]
    lines = [
        f"{finding.level:<5} {f'{finding.area}: {finding.name}':<28} {first}",
        *(f"{'':<35}{line}" for line in more),
    ]
    if finding.level != OK:
        lines.append(f"{'':<35}-> {finding.fix}")
    sys.stdout.write(plain("\n".join(lines)) + "\n")
    sys.stdout.flush()
