"""Who is killed, when, and how far things were then."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from machines import HOSTVM, folders_of, processes_of  # a helper of the e2e tests

from hostvm import process_id
from hostvm.agent import protocol
from hostvm.agent.client import Agent, run_in_guest
from hostvm.errors import HostvmError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INSIDE = ("dockerd", "containerd")
"""Victims that live in the guest."""

_BEGUN_SECONDS, _END_SECONDS = 60.0, 300.0
_AGAIN_SECONDS = 0.3  # a guest that goes on from memory is ready at once
_LOCK_PAUSE = 0.005  # moments are drawn from then on, some of them within 0.3 s
_MARK = re.compile(rb"hostvm-guest: (?:mark|fail) (\S+)")
_CHANGING = re.compile(r"^#\d+ (?:\d+\.\d+ )?|\b[0-9a-f]{12}: |\d+(?:\.\d+)?(?:s|[kM]?B)\b")
"""What differs from one run of a docker command to the next: numbers of steps, digests, times and sizes."""

# The victim may be about to start.
_KILL = """\
n=0
until pid=$(pidof "$1"); do [ $((n += 1)) -le 200 ] || exit 1; busybox usleep 50000; done
busybox usleep "$2"
kill -9 $pid
"""

# The shell is there and knows the victim before the word comes.
_KILL_AT_WORD = """\
pid=$(pidof "$1") || exit 1
echo ready
read -r pause
busybox usleep "$pause"
kill -9 $pid
"""


@dataclass(frozen=True)
class Blow:
    """One `kill -9`.

    :param hit: the victim lived, and what was to be disturbed was on its way.
    :param phase: how far it was.
    :param late: the command was over.
    """

    hit: bool
    phase: str
    late: bool = False


class Trigger:
    """A kill in a guest that runs, ready to follow the word: starting a program there may take what a phase lasts."""

    def __init__(self, name: str, victim: str) -> None:
        self._agent = Agent(folders_of(name)[1], 60.0)
        self._agent.ask("exec", argv=["sh", "-c", _KILL_AT_WORD, "kill", victim], wait=60.0, ready=False, own=True)
        self._agent.answer()
        assert self._agent.next_frame() == (protocol.STDOUT, b"ready\n"), f"no {victim} in {name}"

    def pull(self, after: float) -> bool:
        """Whether the victim was killed, `after` seconds from now, as far as is known."""
        word = protocol.frame(protocol.STDIN, b"%d\n" % int(after * 1e6))
        try:
            with self._agent as agent:
                agent.sock.sendall(word)
                while (told := agent.next_frame())[0] != protocol.EXIT:
                    pass
                return protocol.parse_number(told[1]) == 0
        except (HostvmError, OSError):  # the agent has ended
            return False


class Command:
    """A hostvm command on its way, with all that it says in a file.

    :ivar trigger: of the kill that is to disturb it, where that was set up before it began.
    """

    trigger: Trigger | None = None

    def __init__(self, words: list[str], said: Path, env: dict[str, str] | None = None) -> None:
        self._said = said
        with said.open("wb") as file:
            self._process = subprocess.Popen(
                [HOSTVM, *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, "HOSTVM_CLIENT": "guest", **(env or {})},
            )
        self.pid = self._process.pid

    def runs(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> bool:
        """Whether that is what ended it."""
        self._process.kill()
        return self._process.wait(_END_SECONDS) == -signal.SIGKILL

    def speaks(self) -> bool:
        """Whether it has said anything yet."""
        return self._said.stat().st_size > 0

    def last_line(self) -> str:
        lines = [line for line in self._said.read_text(errors="replace").splitlines() if line.strip()]
        return _CHANGING.sub("", lines[-1]).strip() if lines else "nothing said yet"

    def end(self) -> str:
        """What it said in all; it is killed when it takes too long."""
        try:
            self._process.wait(_END_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
        return self._said.read_text(errors="replace")


def qemu_of(name: str) -> int:
    return int((folders_of(name)[1] / "qemu.pid").read_text())


def agent_of(name: str) -> int:
    return int(json.loads((folders_of(name)[1] / "agent.json").read_text())["process"][0])


def find(name: str, victim: str) -> process_id.ProcessId | None:
    """QEMU or the agent of a machine; None when it is not there yet, or any more."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = process_id.identify({"qemu": qemu_of, "agent": agent_of}[victim](name))
        # The number of one that is gone may be somebody else's by now.
        if found is not None and any(name in word for word in process_id.command_of(found.pid)):
            return found
    return None


