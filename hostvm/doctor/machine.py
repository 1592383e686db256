"""One machine: its files, its disk, its agent, its guest and engine."""

from __future__ import annotations

import http.client
import re
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from hostvm.accel import crashes_guests, host_arch
from hostvm.agent.client import engine_of, run_in_guest
from hostvm.console import panics
from hostvm.disks import check_disk
from hostvm.doctor.finding import FAIL, OK, WARN, Finding, looked_at
from hostvm.engines import WITHOUT_DOCKER_API
from hostvm.guest_images import stored_image
from hostvm.machines.identity import port_is_free
from hostvm.machines.image_check import machine_image, require_image_of_memory
from hostvm.machines.observe import Observation, observe
from hostvm.machines.room import guest_room, way_out
from hostvm.machines.saved import check_files, load_saved
from hostvm.more_disks import more_files
from hostvm.qemu_binary import find_qemu
from hostvm.sizes import human_size
from hostvm.spec import load_spec
from images.store import verify_image

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec
    from hostvm.state import MachineState

CLOCK_MOST = 1.0
"""Seconds that the guest's clock may be off before it is worth a word."""

_GUEST_SECONDS = 15.0


def look_at_machine(paths: MachinePaths) -> Iterator[Finding]:
    """All that can be asked of it as it is, running or not; nothing is started."""
    seen = observe(paths)
    if seen.faults:
        fix = f"correct {paths.spec}, or remove the machine: hostvm rm --force {paths.name}"
        yield Finding(paths.name, "files", FAIL, "\n".join(seen.faults), fix)
    else:
        yield Finding(paths.name, "files", OK, str(paths.folder))
    yield from looked_at(paths.name, "keys", lambda: _keys(paths))
    if seen.state is not None:
        state = seen.state
        yield from looked_at(paths.name, "image", lambda: _image(paths, seen.spec, state))
        if state.arch != host_arch():
            yield from looked_at(paths.name, "emulator", lambda: _emulator(paths.name, state.arch))
        for path in (paths.data_disk, *more_files(paths.folder)):
            name = "disk" if path == paths.data_disk else path.stem
            yield from looked_at(paths.name, name, partial(_disk, paths.name, name, path, seen.status != "stopped"))
        if seen.status == "suspended":
            yield from looked_at(paths.name, "saved memory", lambda: _suspended(paths))
        else:
            yield from _running(paths, seen) if seen.status != "stopped" else _stopped(paths, state)


def _keys(paths: MachinePaths) -> Iterator[Finding]:
    loose = [
        path.name
        for path in sorted(paths.keys.iterdir())
        if sys.platform != "win32" and path.suffix != ".pub" and path.stat().st_mode & 0o077
    ]
    if loose:
        fix = f"chmod 0600 {paths.keys}/*_ed25519"
        yield Finding(paths.name, "keys", FAIL, f"others may read {', '.join(loose)}: sshd refuses such keys", fix)
    else:
        yield Finding(paths.name, "keys", OK, "readable by you alone")


def _image(paths: MachinePaths, spec: MachineSpec | None, state: MachineState) -> Iterator[Finding]:
    if paths.suspended.exists():
        require_image_of_memory(paths, state.image)
    image = machine_image(paths, spec, state.image) if spec else stored_image(state.image)
    verify_image(image)
    yield Finding(paths.name, "image", OK, f"{image.name} {image.digest[:12]}, every byte as it was made")


def _emulator(machine: str, arch: str) -> Iterator[Finding]:
    """Of a machine of a foreign architecture."""
    qemu = find_qemu(arch)
    found = f"{qemu.path}, version {qemu.version_text}, emulates {arch}"
    if crashes_guests(qemu):
        yield Finding(machine, "emulator", FAIL, f"{found} and crashes its guests", "install QEMU 9.0.4 or newer")
    else:
        yield Finding(machine, "emulator", OK, f"{found}, which is slow")


def _disk(machine: str, name: str, path: Path, running: bool) -> Iterator[Finding]:  # noqa: FBT001
    leaked = check_disk(path, in_use=running)
    used = f"{human_size(path.stat().st_size)} on this computer"
    if leaked:
        fix = f"hostvm stop {machine}; qemu-img check -r leaks {path}"
        yield Finding(machine, name, WARN, f"{used}; {leaked} clusters belong to nothing (harmless)", fix)
    else:
        yield Finding(machine, name, OK, used + ("; its tables can be checked when it is stopped" * running))


def _stopped(paths: MachinePaths, state: MachineState) -> Iterator[Finding]:
    if port_is_free(state.ssh_port):
        yield Finding(paths.name, "ssh port", OK, f"{state.ssh_port} is free")
    else:
        fix = "nothing: the next start takes another one"
        yield Finding(paths.name, "ssh port", WARN, f"{state.ssh_port} is taken by another program", fix)


def _suspended(paths: MachinePaths) -> Iterator[Finding]:
    saved = load_saved(paths)
    check_files(paths, saved)
    text = f"{human_size(saved.ram['size'])} of {saved.suspended}, every byte as it was written"
    yield Finding(paths.name, "saved memory", OK, text)


