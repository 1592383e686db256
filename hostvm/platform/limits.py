"""Limits of the process."""

from __future__ import annotations

import sys

_WANTED = 65536


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system does: macOS begins with 256, a relay takes one each."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return  # macOS refuses more than kern.maxfilesperproc; what there is must do
