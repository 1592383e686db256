"""What a request is told whose container does not answer. The guest and its engine are played."""

from __future__ import annotations

import http.client
import socket
import time

import pytest

from hostvm.names.route import Target
from hostvm.names.service import NamesService


class SilentGuest:
    """Nobody answers at any address in it."""

    def open_tcp(self, host: str, port: int):
        raise ConnectionRefusedError(f"{host}:{port}")


class Engine:
    """Lists the container as often as told."""

    def __init__(self, times: int) -> None:
        self._left = times

    def find(self, guest, labels):
        self._left -= 1
        return Target("172.17.0.2", 80) if self._left >= 0 else None

    def names(self, guest):
        return ["other"]


class Quiet:
    def log(self, text: str) -> None:
        pass


@pytest.mark.parametrize(
    ("times", "status", "told"),
    [(1, 404, "no running container is called web"), (2, 502, "does not answer at its port")],
)
def test_a_container_that_just_stopped_is_unknown_and_one_that_runs_is_silent(tmp_path, times, status, told):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = tmp_path / "m"
    folder.mkdir()
    service = NamesService(Engine(times), port, "m", folder)
    service.start(SilentGuest(), Quiet())
    try:
        deadline = time.monotonic() + 10
        while not service.describe()["held"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        client.request("GET", "/", headers={"Host": "web.hostvm.localhost"})
        answer = client.getresponse()
        assert (answer.status, told in answer.read().decode()) == (status, True)
        client.close()
    finally:
        service.stop()
