"""A machine's agent for which this computer's clock is off by the seconds in a file: `agent_off_clock.py RUN_DIR FILE`.

Its count of seconds is left alone, as by whoever sets a clock.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    off, right = Path(sys.argv[2]), time.time
    time.time = lambda: right() + float(off.read_text())
    from cli.agent_main import main  # what it imports keeps the function that it finds

    sys.exit(main([sys.argv[1]]))
