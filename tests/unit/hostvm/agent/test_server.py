"""What a client of the agent's socket is told when what it asked for cannot be had."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from hostvm.agent.activity import Activity
from hostvm.agent.client import agent_status, request
from hostvm.agent.config import AgentConfig
from hostvm.agent.parts import Parts
from hostvm.agent.server import Server
from hostvm.errors import AgentError, SshError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="loopback, which unit tests may not use")


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="hvq"))  # short, as a socket's path must be
    yield made
    shutil.rmtree(made)


class Still:
    """The life of a guest, and its ports, of which nothing is asked but facts."""

    def settle(self):
        return True

    def describe(self):
        return {}


def config_of(folder):
    return AgentConfig(
        "m", str(folder), str(folder), str(folder / "log"), 1, "key", "host", "", str(folder / "console")
    )


def refuse(*_):
    raise OSError(24, "Too many open files")


@pytest.mark.parametrize("operation", ["listen", "registry"])
def test_what_the_system_refuses_is_told_not_taken_for_a_client_that_left(folder, operation):
    parts = Parts(operations={"registry": refuse})
    made = Server(config_of(folder), None, None, print, {"name": "m"}, parts, Activity(), refuse)
    with contextlib.closing(made), pytest.raises(AgentError, match="the system refuses") as caught:
        request(folder, operation)
    assert "Too many open files" in caught.value.details


def test_what_an_error_advises_is_done_to_this_machine_and_not_to_the_default_one(folder):
    def ask(_):
        raise SshError("another host key", "shown was", "hostvm stop && hostvm start   # if it stays, look")

    parts = Parts(operations={"ask": ask})
    made = Server(config_of(folder), None, None, print, {"name": "m"}, parts, Activity(), refuse)
    with contextlib.closing(made), pytest.raises(SshError) as caught:
        request(folder, "ask")
    assert caught.value.resolution == "hostvm -m m stop && hostvm -m m start   # if it stays, look"


def test_one_that_takes_nothing_new_says_so(folder):
    made = Server(config_of(folder), Still(), Still(), print, {"name": "m"}, Parts(), Activity(), refuse)
    with contextlib.closing(made):
        assert agent_status(folder)["leaving"] is False
        assert request(folder, "leave", after=0.0, stays=True) == {"left": True}
        assert agent_status(folder)["leaving"] is True
