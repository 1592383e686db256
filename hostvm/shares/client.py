"""What a running machine shares, asked of its agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hostvm.agent.client import request
from hostvm.shares.model import Mount

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "shares"
_AGAIN_SECONDS = 60.0


def share_facts(run_dir: Path | str) -> list[dict[str, Any]]:
    """Each share's facts, see `hostvm.shares.service`.

    :raises HostvmError: no agent answers.
    """
    services = request(run_dir, "status").get("services", {})
    found: list[dict[str, Any]] = services.get(SERVICE, {}).get("mounts", [])
    return found


def missing_shares(run_dir: Path | str) -> list[dict[str, Any]]:
    """The facts of those that are not in the guest, each tried once more.

    :raises HostvmError: no agent answers.
    """
    if all(row["state"] == "mounted" for row in share_facts(run_dir)):
        return []
    rows: list[dict[str, Any]] = request(run_dir, SERVICE, timeout=_AGAIN_SECONDS, do="again").get("mounts", [])
    return [row for row in rows if row["state"] != "mounted"]


def shared_mounts(run_dir: Path | str) -> list[Mount]:
    """The folders that are in the guest now.

    :raises HostvmError: no agent answers.
    """
    return [
        Mount(row["source"], row["target"], bool(row["readonly"]), row["kind"])
        for row in share_facts(run_dir)
        if row["state"] == "mounted"
    ]
