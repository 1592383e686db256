"""`make demo`: from nothing to a web service in a container, reached from this computer.

Everything goes through the `hostvm` command, as a user would type it. The machine is called `demo` and is kept, so
that a second run is quick and the commands printed at the end can be tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOSTVM = Path(sys.executable).with_name("hostvm.exe" if os.name == "nt" else "hostvm")
MACHINE = "demo"
PORT = 8000
TIMES: list[tuple[str, float]] = []


def hostvm(title: str, *words: str) -> None:
    """One step: show the command, run it, note its time; a failure ends the demo with its exit status."""
    print(f"\n$ hostvm {' '.join(words)}", flush=True)
    began = time.monotonic()
    status = subprocess.run([str(HOSTVM), *words], check=False).returncode
    TIMES.append((title, time.monotonic() - began))
    if status != 0:
        sys.exit(status)


def request(path: str, data: bytes | None = None, seconds: float = 60.0) -> str:
    """Ask the service on this computer's own address, waiting until it listens."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", data, timeout=10) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def has_base_image() -> bool:
    """Whether a former demo loaded it."""
    words = [str(HOSTVM), "-m", MACHINE, "docker", "image", "inspect", "debian:trixie"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def main() -> None:
    """All steps."""
    hostvm("guest image and machine", "start", MACHINE)
    if not has_base_image():
        hostvm("base image from Debian's packages", "image", "base", "debian:trixie", "-m", MACHINE)
    hostvm("docker build", "-m", MACHINE, "docker", "build", "-t", "guestbook", str(HERE / "web"))
    subprocess.run([str(HOSTVM), "-m", MACHINE, "docker", "rm", "-f", "guestbook"], check=False, capture_output=True)
    name = ("--name", "guestbook", "-p", f"{PORT}:{PORT}")
    hostvm("docker run", "-m", MACHINE, "docker", "run", "-d", *name, "-e", "GREETING=Good day", "guestbook")
    began = time.monotonic()
    request("/", b"written from " + json.dumps(os.name).encode())
    TIMES.append(("the service answers on this computer", time.monotonic() - began))
    print(f"\n$ curl http://127.0.0.1:{PORT}/\n{request('/')}")
    hostvm("docker logs", "-m", MACHINE, "docker", "logs", "guestbook")
    hostvm("docker rm", "-m", MACHINE, "docker", "rm", "-f", "guestbook")
    print("\nstep                                      seconds")
    for title, seconds in TIMES:
        print(f"{title:<40} {seconds:8.1f}")
    print(f"""
The machine is still there. Try next:
  .venv/bin/hostvm -m {MACHINE} docker run --rm -it debian:trixie bash
  eval "$(.venv/bin/hostvm env {MACHINE})"     # then any docker client uses it
  .venv/bin/hostvm status {MACHINE}
  .venv/bin/hostvm rm --force {MACHINE}        # delete it""")


if __name__ == "__main__":
    main()
