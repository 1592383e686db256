"""`hostvm set KEY=VALUE`: what a value becomes, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from cli.set_words import assign, split_words
from hostvm import spec as module
from hostvm.errors import SpecError
from hostvm.sizes import GIB

TEXT = "# mine\ncpus: 2  # enough\nports:\n  expose: loopback\ndaemon: {debug: true}\n"


@pytest.fixture(autouse=True)
def small_host(monkeypatch):
    monkeypatch.setattr(module, "host_memory", lambda: 8 * GIB)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 4)


def test_the_first_word_may_be_the_machine():
    assert split_words(["ci", "cpus=2"]) == ("ci", ["cpus=2"])
    assert split_words(["cpus=2", "ci"]) == (None, ["cpus=2", "ci"])
    assert split_words(["ci"]) == ("ci", [])


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("cpus=4", "cpus", 4),
        ("memory=4096MiB", "memory", "4GiB"),
        ("image=123456", "image", "123456"),
        ("image=a=b", "image", "a=b"),
        ("names=off", "names", "off"),
        ("names=8080", "names", 8080),
        ("ssh_agent=false", "ssh_agent", False),
        ("ports.expose=lan", "ports", {"expose": "lan"}),
        ("network.subnet=10.9.0.0/24", "network", {"subnet": "10.9.0.0/24"}),
        ("daemon.log-opts.max-size=10m", "daemon", {"debug": True, "log-opts": {"max-size": "10m"}}),
        ("registries={mirrors: [https://m.example]}", "registries", {"mirrors": ["https://m.example"]}),
        ("mounts=[/a:/b:ro]", "mounts", [{"source": "/a", "target": "/b", "readonly": True}]),
        ("mounts=[]", "mounts", []),
        ("daemon.debug=", "daemon", {}),
    ],
)
def test_values(word, key, value):
    changed = assign(TEXT, [word])
    assert yaml.safe_load(changed) == {**yaml.safe_load(TEXT), key: value}
    assert changed.startswith("# mine\n")


def test_nothing_behind_the_sign_is_the_default():
    assert assign(TEXT, ["cpus="]) == TEXT.replace("cpus: 2  # enough\n", "")
    assert assign(TEXT, ["image="]) == TEXT


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(SpecError) as caught:
        assign(TEXT, ["cpus=9", "colour=red", "ports.expose=moon", "ports.open=1", "memory", "daemon=[", "ca=x"])
    assert caught.value.brief == "7 wrong settings (command line)".replace("settings", "options")
    told = caught.value.details
    for part in (
        "cpus: 9 must be from 1 to 4",
        "colour: unknown key",
        "ports.expose: moon must be one of",
        "ports.open: unknown key",
        "memory: is not KEY=VALUE",
        "daemon: [ cannot be read",
        "ca: x must be host, none",
    ):
        assert part in told
    assert "hostvm set --help" in caught.value.resolution


def test_what_was_wrong_before_is_not_this_commands_fault():
    assert yaml.safe_load(assign("colour: red\n", ["cpus=2"])) == {"colour": "red", "cpus": 2}
