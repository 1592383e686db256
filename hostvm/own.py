"""A module of hostvm's as a program of its own: by this interpreter, and of this very code."""

from __future__ import annotations

import sys
from pathlib import Path

_INSTALLED = ("site-packages", "dist-packages")


def own_argv(module: str, *words: str) -> list[str]:
    """What runs the module.

    `-P`: Python would look for it, and for all that it imports, in the working folder first, which is the user's and
    may hold a `cli.py` or a `yaml.py` of its own.
    """
    return [sys.executable, "-P", "-m", module, *words]


def own_env() -> dict[str, str]:
    """Variables by which it is found where hostvm is not installed but run from a checkout."""
    root = Path(__file__).resolve().parents[1]
    return {} if root.name in _INSTALLED else {"PYTHONPATH": str(root)}
