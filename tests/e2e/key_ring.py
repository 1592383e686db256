"""A credential helper of this computer that keeps one login, in a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RING = """\
#!/bin/sh
# Keeps one login, in a file.
case "$1" in
store) cat > "$RING" ;;
get) grep -q "\"$(cat)\"" "$RING" 2> /dev/null && cat "$RING" ||
	{ echo "credentials not found in native keychain"; exit 1; } ;;
erase) rm -f "$RING" ;;
esac
"""


def make_ring(folder: Path) -> tuple[Path, dict[str, str]]:
    """The file of its key ring, and variables with which it is found; docker's config.json is beside it."""
    program = folder / "docker-credential-testring"
    program.write_text(RING.replace("$RING", str(folder / "ring.json")))
    program.chmod(0o755)
    (folder / "config.json").write_text('{"credsStore": "testring"}')
    return folder / "ring.json", {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
