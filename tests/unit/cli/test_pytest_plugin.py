"""The pytest plugin: what it makes of pytest's configuration, and of the environment. The machine is played."""

from __future__ import annotations

import configparser
import os
import re
from pathlib import Path

import pytest

import hostvm
from cli import pytest_plugin
from cli.set_words import words_settings
from hostvm import spec as module
from hostvm.errors import SpecError
from hostvm.paths import is_name
from hostvm.sizes import GIB

ROOT = Path(__file__).parents[3]
DOCUMENTED = [
    *re.findall(r"```ini\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL),
    (ROOT / "examples" / "suite" / "pytest.ini").read_text(encoding="utf-8"),
]


@pytest.fixture(autouse=True)
def small_host(monkeypatch):
    monkeypatch.setattr(module, "host_memory", lambda: 8 * GIB)


class Played:
    """Stands for `hostvm.Machine` and for the machine that it gives."""

    def __init__(self) -> None:
        self.asked = {}
        self.env = {"DOCKER_HOST": "unix:///run/x.sock", "HOSTVM_MACHINE": "x"}

    def ephemeral(self, **asked):
        self.asked = asked
        return self

    def __enter__(self):
        return self

    def __exit__(self, *what):
        pass


class Config:
    def __init__(self, text: str) -> None:
        parser = configparser.ConfigParser(inline_comment_prefixes=None)  # as pytest reads it
        parser.read_string(text)
        self._values = parser["pytest"]

    def getini(self, name):
        value = self._values.get(name, "")
        return [line for line in value.splitlines() if line.strip()] if name == "hostvm_settings" else value


def run_with(monkeypatch, text: str):
    """What is asked for, and the environment while the machine is there."""
    played = Played()
    monkeypatch.setattr(hostvm, "Machine", played, raising=False)
    made = pytest_plugin._machine(Config(text))
    next(made)
    during = dict(os.environ)
    assert next(made, None) is None
    return played.asked, during


def test_settings_are_read_as_hostvm_set_reads_them(monkeypatch):
    words = ("ssh_agent=true", "memory = 1024MiB", "mounts=[]", "daemon.log-opts.max-size=10m", "ports.expose=lan")
    asked, _ = run_with(monkeypatch, "[pytest]\nhostvm_settings =\n    " + "\n    ".join(words))
    assert asked == {
        "of": "",
        "snapshot": "",
        "ssh_agent": True,
        "memory": "1GiB",
        "mounts": [],
        "daemon": {"log-opts": {"max-size": "10m"}},
        "ports": {"expose": "lan"},
    }
    del asked["of"], asked["snapshot"]
    module.parse_settings(asked, module.default_spec(), "")


def test_what_is_wrong_is_told_with_where_it_stands():
    with pytest.raises(SpecError, match="hostvm_settings") as caught:
        words_settings(["colour=red", "memory"], "hostvm_settings")
    assert "colour: unknown key" in caught.value.details
    assert "memory: is not KEY=VALUE" in caught.value.details


@pytest.mark.parametrize("text", DOCUMENTED)
def test_what_is_documented_works(monkeypatch, text):
    asked, _ = run_with(monkeypatch, text)
    of, snapshot = asked.pop("of"), asked.pop("snapshot")
    assert re.fullmatch(r"[\w-]*", of)
    assert re.fullmatch(r"[\w-]*", snapshot)
    assert not (of and asked), "a machine that begins from another has its settings"
    module.parse_settings(asked, module.default_spec(), "")


def test_nothing_leads_docker_elsewhere(monkeypatch):
    others = {"DOCKER_CONTEXT": "x", "DOCKER_TLS_VERIFY": "1", "DOCKER_TLS": "1", "DOCKER_CERT_PATH": "/certs"}
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    _, during = run_with(monkeypatch, "[pytest]\n")
    assert during["DOCKER_HOST"] == "unix:///run/x.sock"
    assert not set(others) & set(during)
    assert {name: os.environ[name] for name in others} == others


def test_what_is_clean_runs_and_is_no_snapshot_of_a_test():
    """One of a test's that was called `clean` was taken for it, whatever was in it. And a test before had stopped the
    machine: its snapshot had no memory, and no test an engine from then on.
    """
    done, there = [], ["clean"]

    class Stopped:
        docker_host = "unix:///x"

        def snapshots(self):
            return there

        def start(self):
            done.append("start")

        def snapshot(self, name):
            done.append(f"snapshot {name}")
            there.append(name)

        def restore(self, name):
            done.append(f"restore {name}")

    fixture = pytest_plugin.clean_docker_host.__wrapped__
    machine = Stopped()
    assert fixture(machine) == fixture(machine) == "unix:///x"
    own = there[1]
    assert own != "clean"
    assert is_name(own)
    assert done == ["start", f"snapshot {own}", f"restore {own}"]
