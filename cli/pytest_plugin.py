"""The pytest plugin `hostvm`: a container engine for a test run, and as it was again for each test. docs/python.md.

pytest loads this in every run of an environment that has hostvm, so nothing is imported before a fixture is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.api import EphemeralMachine

_SNAPSHOT = "clean"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings in pytest's own configuration file."""
    parser.addini("hostvm_of", "NAME or NAME/SNAPSHOT of a machine that the run's begins from", default="")
    parser.addini("hostvm_settings", "settings of the run's machine, KEY=VALUE a line", type="linelist", default=[])


@pytest.fixture(scope="session")
def hostvm_machine(pytestconfig: pytest.Config) -> Iterator[EphemeralMachine]:
    """A machine for this run: ready within seconds, gone with it, even when it is killed."""
    from hostvm import Machine

    of, _, snapshot = str(pytestconfig.getini("hostvm_of")).partition("/")
    words = [str(line).partition("=") for line in pytestconfig.getini("hostvm_settings")]
    settings: dict[str, Any] = {key.strip(): value.strip() for key, _, value in words}
    with Machine.ephemeral(of=of, snapshot=snapshot, **settings) as machine, pytest.MonkeyPatch.context() as patch:
        for name, value in machine.env.items():
            patch.setenv(name, value)
        patch.delenv("DOCKER_CONTEXT", raising=False)
        yield machine


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
        hostvm_machine.snapshot(_SNAPSHOT)
    return hostvm_machine.docker_host
