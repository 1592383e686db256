"""Local sockets, and as Windows has them: a file that holds a port and a token."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostvm.agent.client import Agent, AgentAbsent
from hostvm.errors import AgentError
from hostvm.net.auth_agent import AuthAgentService
from hostvm.platform import local as module
from hostvm.platform.local import LocalListener, connect_local
from hostvm.platform.quick import connect_quick


@pytest.mark.skipif(os.name == "nt", reason="loopback, which unit tests may not use")
def test_a_file_that_a_client_reads_at_this_moment_is_written_over(monkeypatch, tmp_path):
    """Windows does not let it be removed then; an agent that began among waiting clients ended for that."""
    path = tmp_path / "agent.sock"
    path.write_bytes(b"1 of a dead listener, whose line is long")

    def read_by_somebody(path):
        raise PermissionError(13, "it is used by another process", path)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "unlink", read_by_somebody)
    made = LocalListener(str(path))
    port, token = path.read_bytes().split(b" ")
    assert int(port) == made._socket.getsockname()[1]
    assert token == made._token
    made.close()
    assert made.closed


@pytest.fixture
def full():
    """A listener whose queue is full, and its path."""
    if sys.platform != "linux":
        pytest.skip("other systems refuse whom a full queue cannot take")
    folder = Path(tempfile.mkdtemp(prefix="hvl"))  # short, as a socket's path must be
    path = str(folder / "s")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(1)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(path)
        yield listener, path


CONNECTING = pytest.mark.parametrize("connect", [connect_local, connect_quick])


@CONNECTING
def test_a_listener_that_takes_nobody_any_more_holds_no_client_for_ever(full, connect):
    _, path = full
    with pytest.raises(TimeoutError, match="takes no connections"):
        connect(path, 0.1)


def test_an_agent_that_takes_nobody_any_more_is_not_called_absent(full):
    """Else its machine would be started once more."""
    _, path = full
    with pytest.raises(AgentError, match="does not answer") as raised:
        Agent(Path(path).parent, 0.1, Path(path).name)
    assert not isinstance(raised.value, AgentAbsent)
    assert raised.value.details == "it takes no connections"
    assert "hostvm restart" in str(raised.value.resolution)


def test_an_ssh_agent_that_takes_nobody_any_more_hangs_up_in_the_guest(full, monkeypatch):
    _, path = full
    monkeypatch.setattr("hostvm.net.auth_agent.connect_local", lambda path: connect_local(path, 0.1))
    closed = []
    AuthAgentService(path)._serve(SimpleNamespace(close=lambda: closed.append(True)))
    assert closed == [True]


@CONNECTING
def test_a_client_waits_for_its_place_in_a_full_queue(full, monkeypatch, connect):
    listener, path = full
    pauses = []

    def taken_meanwhile(seconds):
        pauses.append(seconds)
        listener.accept()[0].close()

    monkeypatch.setattr(module.time, "sleep", taken_meanwhile)
    with contextlib.closing(connect(path, 60)) as found:
        assert found.getblocking()
    assert len(pauses) == 1
