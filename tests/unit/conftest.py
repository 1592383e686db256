"""Unit tests touch nothing outside themselves: starting a program or reaching for the network ends the test."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # a helper lies beside the tests

_EXEC = (
    "execv", "execve", "execvp", "execvpe", "execl", "execle", "execlp", "execlpe",
    "fork", "forkpty", "posix_spawn", "posix_spawnp", "spawnv", "spawnve", "spawnl", "spawnle", "system", "popen",
)  # fmt: skip


class Forbidden(BaseException):
    """Not an Exception, so that no `except Exception` in the code under test hides it."""


def _refuse(what: str):
    def refuse(*args, **kwargs):
        raise Forbidden(f"a unit test may not {what}: {args!r}")

    return refuse


@pytest.fixture(autouse=True)
def _nothing_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:

    def popen(self, *args, **kwargs):
        self._child_created = False  # or its __del__ complains
        raise Forbidden(f"a unit test may not start a program: {args!r}")

    monkeypatch.setattr(subprocess.Popen, "__init__", popen)
    for name in _EXEC:
        if hasattr(os, name):
            monkeypatch.setattr(os, name, _refuse("start a program"))

    real_connect = socket.socket.connect

    def connect(self, address):
        # asyncio on Windows makes its socket pairs over loopback; elsewhere only Unix sockets are local.
        if self.family != getattr(socket, "AF_UNIX", None):
            raise Forbidden(f"a unit test may not use the network: {address!r}")
        return real_connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", _refuse("use the network"))
    monkeypatch.setattr(socket, "getaddrinfo", _refuse("resolve names"))

    # Whatever code under test writes by default lands in a folder that goes away.
    for name in ("HOSTVM_HOME", "HOSTVM_CACHE", "HOSTVM_RUN"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp(name.lower().removeprefix("hostvm_"))))
    monkeypatch.delenv("HOSTVM_MACHINE", raising=False)


@pytest.fixture
def golden(request: pytest.FixtureRequest):
    """Compare a text with the file `golden/NAME` beside the test; `pytest --regenerate` writes it anew."""
    folder = Path(request.path).parent / "golden"

    def compare(name: str, text: str) -> None:
        file = folder / name
        if request.config.getoption("--regenerate"):
            folder.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
        assert text == file.read_text(encoding="utf-8"), f"{file} differs; if that is meant: pytest --regenerate"

    return compare
