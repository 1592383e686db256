"""Runs the scripts of a machine's `provision:` in its guest, each at its time, and keeps what they say."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from hostvm.errors import MachineError
from hostvm.files import tail
from hostvm.provision import SECONDS_MOST, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Self

    from hostvm.guest import Guest

# What ran in this boot is known by its status in /run, what need not run again by a file on the data disk. So a new
# agent of the same boot repeats nothing. One that runs on without its agent is waited for, and a failure that nobody
# hears of (its last line ends this shell) is none of the script's own: what it had to say had nobody to go to.
_RUN = r"""
cd; n=$1 here=/run/hostvm/provision once=
[ "$2" = once ] && once=/var/lib/hostvm/provision/$3
mkdir -p $here
until
	before=$(cat $here/$n.pid 2> /dev/null)
	[ "${before:-$$}" = $$ ] || ! grep -qs provision /proc/$before/cmdline
do sleep 0.2; done
echo $$ > $here/$n.pid
[ -f $here/$n.status ] && exit "$(cat $here/$n.status)"
[ -n "$once" ] && [ -e "$once" ] && { echo 0 > $here/$n.status; exit 0; }
cp /run/hostvm/seed/provision/$n $here/$n && chmod 0700 $here/$n
IFS= read -r first < $here/$n
case "$first" in '#!'*) $here/$n ;; *) sh $here/$n ;; esac < /dev/null 2>&1
status=$?
[ $status -eq 0 ] || echo "== status $status"
echo $status > $here/$n.status
if [ $status -eq 0 ] && [ -n "$once" ]; then
	# What the script did is on the disks before this says that it was done: a power cut could keep the latter alone.
	sync -f /var/lib/hostvm $(cut -d ' ' -f 2 /run/hostvm/seed/disks 2> /dev/null)
	mkdir -p "${once%/*}" && : > "$once"
fi
exit $status
"""
# The data disk, with the home folder, and the folders of this computer; for these no longer than the engine would.
_WAIT = """
n=0 seed=/run/hostvm/seed marks=/run/hostvm/marks
until [ -e $marks/services ]; do usleep 50000; done
until [ ! -f $seed/shares ] || [ -e $marks/shares ] || [ $((n += 1)) -gt 400 ]; do usleep 50000; done
cat $seed/provision/table
"""
_MARK = ["touch", "/run/hostvm/marks/provisioned"]
_WAIT_SECONDS = 120.0
_LINES = 20
_LOG_MOST = 1 << 20


class Provisioner:
    """The scripts of one machine.

    :param log: receives their output; past 1 MiB it becomes `log`.1 before the next script.
    :param env: variables of programs in the guest.
    """

    def __init__(self, machine: str, log: Path, env: Mapping[str, str]) -> None:
        self._machine = machine
        self._log = log
        self._env = env
        self._faults: dict[str, MachineError] = {}

    def run(self, mode: str, guest: Guest, say: Callable[[str], None]) -> None:
        """Run those of a mode that have not run in this boot, in their order; the first that fails is the last.

        The engine waits for the end of the `system` ones.

        :raises MachineError: one failed, now or before.
        :raises SshError: the connection was lost; the script begins anew with the next one.
        """
        if mode in self._faults:
            raise self._faults[mode]
        table = guest.run(["busybox", "sh", "-c", _WAIT], timeout=_WAIT_SECONDS)
        rows = [line.split() for line in table.stdout.decode().splitlines()]
        for number, (its_mode, when, digest) in enumerate(rows):
            if its_mode != mode:
                continue
            say(f"provision {number + 1} of {len(rows)} ({mode})")
            status = self._run(guest, number, when, digest)
            if status != 0:
                self._faults[mode] = self._fault(number, mode, status)
                raise self._faults[mode]
        if mode == SYSTEM:
            guest.run(_MARK)

    def _run(self, guest: Guest, number: int, when: str, digest: str) -> int:
        with _Log(self._log) as log:
            log.write(f"== {time.strftime('%Y-%m-%d %H:%M:%S')} provision[{number}]\n".encode())
            process = guest.stream(["sh", "-c", _RUN, "provision", str(number), when, digest], env=self._env)
            late = threading.Event()

            def cut() -> None:
                late.set()
                process.signal("KILL")
                process.close()

            timer = threading.Timer(SECONDS_MOST, cut)
            timer.daemon = True
            timer.start()
            try:
                process.close_stdin()
                while data := process.read_stdout(65536):
                    log.write(data)
                if late.is_set():
                    log.write(f"\nkilled: it took longer than {SECONDS_MOST:.0f} s\n".encode())
                    return 137
                status = process.wait()
                if status == 0:
                    log.write(b"== status 0\n")  # others are told there
                return status
            finally:
                timer.cancel()
                process.close()

    def _fault(self, number: int, mode: str, status: int) -> MachineError:
        effect = "; the engine was not started" if mode == SYSTEM else ""
        return MachineError(
            f"the script provision[{number}] of machine {self._machine} failed with status {status}{effect}",
            f"its output ends with:\n{tail(self._log, _LINES)}",
            f"all of it: hostvm logs --provision {self._machine}\ncorrect it: hostvm edit {self._machine}",
        )


class _Log:
    """Appends to a file (0600). No script fails because this computer's disk is full: what does not fit is lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        with suppress(OSError):
            if self._path.exists() and self._path.stat().st_size > _LOG_MOST:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = open(self._path, "ab", buffering=0, opener=_private)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, data: bytes) -> None:
        with suppress(OSError):
            if self._file is not None:
                self._file.write(data)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
