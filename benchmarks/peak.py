"""Run a command and tell how much memory it took at most.

    python -I -S benchmarks/peak.py FILE COMMAND...

Writes its peak resident memory (KiB on Linux, bytes on macOS: `getrusage`) to FILE and ends as it does. The kernel
counts for a process what it was before `exec`, so a command that a large program starts is said to be as large;
started from here it is not, down to some 9 MiB.
"""

import os
import sys


def main() -> None:
    """Run, wait, write."""
    to, *words = sys.argv[1:]
    pid = os.fork()
    if pid == 0:
        os.execvp(words[0], words)
    _, status, usage = os.wait4(pid, 0)
    with open(to, "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib would take memory
        file.write(str(usage.ru_maxrss))
    sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main()