def _running(paths: MachinePaths, seen: Observation) -> Iterator[Finding]:
    if not seen.agent:
        fix = f"hostvm start {paths.name}   # gives it a new one"
        yield Finding(paths.name, "agent", FAIL, f"machine is {seen.status}, but no agent answers", fix)
        return
    if seen.silent:
        yield Finding(paths.name, "ssh server", FAIL, seen.silent, f"hostvm restart {paths.name}")
        return  # all else is asked through it
    if not seen.agent.get("ready"):
        found = f"{seen.agent.get('state')}: {seen.agent.get('error') or seen.agent.get('doing')}"
        yield Finding(paths.name, "agent", WARN, found, f"hostvm logs --console {paths.name}")
    else:
        yield Finding(paths.name, "agent", OK, f"process {seen.agent.get('pid')}, ready")
    if said := panics(paths.console):
        found = f"panicked {len(said)} time(s) since the last start, last: {said[-1]}"
        yield Finding(paths.name, "kernel", WARN, found, f"hostvm logs --console -n 200 {paths.name}")
    if closed := _closed_ports(seen):
        yield Finding(paths.name, "ports", WARN, "\n".join(closed), f"hostvm port ls {paths.name}")
    if seen.names_taken:
        yield Finding(
            paths.name, "names", WARN, f"{seen.names_taken}: no container answers by its name", seen.names_fix
        )
    yield from looked_at(paths.name, "guest", lambda: _guest(paths))
    look = _client if engine_of(paths.run_dir) in WITHOUT_DOCKER_API else _engine
    yield from looked_at(paths.name, "engine", lambda: look(paths))


def _closed_ports(seen: Observation) -> list[str]:
    services = seen.agent.get("services", {}).values()
    failed = [row for service in services for row in service.get("failed", [])]
    return [f"{row['host']} of {row['container']} cannot be opened: {row['why']}" for row in failed]


def _guest(paths: MachinePaths) -> Iterator[Finding]:
    before = time.time()
    told = run_in_guest(paths.run_dir, ["date", "+%s.%N"], timeout=_GUEST_SECONDS)
    took = time.time() - before
    try:
        off = float(told.stdout) - (before + took / 2)
    except ValueError:
        # A guest in trouble (no memory for another program, say) is what the doctor is asked for.
        why = told.stderr.decode(errors="replace").strip() or f"date ended with status {told.status}"
        found = f"the guest does not tell its time: {why}"
        yield Finding(paths.name, "clock", FAIL, found, f"hostvm logs {paths.name}")
        return
    # Half of the way there and back is unknown.
    if abs(off) > CLOCK_MOST + took / 2:
        yield Finding(paths.name, "clock", WARN, f"the guest is {off:+.1f} s off", f"hostvm restart {paths.name}")
    else:
        yield Finding(paths.name, "clock", OK, f"the guest is within {max(abs(off), took / 2):.1f} s")
    room = guest_room(paths, timeout=_GUEST_SECONDS)
    text = f"{human_size(room.used)} of {human_size(room.size)} used in the guest, {human_size(room.free)} free"
    if room.nearly_full:
        yield Finding(paths.name, "room", WARN, text, way_out(paths.name, load_spec(paths.spec)))
    else:
        yield Finding(paths.name, "room", OK, text)


def _client(paths: MachinePaths) -> Iterator[Finding]:
    """Of an engine that docker clients cannot talk to: its own client is asked."""
    done = run_in_guest(paths.run_dir, ["ctr", "version"], timeout=_GUEST_SECONDS)
    if done.status:
        why = (done.stderr or done.stdout).decode(errors="replace").strip()
        fix = f"hostvm logs --engine -n 50 {paths.name}"
        yield Finding(paths.name, "engine", FAIL, f"it does not answer: {why}", fix)
    else:
        versions = re.findall(r"^\s*Version:\s*(\S+)", done.stdout.decode(errors="replace"), re.MULTILINE)
        yield Finding(paths.name, "engine", OK, f"answers: containerd {' '.join(versions[-1:])}".rstrip())


def _engine(paths: MachinePaths) -> Iterator[Finding]:
    connection = http.client.HTTPConnection("engine", timeout=_GUEST_SECONDS)
    connection.sock = _connect(paths)
    try:
        connection.request("GET", "/_ping")
        answer = connection.getresponse()
        version = answer.getheader("Server", "")
    except (http.client.HTTPException, OSError) as error:
        fix = f"hostvm logs --engine -n 50 {paths.name}"
        yield Finding(paths.name, "engine", FAIL, f"it does not answer: {error}", fix)
    else:
        yield Finding(paths.name, "engine", OK, f"answers: {version}")
    finally:
        connection.close()


def _connect(paths: MachinePaths) -> socket.socket:
    from hostvm.platform.local import connect_local

    sock = connect_local(str(paths.docker_sock))
    sock.settimeout(_GUEST_SECONDS)
    return sock
