"""The pytest plugin `hostvm`: a container engine for a test run, and as it was again for each test. docs/python.md.

pytest loads this in every run of an environment that has hostvm, so nothing is imported before a fixture is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.api import EphemeralMachine

_SNAPSHOT = f"clean-{os.urandom(4).hex()}"
"""Of this run's own machine; a test may make snapshots of it with names of its choice."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings in pytest's own configuration file."""
    parser.addini("hostvm_of", "NAME or NAME/SNAPSHOT of a machine that the run's begins from", default="")
    parser.addini(
        "hostvm_settings",
        "settings of the run's machine, KEY=VALUE a line, as for `hostvm set`",
        type="linelist",
        default=[],
    )


@pytest.fixture(scope="session")
def hostvm_machine(pytestconfig: pytest.Config) -> Iterator[EphemeralMachine]:
    """A machine for this run: ready within seconds, gone with it, even when it is killed."""
    yield from _machine(pytestconfig)


def _machine(config: pytest.Config) -> Iterator[EphemeralMachine]:
    from cli.host_client import OTHER_ENGINE
    from cli.set_words import words_settings
    from hostvm import Machine

    of, _, snapshot = str(config.getini("hostvm_of")).partition("/")
    words = [_word(str(line)) for line in config.getini("hostvm_settings")]
    settings = words_settings(words, "hostvm_settings of pytest's configuration")
    with Machine.ephemeral(of=of, snapshot=snapshot, **settings) as machine, pytest.MonkeyPatch.context() as patch:
        for name, value in machine.env.items():
            patch.setenv(name, value)
        for name in OTHER_ENGINE:
            patch.delenv(name, raising=False)
        yield machine


def _word(line: str) -> str:
    key, equals, value = line.partition("=")
    return f"{key.strip()}{equals}{value.strip()}"


@pytest.fixture(scope="session")
def docker_host(hostvm_machine: EphemeralMachine) -> str:
    """DOCKER_HOST of this run's own engine, which is in the environment, too."""
    return hostvm_machine.docker_host


@pytest.fixture
def clean_docker_host(hostvm_machine: EphemeralMachine) -> str:
    """DOCKER_HOST of the same engine, as it was when the first test asked for this: memory, images, containers."""
    if _SNAPSHOT in hostvm_machine.snapshots():
        hostvm_machine.restore(_SNAPSHOT)
    else:
        hostvm_machine.start()  # a test before may have stopped it, and a snapshot of one that is off has no memory
        hostvm_machine.snapshot(_SNAPSHOT)
    return hostvm_machine.docker_host
