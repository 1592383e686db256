"""hostvm's commands, run as a user types them, for the tests beside this file."""

from __future__ import annotations

import os
import subprocess
import sys


def hostvm(*words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"HOSTVM_CLIENT": "guest"}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words], capture_output=True, text=True, check=False, timeout=300, env=env
    )


def succeed(*words: str) -> str:
    done = hostvm(*words)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout
