"""The container engines a machine can have, and what the layers below them must know. Imports nothing."""

from __future__ import annotations

LOGS = {
    "docker": "/var/log/dockerd/current",
    "podman": "/var/log/podman/current",
    "containerd": "/var/log/containerd/current",
}
"""Engine -> where in the guest it says what it does."""

ENGINES = tuple(LOGS)

ROOTLESS = frozenset({"docker", "podman"})
"""Engines that can run without root's rights in the guest."""

AS_ENGINE = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
"""Words before a program of the guest that run it as a rootless engine's user (images/files/rootless)."""

WITHOUT_DOCKER_API = frozenset({"containerd"})
"""Engines that docker clients cannot talk to: a machine with one has no docker.sock."""


def own_image(engine: str, *, rootless: bool) -> str:
    """The recipe of an engine's guest image."""
    return f"{engine}-rootless" if rootless else engine
