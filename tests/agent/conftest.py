from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sshd import running_sshd  # a helper beside this file


@pytest.fixture(scope="session")
def sshd():
    with running_sshd() as server:
        yield server


@pytest.fixture(scope="module")
def guest(sshd):
    from hostvm.ssh.connection import connect

    connection = connect(
        sshd.port,
        client_key=sshd.keys.client_key,
        host_public_key=sshd.keys.host_public,
        deadline=time.monotonic() + 10,
        user=sshd.user,
    )
    connection.warm_up()
    yield connection
    connection.close()
