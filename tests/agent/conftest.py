from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # helpers lie beside the tests
from agent_rig import AgentUnderTest, connect_to
from engine import FakeEngine
from sshd import running_sshd

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.sshd)


@pytest.fixture(scope="session")
def sshd():
    with running_sshd() as server:
        yield server


@pytest.fixture(scope="session")
def engine(sshd):
    server = FakeEngine(sshd.home / "engine.sock")
    yield server
    server.close()


@pytest.fixture
def folder():
    # Sockets need short paths.
    path = Path(tempfile.mkdtemp(prefix="hostvm-agent-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def agent(sshd, engine):
    """One agent for all tests of a module that leave it as it was."""
    path = Path(tempfile.mkdtemp(prefix="hostvm-agent-"))
    under_test = AgentUnderTest(path, sshd, str(engine.path))
    try:
        under_test.start()
        yield under_test
    finally:
        under_test.stop()
        shutil.rmtree(path)


@pytest.fixture
def own_agent(folder, sshd, engine):
    """An agent to be harmed, not started yet."""
    under_test = AgentUnderTest(folder, sshd, str(engine.path))
    yield under_test
    under_test.stop()


@pytest.fixture(scope="module")
def guest(sshd):
    connection = connect_to(sshd)
    yield connection
    connection.close()
