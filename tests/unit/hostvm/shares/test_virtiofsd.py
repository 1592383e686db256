"""What the virtiofs daemons are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostvm.shares.device import DeviceShare
from hostvm.shares.virtiofsd import RUST, C, daemon_argv

SHARE = DeviceShare("virtiofs", "share0", Path("/home/a,b\\c"), "/w", readonly=False, socket=Path("/run/share0.sock"))


def test_the_daemon_in_c_lets_the_guest_remember_nothing():
    assert daemon_argv(C[0], SHARE, 7, uncached=False) == [
        str(C[0]), "--fd=7",
        "-o", "source=/home/a\\,b\\\\c",
        "-o", "cache=auto",
        "-o", "timeout=0",
        "-o", "xattr",
    ]  # fmt: skip


@pytest.mark.parametrize(("uncached", "cache"), [(True, ["--cache=never", "--allow-mmap"]), (False, ["--cache=auto"])])
def test_the_daemon_in_rust_caches_only_where_it_could_not_map_otherwise(uncached, cache):
    assert daemon_argv(RUST[0], SHARE, 7, uncached=uncached) == [
        str(RUST[0]), "--fd=7", "--shared-dir", "/home/a,b\\c", *cache, "--xattr",
    ]  # fmt: skip
