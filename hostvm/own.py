"""A module of hostvm's as a program of its own: by this interpreter, and of this very code."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hostvm.credential_helpers import helper_environment

_INSTALLED = ("site-packages", "dist-packages")
_USERS = ("SSH_AUTH_SOCK",)


def own_argv(module: str, *words: str) -> list[str]:
    """What runs the module.

    `-P`: Python would look for it, and for all that it imports, in the working folder first, which is the user's and
    may hold a `cli.py` or a `yaml.py` of its own.
    """
    return [sys.executable, "-P", "-m", module, *words]


def own_env() -> dict[str, str]:
    """Variables that it has beside those that every program gets.

    Each may begin an agent, or one that does: a docker client wakes a machine by a sleeper, which a command of the
    agent's began. So they hand on what an agent has of its user: where credential helpers and the ssh agent are, and
    docker's configuration.
    """
    users = {name: os.environ[name] for name in _USERS if name in os.environ}
    return {**helper_environment(), **users, **search_path()}


def search_path() -> dict[str, str]:
    """The variable by which the module is found where hostvm is not installed but run from a checkout."""
    root = Path(__file__).resolve().parents[1]
    return {} if root.name in _INSTALLED else {"PYTHONPATH": str(root)}
