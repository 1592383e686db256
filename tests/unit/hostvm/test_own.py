"""Programs of hostvm's own: never what lies in the folder that hostvm was called in."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli import at_login
from cli.commands.shim import hostvm_command
from hostvm import own
from hostvm.agent import sleeper, spawn
from hostvm.agent.config import AgentConfig
from hostvm.errors import AgentError
from hostvm.own import search_path
from hostvm.platform.login import login_of, task_argv
from hostvm.process_id import ProcessId

ROOT = Path(__file__).parents[3]


@pytest.fixture
def spawned(monkeypatch):
    """What is started, with which variables; it is gone at once."""
    found = []

    def spawn_detached(argv, log, *, env=None):
        found.append((list(argv), env))
        return ProcessId(1 << 30, 0.0)

    monkeypatch.setattr(spawn.process, "spawn_detached", spawn_detached)
    monkeypatch.setattr(spawn.process_id, "is_alive", lambda _: False)
    monkeypatch.setattr(spawn.process_id, "kill", lambda _: None)
    return found


def test_agent_sleeper_and_background_work_are_not_looked_for_in_the_working_folder(spawned, tmp_path):
    log = tmp_path / "log"
    place = str(tmp_path)
    spawn.spawn_agent(AgentConfig("box", place, place, str(log), 22, "", "", "", ""))
    spawn.spawn_in_background("sleep", "box", log)
    with pytest.raises(AgentError):
        spawn.spawn_sleeper(tmp_path, log)
    assert [argv[:4] for argv, _ in spawned] == [
        [sys.executable, "-P", "-m", module] for module in ("cli.agent_main", "cli.background", "hostvm.agent.sleeper")
    ]
    assert all(env["PYTHONPATH"] == str(ROOT) for _, env in spawned), "a checkout's own code, wherever it is called"
    sleepers = spawned[-1][0]
    assert sleepers[5:8] == [sys.executable, "-P", "-m"], "nor is what it wakes with"


def test_who_begins_the_next_agent_has_what_agents_have_of_their_user(spawned, tmp_path, monkeypatch):
    """A docker client wakes a machine by a sleeper, which what the agent began has begun."""
    users = {
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/bus",
        "DOCKER_CONFIG": "/elsewhere",
        "SSH_AUTH_SOCK": "/run/ssh",
    }
    for name, value in users.items():
        monkeypatch.setenv(name, value)
    spawn.spawn_in_background("sleep", "box", tmp_path / "log")
    with pytest.raises(AgentError):
        spawn.spawn_sleeper(tmp_path, tmp_path / "log")
    woken = []

    def run(argv, *, env, **_):
        woken.append((argv, env))
        return SimpleNamespace(status=0, stderr=b"")

    monkeypatch.setattr(sleeper.process, "run", run)
    assert sleeper.waker(["wake"])() == ""
    assert len(spawned) == 2
    for _, env in [*spawned, *woken]:
        assert env.items() >= users.items()


def test_nor_is_what_starts_at_login_or_by_a_launcher(monkeypatch):
    assert login_of("box").argv[1:4] == ("-P", "-m", "cli.main")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert hostvm_command() == ["/nowhere/python", "-P", "-m", "cli.main"]


def test_what_starts_at_login_is_found_in_a_checkout(tmp_path):
    """A session's services begin elsewhere, and nothing there says where hostvm's modules are."""
    login = login_of("box")
    assert "PYTHONPATH=" + str(ROOT) in [f"{name}={value}" for name, value in login.env.items()] + list(login.argv)


def test_so_is_what_windows_starts(monkeypatch):
    """Its task has no variables: what sets them has to be found itself, and then the rest."""
    argv = task_argv([sys.executable, "-P", "-m", "cli.at_login"], search_path(), "box")
    assert argv[1:] == ("-P", str(ROOT / "cli" / "at_login.py"), f"PYTHONPATH={ROOT}", "box")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setenv("PYTHONPATH", "")
    found = []
    monkeypatch.setattr("cli.main.main", lambda _: found.extend(sys.path) or 0)
    assert at_login.main(argv[3:]) == 0
    assert found == [str(ROOT)]


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_what_is_installed_needs_no_path(monkeypatch, tmp_path, folder):
    """Before Python's own modules in the search path stands nothing but them."""
    monkeypatch.setattr(own, "__file__", str(tmp_path / folder / "hostvm" / "own.py"))
    assert "PYTHONPATH" not in own.own_env()
    assert "PYTHONPATH" not in login_of("box").env
