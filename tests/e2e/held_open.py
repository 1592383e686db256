"""Keeps FILE open, and looks at it by that descriptor alone: neither opened again nor asked for by its name.

Run in a container as `python3 held_open.py FILE SECONDS`. Prints READY; then, for each line of standard input, a text
as JSON, reads until that is what the file says, for so many seconds at most, and prints as JSON what it said last.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(file: str, seconds: str) -> None:
    opened = os.open(file, os.O_RDONLY)
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    for line in sys.stdin:
        wanted = json.loads(line).encode()
        deadline = time.monotonic() + float(seconds)
        while (seen := os.pread(opened, 65536, 0)) != wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        sys.stdout.write(f"{json.dumps(seen.decode())}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
