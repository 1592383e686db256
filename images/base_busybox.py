"""The busybox base image: one program and a link for each of its applets."""

from __future__ import annotations

import re

from images.errors import ImageError
from images.initramfs import own_files
from images.recipe import FILES
from images.tree import Tree

_FOLDERS = {"dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "sys": 0o755}


def busybox_tree(busybox: bytes) -> Tree:
    """busybox with a link for each of its applets."""
    tree = Tree()
    for path, mode in _FOLDERS.items():
        tree.add_dir(path, mode)
    tree.add_dir("tmp", 0o1777)
    tree.add_dir("var/spool/mail")
    tree.add_file("bin/busybox", busybox, 0o755)
    for applet in busybox_applets(busybox):
        tree.add_link(f"bin/{applet}", "busybox")
    # Scripts that begin with "#!/usr/bin/env sh" are common.
    tree.add_link("usr/bin/env", "../../bin/env")
    for path, data, mode in own_files(FILES / "base-busybox"):
        tree.add_file(path, data, mode)
    return tree


def busybox_applets(busybox: bytes) -> list[str]:
    """The applets a busybox binary has, read from its table of names (NUL-ended, sorted, `[` first).

    The binary cannot simply be asked: it is for the guest's processor and system.

    :raises ImageError: there is no such table.
    """
    start = busybox.find(b"[\0[[\0")
    end = busybox.find(b"\0\0", start)
    names = busybox[start:end].decode("ascii", "replace").split("\0") if 0 <= start < end else []
    if "sh" not in names or not all(re.fullmatch(r"[\w\[\-.]+", name) for name in names):
        raise ImageError("busybox's list of applets was not found", None, "Report this with the package's version")
    return [name for name in names if name != "busybox"]
