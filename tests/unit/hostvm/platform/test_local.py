"""Local sockets as Windows has them: a file that holds a port and a token."""

from __future__ import annotations

import os
import sys

import pytest

from hostvm.platform.local import LocalListener


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
