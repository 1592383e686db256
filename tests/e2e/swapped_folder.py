"""Reads, lists and writes what is in FOLDER again and again for SECONDS; prints as JSON how often it got what.

Run in a container as `python3 swapped_folder.py FOLDER SECONDS`, while something else stands in the folder's place
every other moment.
"""

from __future__ import annotations

import errno
import json
import sys
import time
from collections import Counter
from pathlib import Path


def main(folder: str, seconds: str) -> None:
    inside = Path(folder)
    acts = (
        (inside / "secret").read_text,
        lambda: sorted(entry.name for entry in inside.iterdir()),
        lambda: (inside / "made").write_text("by the container"),
    )
    got: Counter[str] = Counter()
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        for act in acts:
            try:
                got[str(act())] += 1
            except OSError as fault:
                got[errno.errorcode.get(fault.errno or 0, str(fault))] += 1
    json.dump(got, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
