"""Whether a task runs, in any namespace: a machine with one must not be put to sleep.

`ctr` is a large program to start every few seconds, once for each namespace. So what is looked for are the tasks' first
processes, whose numbers containerd's shims keep in the tasks' folders.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.agent.service import Host
    from hostvm.guest import Guest, GuestProcess

# A line of input asks, 1 or 0 is the answer. Words of the shell's own only: nothing is started for it.
_LOOK = """\
while read -r _; do
  runs=0
  for file in /run/containerd/io.containerd.runtime.v2.task/*/*/init.pid; do
    pid=
    [ -f "$file" ] && read -r pid 2> /dev/null < "$file"
    [ -n "$pid" ] && [ -d "/proc/$pid" ] && runs=1
  done
  echo $runs
done
"""
_CHUNK = 1024
_SLOW = 0.25
"""Seconds. A guest that takes longer to answer is at work, and may have begun a task meanwhile; see `idle.after`."""


class TaskService:
    """Implements `hostvm.agent.service.Service`.

    The guest is looked at as often as somebody asks, not more: each `in_use` tells what the look before it found.
    """

    name = "tasks"
    early = False

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs = True  # as long as nobody knows
        self._since: float | None = None  # when what is not answered yet was asked
        self._stopped = threading.Event()
        self._asked = threading.Event()

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`; looks at once."""
        self._stopped, self._asked = threading.Event(), threading.Event()
        self._since = self._clock()
        self._asked.set()
        words = (guest, host, self._stopped, self._asked)
        threading.Thread(target=self._work, args=words, name="tasks", daemon=True).start()

    def stop(self) -> None:
        """See `Service.stop`."""
        self._stopped.set()
        self._asked.set()

    def in_use(self) -> bool:
        """See `hostvm.agent.service.Uses`: a task runs, or is paused."""
        now, since = self._clock(), self._since
        if since is None:
            since = self._since = now
            self._asked.set()
        return self._runs or now - since > _SLOW

    def describe(self) -> dict[str, Any]:
        """See `Service.describe`."""
        return {}

    def _work(self, guest: Guest, host: Host, stopped: threading.Event, asked: threading.Event) -> None:
        look: GuestProcess | None = None
        while True:
            asked.wait()
            asked.clear()
            if stopped.is_set():
                break
            try:
                look = look or guest.stream(["sh", "-c", _LOOK])
                self._runs = any_runs(look)
            except (OSError, HostvmError) as fault:
                look, self._runs = None, True
                if not stopped.is_set():
                    host.log(f"tasks: {fault}".replace("\n", ": "))
            self._since = None
        if look is not None:
            look.close()


def any_runs(look: GuestProcess) -> bool:
    """Ask the kept program once.

    :raises OSError: it has ended.
    """
    look.write_stdin(b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        more = look.read_stdout(_CHUNK)
        if not more:
            raise ConnectionError("the program that looks for tasks has ended")
        answer += more
    return answer.strip() != b"0"
