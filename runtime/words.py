"""The engines' own words that `hostvm` forwards as they are. Imports nothing: the forwarding client reads this."""

from __future__ import annotations

# word -> (engines that have it, argv in the guest before the user's arguments)
FORWARDED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "docker": (("docker", "podman"), ("docker",)),
    "compose": (("docker", "podman"), ("docker", "compose")),
    "podman": (("podman",), ("podman",)),
    "nerdctl": (("containerd",), ("nerdctl",)),
    "ctr": (("containerd",), ("ctr",)),
}

# Those that a guest image need not have, and variables that they need in the guest.
BROUGHT = {"nerdctl": {"CNI_PATH": "/usr/lib/cni"}}  # where Debian's containernetworking-plugins has them

# Those of Docker's own client, which a client of this computer can run as well.
DOCKERS = frozenset({"docker", "compose"})

# What to type first, by engine.
FIRST = {"docker": "docker run --rm IMAGE", "podman": "podman run --rm IMAGE", "containerd": "ctr run --rm IMAGE NAME"}
