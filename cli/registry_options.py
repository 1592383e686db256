"""The options of `hostvm registry`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from runtime.registry.wanted import HUB, PORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Verb: TypeAlias = Callable[..., argparse.ArgumentParser]


def add_registry_verbs(verbs: Any, verb: Verb) -> None:
    """Add them.

    :param verb: makes one, as manage.py does.
    """
    registry = verbs.add_parser("registry", help="a registry of container images in the machine")
    parts = registry.add_subparsers(title="commands", metavar="COMMAND", required=True)
    start = verb(
        parts,
        "start",
        "registry:start",
        "run a registry whenever the machine runs: localhost:PORT in the guest and on this computer",
        "hostvm registry start",
        "hostvm docker push localhost:5000/app",
        "hostvm registry start ci --port 5001 --auth alice --tls",
        "hostvm registry start --auth alice --password-stdin < secret",
        "hostvm registry start --mirror            # of Docker Hub; the engine asks it first",
    )
    start.description = f"{start.description}; options that are not given stay as they were"
    start.add_argument("--port", type=int, metavar="PORT", help=f"its port, there and here (default: {PORT})")
    auth = start.add_mutually_exclusive_group()
    auth.add_argument(
        "--auth", metavar="USER", type=str, help="only for this user; the password is made up and shown once"
    )
    auth.add_argument("--no-auth", action="store_true", help="for everybody who reaches the port")
    start.add_argument("--password-stdin", action="store_true", help="with --auth: the password is read instead")
    start.add_argument(
        "--tls", action=argparse.BooleanOptionalAction, help="HTTPS, with an authority of its own: registry-ca.pem"
    )
    mirror = start.add_mutually_exclusive_group()
    mirror.add_argument(
        "--mirror",
        nargs="?",
        const=HUB,
        metavar="URL",
        help="keep what the engine pulls from there (default: Docker Hub); nothing can be pushed to it",
    )
    mirror.add_argument("--no-mirror", action="store_true", help="a registry of its own again")
    verb(
        parts,
        "stop",
        "registry:stop",
        "run it no more, now and after restarts; its images and settings stay",
        "hostvm registry stop",
    )
    verb(
        parts,
        "status",
        "registry:status",
        "address, settings, repositories, space; exit status 1 when it does not run",
        "hostvm registry status",
        "hostvm registry status ci --json",
    )
    verb(
        parts,
        "gc",
        "registry:clean",
        "free the space of layers that no image needs any more; the registry is stopped meanwhile",
        "hostvm registry gc",
    )
    remove = verb(
        parts,
        "rm",
        "registry:remove",
        "stop it and delete all its images and settings",
        "hostvm registry rm",
        "hostvm registry rm ci --force     # without asking",
    )
    remove.add_argument("-f", "--force", action="store_true", help="do not ask")
