"""suspend, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.commands.common import existing_machine, say_of

if TYPE_CHECKING:
    import argparse


def suspend(options: argparse.Namespace) -> int:
    """Save a machine's memory and end it, or pause it."""
    machine = existing_machine(options)
    if options.pause:
        text = "is paused" if machine.pause() else "was paused already"
    else:
        seconds = machine.suspend()
        text = "was suspended already" if seconds is None else f"is suspended after {seconds:.1f} s"
    return say_of(options, machine.name, f"{text}; go on with: hostvm resume {machine.name}")


def resume(options: argparse.Namespace) -> int:
    """Let a suspended or paused machine go on."""
    machine = existing_machine(options)
    seconds = machine.resume()
    return say_of(options, machine.name, "was running already" if seconds is None else f"goes on after {seconds:.1f} s")
