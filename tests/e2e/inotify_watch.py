"""Prints a line for each inotify event below a folder; ends when it is killed. Run in a container: FOLDER."""

from __future__ import annotations

import ctypes
import os
import struct
import sys

NAMES = {0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE"}
NAMES |= {0x200: "DELETE"}

libc = ctypes.CDLL(None, use_errno=True)
watcher = libc.inotify_init()
assert libc.inotify_add_watch(watcher, os.fsencode(sys.argv[1]), sum(NAMES)) >= 0
os.write(1, b"READY\n")
while True:
    data = os.read(watcher, 65536)
    while data:
        _, mask, _, length = struct.unpack_from("iIII", data)
        name = os.fsdecode(data[16 : 16 + length].rstrip(b"\0"))
        data = data[16 + length :]
        for bit, word in NAMES.items():
            if mask & bit:
                os.write(1, os.fsencode(f"{word} {name}\n"))
