"""A shell that was made ready for another engine: `eval $(minikube docker-env)` and the like."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from cli import host_client
from cli.commands import run
from cli.main import main
from hostvm import process
from hostvm.paths import MachinePaths

OTHERS = {"DOCKER_CONTEXT": "x", "DOCKER_TLS_VERIFY": "1", "DOCKER_TLS": "1", "DOCKER_CERT_PATH": "/certs"}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch):
    for name, value in {**OTHERS, "DOCKER_HOST": "tcp://192.0.2.1:2376", "MINE": "kept"}.items():
        monkeypatch.setenv(name, value)
    MachinePaths.of("box").folder.mkdir(parents=True)


def test_a_command_that_is_run_with_a_machine_speaks_to_it_alone(monkeypatch):
    started = []

    class Popen:
        def __init__(self, words, env):
            started.append((words, env))

        def wait(self):
            return 7

    monkeypatch.setattr(process.subprocess, "Popen", Popen)
    monkeypatch.setattr(run, "ensure_ready", lambda _: None)
    assert main(["run", "-m", "box", "--", "make", "test"]) == 7
    [(words, env)] = started
    assert words == ("make", "test")
    assert env["DOCKER_HOST"].startswith(("unix://", "npipe://"))
    assert env["MINE"] == "kept"
    assert not set(OTHERS) & set(env)


def test_an_engine_without_dockers_api_has_words_to_run(monkeypatch):
    """They were refused for want of the DOCKER_HOST that they do not read."""
    paths = MachinePaths.of("box")
    paths.run_dir.mkdir(parents=True)
    (paths.run_dir / "agent.json").write_text('{"engine": "containerd"}')
    started = []
    monkeypatch.setattr(run.process, "run_attached", lambda words, **options: started.append((words, options)) or 0)
    monkeypatch.setattr(run, "ensure_ready", lambda _: None)
    assert main(["run", "-m", "box", "--", "ctr", "images", "ls"]) == 0
    [(words, options)] = started
    assert words[-3:] == ["ctr", "images", "ls"]
    assert options["env"]["HOSTVM_MACHINE"] == "box"
    assert main(["run", "-m", "box", "--", "make"]) == 125, "whatever else it is, it would speak to another engine"


def test_so_does_this_computers_client(monkeypatch):
    became = []
    monkeypatch.setattr(host_client, "sys", SimpleNamespace(platform="linux"))
    monkeypatch.setattr(os, "execve", lambda *what: became.append(what))
    monkeypatch.setattr("hostvm.process.run_attached", lambda *_, **__: 0)
    host_client.run_host_client("/usr/bin/docker", ["ps"], "unix:///x")
    [(_, _, env)] = became
    assert not set(OTHERS) & set(env)
    assert (env["DOCKER_HOST"], env["MINE"]) == ("unix:///x", "kept")


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("sh", "unset {}"),
        ("fish", "set -e {};"),
        ("powershell", "Remove-Item Env:{} -ErrorAction SilentlyContinue"),
    ],
)
def test_env_takes_what_leads_elsewhere_out_of_the_shell(capsys, monkeypatch, shell, line):
    assert main(["env", "--shell", shell, "box"]) == 0
    assert set(map(line.format, OTHERS)) < set(capsys.readouterr().out.splitlines())
    for name in OTHERS:
        monkeypatch.delenv(name)
    assert main(["env", "--shell", shell, "box"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2, "nothing is undone that is not there"


def test_what_env_undoes_is_json_for_programs(capsys):
    assert main(["env", "--unset", "--json", "box"]) == 0
    assert json.loads(capsys.readouterr().out) == {"DOCKER_HOST": None, "HOSTVM_MACHINE": None}


def test_what_env_has_set_is_taken_back_after_the_machine_was_removed(monkeypatch, capsys):
    monkeypatch.setenv("HOSTVM_MACHINE", "gone")
    assert main(["env", "--unset"]) == 0
    assert capsys.readouterr().out == "unset DOCKER_HOST\nunset HOSTVM_MACHINE\n"
