"""hostvm as another user of another computer has it: nothing but packages in the cache, another zone, mask and home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

OTHER = {"TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "7", "USER": "somebody"}
# A mirror that stands still serves suites whose time is over: for them it is the moment that the first word names.
SET_BACK = """
import datetime, sys
import images.archive.archive as archive

moment = datetime.datetime.fromisoformat(sys.argv.pop(1))

class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return moment.astimezone(tz)

archive.datetime = Clock
from cli.main import main

sys.exit(main(sys.argv[1:]))
"""


def hostvm_elsewhere(cache: Path, *words: str, clock: datetime | None = None, timeout: float = 280) -> None:
    """Run `hostvm WORDS` in a process whose cache is `cache`, a new folder; packages are those that are here.

    :param clock: what the archive's dates are compared with, instead of now.
    """
    cache.mkdir()
    (cache / "archive").symlink_to(Path(os.environ["HOSTVM_CACHE"]) / "archive")
    env = {**os.environ, **OTHER, "HOME": str(cache), "HOSTVM_CACHE": str(cache)}
    run_hostvm(*words, clock=clock, cwd=cache, env=env, mask="077", timeout=timeout)


def run_hostvm(
    *words: str,
    cwd: Path,
    clock: datetime | None = None,
    env: dict[str, str] | None = None,
    mask: str = "022",
    timeout: float = 280,
) -> None:
    """Run `hostvm WORDS` in a process of its own, with this one's cache unless `env` says another."""
    hostvm: list[str | Path] = [Path(sys.executable).with_name("hostvm")]
    if clock is not None:
        hostvm = [sys.executable, "-c", SET_BACK, clock.isoformat()]
    line = ["sh", "-c", 'umask "$1"; shift; exec "$@"', "hostvm", mask, *hostvm, *words]
    subprocess.run(line, env=env, cwd=cwd, check=True, timeout=timeout)
