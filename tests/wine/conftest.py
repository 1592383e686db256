"""A Windows made of Wine and CPython for Windows: see scripts/wine.sh. Opt-in: `make test-wine`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TOP = ROOT / "build" / "wine"
PYTHON = str(TOP / "python" / "python.exe")
WINESERVER = next((path for path in ("/usr/lib/wine/wineserver64", "/usr/bin/wineserver") if Path(path).exists()), "")


def windows_path(path: Path | str) -> str:
    """A path of this computer as Wine's drive Z: has it."""
    return "Z:" + str(path).replace("/", "\\")


class Windows:
    """Runs programs for Windows; `c` is its drive C:."""

    def __init__(self) -> None:
        self.top = TOP
        self.path = windows_path
        self.said = ""
        self.prefix = TOP / "prefix"
        self.c = self.prefix / "drive_c"
        self.env = {
            **os.environ,
            "WINEPREFIX": str(self.prefix),
            "WINEDEBUG": "-all",
            # No crash dialogs: a program that dies must end.
            "WINEDLLOVERRIDES": "winedbg.exe=;mscoree=;mshtml=",
        }

    def start(self, *argv: str, env: dict[str, str] | None = None, **options) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["wine", *argv],
            env={**self.env, **(env or {})},
            cwd=self.c,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **options,
        )

    def python_status(self, *argv: str, timeout: float, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Status and output of a Python program for Windows that leaves no other behind."""
        # To a file of Linux' own, CPython under Wine has no standard streams; to a pipe it has.
        child = self.start(PYTHON, *argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output, _ = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            pytest.fail(f"{argv} did not end within {timeout} s")
        return child.returncode, output.decode(errors="replace").replace("\r\n", "\n")

    def python(self, *argv: str, timeout: float = 60, env: dict[str, str] | None = None) -> str:
        """What it prints; its status must be 0."""
        status, text = self.python_status(*argv, timeout=timeout, env=env)
        assert status == 0, text
        return text

    def silent(self, *argv: str, timeout: float, env: dict[str, str] | None = None) -> int:
        """The status of one that may leave others behind, which would hold a pipe open."""
        reader, writer = os.pipe()
        child = self.start(PYTHON, *argv, env=env, stdout=writer, stderr=writer)
        os.close(writer)
        try:
            return child.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            pytest.fail(f"{argv} did not end within {timeout} s")
        finally:
            os.set_blocking(reader, False)
            with contextlib.suppress(BlockingIOError):
                self.said = os.read(reader, 65536).decode(errors="replace")
            os.close(reader)

    def facts(self, script: str, *argv: str, timeout: float = 60, env: dict[str, str] | None = None) -> dict:
        """The JSON that a script of the folder `windows` prints last."""
        path = windows_path(Path(__file__).parent / "windows" / script)
        return json.loads(self.python(path, *argv, timeout=timeout, env=env).splitlines()[-1])


@pytest.fixture(scope="session")
def windows():
    if not (TOP / "ready").exists():
        pytest.skip("no build/wine: run `make test-wine`")
    made = Windows()
    # Windows' services would otherwise be children of the first program and hold its output open.
    subprocess.run([WINESERVER, "-p"], env=made.env, check=False)  # 2: one runs already
    made.start("cmd", "/c", "exit", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait(60)
    yield made
    subprocess.run([WINESERVER, "-k"], env=made.env, check=False)
    subprocess.run([WINESERVER, "-w"], env=made.env, check=False, timeout=30)
