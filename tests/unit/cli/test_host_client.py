from __future__ import annotations

import os

import pytest

from cli.host_client import find_host_client, subcommand
from cli.shims import launcher


@pytest.fixture
def client(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr("cli.host_client._SYSTEM_PLUGINS", ())
    monkeypatch.delenv("HOSTVM_CLIENT", raising=False)
    return program


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["ps", "-a"], "ps"),
        (["--log-level", "debug", "build", "."], "build"),
        (["-D", "compose", "up"], "compose"),
        (["image", "build", "."], "build"),
        (["image", "ls"], "image"),
        (["--help"], ""),
    ],
)
def test_which_word_of_docker_it_is(words, found):
    assert subcommand(words) == found


def test_a_client_here_is_used(client):
    assert find_host_client(["ps"]) == str(client)


def test_our_own_launcher_is_no_client(client, tmp_path, monkeypatch):
    shims = tmp_path / "shims"
    shims.mkdir()
    name, content = launcher("docker", ["/opt/hostvm"], "")
    (shims / name).write_bytes(content)
    (shims / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{shims}{os.pathsep}{client.parent}")
    assert find_host_client(["ps"]) == str(client)
    monkeypatch.setenv("PATH", str(shims))
    assert find_host_client(["ps"]) is None


def test_unless_the_guests_is_asked_for(client, monkeypatch):
    monkeypatch.setenv("HOSTVM_CLIENT", "guest")
    assert find_host_client(["ps"]) is None


def test_or_there_is_none(client):
    client.unlink()
    assert find_host_client(["ps"]) is None


@pytest.mark.parametrize(
    ("words", "plugin"), [(["build", "."], "docker-buildx"), (["compose", "up"], "docker-compose")]
)
def test_a_client_without_the_plugin_cannot(client, tmp_path, words, plugin):
    assert find_host_client(words) is None
    plugins = tmp_path / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / plugin).touch()
    assert find_host_client(words) == str(client)
