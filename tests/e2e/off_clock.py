"""Python for which this computer's clock is off by the seconds in a file.

Run as `off_clock.py FILE PYTHON -P -m MODULE WORDS`.
Its count of seconds is left alone, as by whoever sets a clock, and so are the times of files. PYTHON is the program by
which MODULE is to start others of its own.
"""

from __future__ import annotations

import datetime as dt
import runpy
import shlex
import sys
import time
from pathlib import Path

_BILLION = 1_000_000_000


def write_python(folder: Path) -> tuple[Path, Path]:
    """Make a program that is such a Python, and stays one in all that it starts as itself; gives it, and FILE."""
    python, file = folder / "python", folder / "off"
    words = shlex.join([sys.executable, __file__, str(file), str(python)])
    python.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    python.chmod(0o755)
    put(file, 0.0)
    return python, file


def put(file: Path, seconds: float) -> None:
    """Set the clock of whoever reads that file, at once."""
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(file)


def _set_off(file: Path) -> None:
    right, right_ns, right_date = time.time, time.time_ns, dt.datetime

    class OffDate(right_date):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> OffDate:
            return cls.fromtimestamp(time.time(), tz)

    time.time = lambda: right() + float(file.read_text())
    time.time_ns = lambda: right_ns() + int(float(file.read_text()) * _BILLION)
    dt.datetime = OffDate


if __name__ == "__main__":
    _, _file, _python, *_words = sys.argv
    _set_off(Path(_file))
    sys.executable = _python
    del sys.path[0]  # this file's own folder
    _module = _words[_words.index("-m") + 1]  # what it imports keeps the functions that it finds
    sys.argv = [_module, *_words[_words.index("-m") + 2 :]]
    runpy.run_module(_module, run_name="__main__", alter_sys=True)
