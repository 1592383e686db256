"""Looks again and again for FOLDER/NUMBER, for each line `NUMBER` of standard input, which says that it is there.

Run in a container as `python3 stays_there.py FOLDER SECONDS`. Begins some moment later, looks for so many seconds, and
prints `NUMBER there`, or `NUMBER gone` where one look found nothing. Each next number was looked for once before.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path


def main(folder: str, seconds: str) -> None:
    for line in sys.stdin:
        number = int(line)
        path, said = Path(folder, str(number)), "there"
        time.sleep(random.uniform(0, float(seconds)))
        deadline = time.monotonic() + float(seconds)
        while time.monotonic() < deadline:
            if not path.exists():
                said = "gone"
        Path(folder, str(number + 1)).exists()
        sys.stdout.write(f"{number} {said}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
