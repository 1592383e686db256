"""For each line `NAME` of standard input looks at FOLDER/NAME at once and prints what is there, as JSON.

Run in a container as `python3 look_again.py FOLDER SECONDS HELD`. The file of the name HELD is kept open from the first
look at it: `held` is what a program sees that does not open it again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main(folder: str, seconds: str, held: str) -> None:
    opened = None
    for line in sys.stdin:
        name = line.rstrip("\n")
        time.sleep(float(seconds))
        path = Path(folder, name)
        seen: dict[str, object] = {"listed": path in Path(folder).iterdir()}
        try:
            # As programs look: some at the attributes first, some at the content.
            seen["size"] = path.stat().st_size
            seen["text"] = path.read_text()
        except FileNotFoundError:
            seen["gone"] = True
        if name == held:
            opened = opened or path.open("rb", buffering=0)
            seen["held"] = os.pread(opened.fileno(), os.fstat(opened.fileno()).st_size, 0).decode()
        sys.stdout.write(f"{json.dumps(seen)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
