"""Puts build/faults.json into docs/reliability.md, row by row: python tests/faults/report.py.

What was not run anew keeps its row; one of a test that is no more has to be taken out by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- rounds: begin -->\n", "<!-- rounds: end -->\n"


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    head, line, *rows = table.splitlines()
    found = {name_of(row): row for row in rows}
    for fault, facts in json.loads((ROOT / "build" / "faults.json").read_text()).items():
        found[fault] = row_of(fault, facts)
    PAGE.write_text("\n".join([before + BEGIN + head, line, *found.values(), END + after]), encoding="utf-8")


def name_of(row: str) -> str:
    return row.partition(" | ")[0].removeprefix("| ")


def row_of(fault: str, found: dict[str, Any]) -> str:
    told = "; ".join(f"`{line}`" for line in found["told"]) or "nothing"
    seconds = sorted(found["seconds"])
    span = f"{seconds[0]:.0f} to {seconds[-1]:.0f}" if len(seconds) > 1 else f"{seconds[0]:.0f}"
    hits, disk = found.get("hits", "-"), found.get("disk", "-")
    cells = (fault, found["rounds"], hits, found["acknowledged"] or "-", found["lost"], disk, told, span)
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
