"""Run by CPython for Windows on a terminal: tells its size, then each key it gets raw, until q."""

from __future__ import annotations

import os

from cli.forward import terminal_size
from cli.terminal import console_reader, make_binary, raw_terminal

print("size", *terminal_size(1), "terminals", os.isatty(0), os.isatty(1), flush=True)
make_binary(0, 1)
read = console_reader(0)
assert read is not None
with raw_terminal(0, 1):
    os.write(1, b"ready\r\n")
    while (keys := read(64)) and b"q" not in keys:
        os.write(1, b"keys %s size %d %d\r\n" % (keys.hex().encode(), *terminal_size(1)))
print("restored", flush=True)
