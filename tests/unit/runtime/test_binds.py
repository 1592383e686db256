from __future__ import annotations

from runtime.docker.binds import bind_sources


def test_only_bind_mounts_count():
    containers = [
        {"Mounts": [{"Type": "bind", "Source": "/home/me"}, {"Type": "volume", "Source": "/var/lib/docker/volumes/v"}]},
        {"Mounts": None},
        {"Mounts": [{"Type": "bind", "Source": "/home/me"}, {"Type": "bind", "Source": "/src"}, {"Type": "tmpfs"}]},
    ]
    assert bind_sources(containers) == {"/home/me", "/src"}
