"""The computer itself: folders, room, memory."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from functools import partial
from typing import TYPE_CHECKING

import psutil

from hostvm import paths as places
from hostvm.accel import host_arch
from hostvm.doctor.finding import FAIL, OK, WARN, Finding, looked_at
from hostvm.guest_images import ARCHES
from hostvm.platform.words import in_turn, set_variable
from hostvm.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AREA = "computer"
GIB = 2**30
LITTLE_ROOM = 2 * GIB
"""Bytes; a build needs about 1 GiB, an engine's first images another."""

LITTLE_MEMORY = GIB


def look_at_computer() -> Iterator[Finding]:
    """System, memory, and the three folders hostvm keeps its files in."""
    yield from looked_at(AREA, "system", _system)
    yield from looked_at(AREA, "memory", _memory)
    for name, folder in (("home", places.home()), ("cache", places.cache())):
        yield from looked_at(AREA, name, partial(_folder, name, folder))
    yield from looked_at(AREA, "run folder", _run_folder)


def _system() -> Iterator[Finding]:
    # Not platform.platform(), which starts uname(1).
    system = f"{platform.system()} {platform.release()}, {host_arch()}"
    arch, text = host_arch(), f"{system}, Python {platform.python_version()}, {os.cpu_count()} CPUs"
    if arch in ARCHES:
        yield Finding(AREA, "system", OK, text)
    else:
        fix = f"use a computer with one of these processors: {', '.join(ARCHES)}"
        yield Finding(AREA, "system", FAIL, f"{text}; no guests are made for {arch}", fix)


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    text = f"{human_size(memory.available)} of {human_size(memory.total)} available"
    if memory.available >= LITTLE_MEMORY:
        yield Finding(AREA, "memory", OK, text)
    else:
        fix = in_turn("stop a machine you do not need: hostvm ls", "hostvm stop NAME", between="; ")
        yield Finding(AREA, "memory", WARN, text, fix)


def _folder(name: str, folder: Path) -> Iterator[Finding]:
    """One that does not exist yet is judged by where it would be made."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    variable = f"HOSTVM_{name.upper()}"
    if not os.access(existing, os.W_OK):
        fix = f"make it writable, or choose another: {set_variable(variable, 'FOLDER')}"
        yield Finding(AREA, name, FAIL, f"{folder} cannot be written", fix)
        return
    free = shutil.disk_usage(existing).free
    text = f"{folder}, {human_size(free)} free"
    if free < LITTLE_ROOM:
        fix = "make room (hostvm image ls; hostvm docker system prune), or choose another folder: "
        yield Finding(AREA, name, WARN, text, f"{fix}{set_variable(variable, 'FOLDER')}")
    else:
        yield Finding(AREA, name, OK, text)


def _run_folder() -> Iterator[Finding]:
    # The longest name a machine may have.
    places.MachinePaths.of("m" * 24).check_socket_length()
    folder = places.run()
    if sys.platform != "win32" and folder.exists() and folder.stat().st_uid not in (os.getuid(), 0):
        fix = "choose one of your own: export HOSTVM_RUN=/tmp/hostvm-$UID"
        yield Finding(AREA, "run folder", FAIL, f"{folder} belongs to another user", fix)
    else:
        yield Finding(AREA, "run folder", OK, str(folder))
