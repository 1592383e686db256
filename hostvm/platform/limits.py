"""Limits of the process."""

from __future__ import annotations

import sys

_WANTED = 65536


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system does: macOS begins with 256, a relay takes one each.

    macOS refuses more than kern.maxfilesperproc, which is 61440 with 8 GiB of memory and was 10240 before, whatever its
    hard limit says: half as many are asked for then, and half of those.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    while wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            wanted //= 2
        else:
            return
