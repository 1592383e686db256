"""Prints a line for each inotify event in a folder and those in it; ends when it is killed. Run in a container: FOLDER.

As programs do that watch a tree: a folder that is told as made or moved there is watched from then on, with what is in
it by then. Nothing is said of a file that no event tells of.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

NAMES = {0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE"}
NAMES |= {0x200: "DELETE"}
CAME, FOLDER = 0x100 | 0x80, 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
watcher = libc.inotify_init()
watched: dict[int, str] = {}


def watch(folder: str) -> None:
    """A folder, "" being the whole, and all in it."""
    for path, _, _ in os.walk(f"{sys.argv[1]}/{folder}"):
        number = libc.inotify_add_watch(watcher, os.fsencode(path), sum(NAMES))
        if number < 0 and folder:  # it is gone by now
            continue
        assert number >= 0, path
        inside = os.path.relpath(path, sys.argv[1])
        watched[number] = "" if inside == "." else f"{inside}/"


watch("")
os.write(1, b"READY\n")
while True:
    data = os.read(watcher, 65536)
    while data:
        number, mask, _, length = struct.unpack_from("iIII", data)
        name = watched.get(number, "") + os.fsdecode(data[16 : 16 + length].rstrip(b"\0"))
        data = data[16 + length :]
        if mask & FOLDER and mask & CAME:
            watch(name)
        for bit, word in NAMES.items():
            if mask & bit:
                os.write(1, os.fsencode(f"{word} {name}\n"))
