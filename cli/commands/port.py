"""port ls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.commands.common import existing_paths, print_json, print_table
from cli.printer import tell
from hostvm.agent.client import request
from hostvm.sizes import human_size

if TYPE_CHECKING:
    import argparse

_HEAD = ("CONTAINER", "HOST", "GUEST", "PROTOCOL", "TO GUEST", "FROM GUEST", "CONNECTIONS")


def ls(options: argparse.Namespace) -> int:
    """The machine's published ports. The exit status is 1 when one of them cannot be opened.

    :raises HostvmError: the machine does not run.
    """
    facts = request(existing_paths(options).run_dir, "status")
    rows: list[dict[str, Any]] = []
    for service in facts.get("services", {}).values():
        rows += [{**row, "state": "open"} for row in service.get("open", [])]
        rows += [{**row, "state": "failed"} for row in service.get("failed", [])]
    rows.sort(key=lambda row: (row["container"], row["host"], row["protocol"]))
    if options.json:
        print_json(rows)
    else:
        print_table(_HEAD, [_cells(row) for row in rows])
        for row in rows:
            if row["state"] == "failed":
                place = f"{row['host']}/{row['protocol']}"
                tell(f"hostvm: {place} for {row['container']} cannot be opened: {row['why']}")
    return 1 if any(row["state"] == "failed" for row in rows) else 0


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    fixed = (row["container"], row["host"], row["guest"], row["protocol"])
    if row["state"] == "failed":
        return (*fixed, "cannot be opened", "", "")
    return (*fixed, human_size(row["sent"]), human_size(row["received"]), str(row["connections"]))
