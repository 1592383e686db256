"""When an agent has its machine put to sleep."""

from __future__ import annotations

import threading

import pytest

from hostvm.agent import idle as module
from hostvm.agent.idle import IdleService
from hostvm.errors import HostvmError


class Host:
    """Of a machine that nothing uses."""

    def idle(self):
        return 1000.0

    def log(self, line): ...


@pytest.fixture
def spec(tmp_path):
    return tmp_path / "machine.yaml"


@pytest.fixture
def asked():
    """Counts how often the machine was to be put to sleep."""
    return threading.Semaphore(0)


@pytest.fixture
def idle(spec, asked, monkeypatch):
    monkeypatch.setattr(module, "_TICK_LEAST", 0.01)
    spec.write_text("idle: {after: 1s, action: suspend}\n")
    service = IdleService(spec, asked.release)
    service.start(None, Host())
    yield service
    service.stop()


def test_what_was_in_the_way_is_tried_again_when_the_settings_change(idle, spec, asked):
    assert idle is not None
    assert asked.acquire(timeout=10)
    assert not asked.acquire(timeout=0.5), "not before a minute has passed"
    spec.write_text("idle: {after: 1s, action: stop}\n")
    assert asked.acquire(timeout=10)
    assert idle.describe()["action"] == "stop"


@pytest.mark.parametrize("fault", [HostvmError("python cannot be started"), OSError(12, "Cannot allocate memory")])
def test_an_agent_that_cannot_begin_it_tries_again(spec, monkeypatch, fault):
    monkeypatch.setattr(module, "_TICK_LEAST", 0.01)
    monkeypatch.setattr(module, "_AGAIN_LEAST", 0.01)
    spec.write_text("idle: {after: 1s, action: suspend}\n")
    tried, host = threading.Semaphore(0), Host()
    told = []
    host.log = told.append

    def sleep():
        tried.release()
        raise fault

    service = IdleService(spec, sleep)
    service.start(None, host)
    try:
        assert tried.acquire(timeout=10)
        assert tried.acquire(timeout=10)
    finally:
        service.stop()
    assert f"idle: it stays awake: {fault}".replace("\n", ": ") in told