def phase_of(name: str) -> str:
    """How far a machine is on its way up or down: its processes, its saved memory, its guest's last mark."""
    folder = folders_of(name)[0]
    facts = [victim if find(name, victim) else f"no {victim}" for victim in ("qemu", "agent")]
    facts += sorted(path.name for path in folder.glob("suspended.*"))
    with contextlib.suppress(OSError):
        marks = _MARK.findall((folder / "console.log").read_bytes())
        facts += [f"mark {marks[-1].decode()}"] if marks else []
    return ", ".join(facts)


def wait_for_lock(name: str, command: Command) -> None:
    """Until a command works on the machine: what was killed before that had not begun."""
    holder = folders_of(name)[0].parent.parent / "locks" / f"{name}.holder"

    def holds() -> bool:
        with contextlib.suppress(OSError):
            return holder.read_text().startswith(f"process {command.pid}:")
        return False

    deadline = time.monotonic() + _BEGUN_SECONDS
    while not holds() and command.runs():
        assert time.monotonic() < deadline, f"after {_BEGUN_SECONDS:.0f} s it has not the machine's lock"
        time.sleep(_LOCK_PAUSE)


def strike(name: str, victim: str, command: Command, after: float, look: Callable[[Command], str]) -> Blow:
    """Kill the victim of a machine in the midst of a command, `after` seconds from now."""
    if victim in INSIDE:
        return _strike_inside(name, victim, command, after, look)
    time.sleep(after)  # the moment is what is tried
    phase, late = look(command), not command.runs()
    if victim == "command":
        return Blow(command.kill(), phase, late)
    found = find(name, victim)
    if found is None:
        return Blow(False, phase, late)
    os.kill(found.pid, signal.SIGKILL)
    hit = command.runs()  # at once: it may end because of it
    process_id.wait_gone(found, 10)
    return Blow(hit, phase, late)


def _strike_inside(name: str, victim: str, command: Command, after: float, look: Callable[[Command], str]) -> Blow:
    """By the agent's own connection, which is there before the machine is ready, and while it stops."""
    if command.trigger is not None:
        if command.trigger.pull(after):
            return Blow(command.runs(), look(command), not command.runs())
        after = min(after, _AGAIN_SECONDS)  # that guest is gone: what a command brings in its place is as good
    while command.runs():
        if kill_inside(name, victim, after):
            return Blow(command.runs(), look(command), not command.runs())
        time.sleep(0.02)
    return Blow(False, look(command), late=True)


def kill_inside(name: str, victim: str, after: float = 0.0) -> bool:
    """Whether it lived, and was killed, as far as is known."""
    words = ["sh", "-c", _KILL, "kill", victim, str(int(after * 1e6))]
    try:
        return run_in_guest(folders_of(name)[1], words, timeout=60.0).status == 0
    except (HostvmError, OSError):  # no agent or no connection (yet, or any more)
        return False


def kill_at_rest(name: str, victim: str) -> Blow:
    if victim in INSIDE:
        return Blow(kill_inside(name, victim), "at rest")
    found = find(name, victim)
    if found is not None:
        os.kill(found.pid, signal.SIGKILL)
        process_id.wait_gone(found, 10)
    return Blow(found is not None, "at rest")


def is_alone(name: str) -> bool:
    """Whether its QEMU and its agent are all that is left of a running machine's processes."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return set(processes_of(name)) == {qemu_of(name), agent_of(name)}
    return False
