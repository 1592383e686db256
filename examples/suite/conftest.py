"""What all tests need in the engine: an image, made from Debian's packages, so that no registry is asked."""

from __future__ import annotations

import subprocess
import sys

import docker
import pytest


@pytest.fixture(scope="session")
def busybox(docker_host):
    """An image; HOSTVM_MACHINE is set, so the command loads it into this run's machine."""
    subprocess.run([sys.executable, "-m", "cli.main", "image", "base", "-q", "busybox:latest"], check=True)
    return "busybox:latest"


@pytest.fixture
def engine(busybox, clean_docker_host):
    """A client of an engine that holds the image and nothing else, whatever the tests before this one did."""
    client = docker.DockerClient(base_url=clean_docker_host, timeout=60)
    yield client
    client.close()
