"""The forwarding client as a process: `python client_process.py RUN_DIR tty|plain|auto|draw|quiet ARGV...`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cli.forward import forward
from cli.printer import print_failure
from hostvm.errors import HostvmError

MODES = {"tty": (True, 0), "plain": (False, 0), "auto": (None, 0), "draw": (True, None), "quiet": (False, None)}


def main() -> int:
    tty, stdin = MODES[sys.argv[2]]
    try:
        return forward(Path(sys.argv[1]), sys.argv[3:], tty=tty, stdin=stdin)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except HostvmError as error:
        return print_failure(error, forwarded=True, verbose=0)


if __name__ == "__main__":
    sys.exit(main())
