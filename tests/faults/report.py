"""Puts build/faults.json into docs/reliability.md: python tests/faults/report.py."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
HEAD = ("fault", "rounds", "hit", "acknowledged", "lost", "disk", "what is said", "seconds to be well")
BEGIN, END = "<!-- rounds: begin -->\n", "<!-- rounds: end -->\n"


def main() -> None:
    rows = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    for fault, found in json.loads((ROOT / "build" / "faults.json").read_text()).items():
        told = "; ".join(f"`{line}`" for line in found["told"]) or "nothing"
        seconds = sorted(found["seconds"])
        span = f"{seconds[0]:.0f} to {seconds[-1]:.0f}" if len(seconds) > 1 else f"{seconds[0]:.0f}"
        hits, disk = found.get("hits", "-"), found.get("disk", "-")
        cells = (fault, found["rounds"], hits, found["acknowledged"] or "-", found["lost"], disk, told, span)
        rows.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + "\n".join(rows) + "\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
