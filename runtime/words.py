"""The engines' own words that `hostvm` forwards as they are. Imports nothing: the forwarding client reads this."""

from __future__ import annotations

# word -> (engine that has it, argv in the guest before the user's arguments)
FORWARDED: dict[str, tuple[str, tuple[str, ...]]] = {
    "docker": ("docker", ("docker",)),
    "compose": ("docker", ("docker", "compose")),
}
