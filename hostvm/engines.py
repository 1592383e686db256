"""The container engines a machine can have, and what the layers below them must know. Imports nothing."""

from __future__ import annotations

LOGS = {
    "docker": "/var/log/dockerd/current",
    "podman": "/var/log/podman/current",
    "containerd": "/var/log/containerd/current",
}
"""Engine -> where in the guest it says what it does."""

ENGINES = tuple(LOGS)

WITHOUT_DOCKER_API = frozenset({"containerd"})
"""Engines that docker clients cannot talk to: a machine with one has no docker.sock."""
