"""Tries every way to change what is in a folder; prints a JSON object of way to the error's name, or "done". FOLDER.

In the folder are the file `kept` and the folders `empty` and `full`.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

folder = Path(sys.argv[1])
kept, empty, full, new = (folder / name for name in ("kept", "empty", "full", "new"))


def opened(flags: int, path: Path = kept) -> None:
    file = os.open(path, flags)
    try:
        os.write(file, b"x")
        os.fsync(file)
    finally:
        os.close(file)


WAYS = {
    "write": lambda: opened(os.O_WRONLY),
    "read and write": lambda: opened(os.O_RDWR),
    "append": lambda: opened(os.O_WRONLY | os.O_APPEND),
    "O_TRUNC": lambda: opened(os.O_WRONLY | os.O_TRUNC),
    "O_TRUNC to read": lambda: os.close(os.open(kept, os.O_RDONLY | os.O_TRUNC)),
    "truncate": lambda: os.truncate(kept, 0),
    "create": lambda: opened(os.O_WRONLY | os.O_CREAT | os.O_EXCL, new),
    "mkdir": new.mkdir,
    "mkfifo": lambda: os.mkfifo(new),
    "symlink": lambda: new.symlink_to("kept"),
    "link": lambda: new.hardlink_to(kept),
    "unlink": kept.unlink,
    "rmdir": empty.rmdir,
    "rename": lambda: kept.rename(new),
    "rename over": lambda: (full / "inner").rename(kept),
    "rename a folder": lambda: full.rename(new),
    "chmod": lambda: kept.chmod(0o777),
    "chmod of the folder": lambda: folder.chmod(0o777),
    "chown": lambda: os.chown(kept, 1000, 1000),
    "utime": lambda: os.utime(kept, (1, 1)),
}

said = {}
for way, act in WAYS.items():
    try:
        act()
        said[way] = "done"
    except OSError as error:
        said[way] = errno.errorcode[error.errno]
json.dump(said, sys.stdout)
