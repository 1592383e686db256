"""Waiting for a machine to get ready, from the agent to whoever waits: what is told meanwhile, and when it is over."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hostvm.agent import client, protocol
from hostvm.agent import config as settings
from hostvm.agent import life as module
from hostvm.agent.activity import Activity
from hostvm.agent.client import AgentNotReady, wait_ready
from hostvm.agent.config import AgentConfig
from hostvm.agent.life import Life
from hostvm.agent.parts import Parts
from hostvm.agent.server import Server
from hostvm.errors import AgentError, HostvmError, MachineError, SshError
from hostvm.platform.local import LocalListener
from hostvm.process_id import ProcessId
from images.progress import NullProgress

pytestmark = pytest.mark.skipif(os.name == "nt", reason="loopback, which unit tests may not use")

SSH, ENGINE = "waiting for the guest's ssh server", "waiting for the container engine"
LAST = "Begin: Running /scripts/init-premount ...\n(initramfs)"


class Host:
    def log(self, text): ...

    tell = log

    def idle(self):
        return 0.0


class Told(NullProgress):
    """Keeps what it is told; `heard` is set by each line."""

    def __init__(self):
        self.lines, self.heard = [], threading.Event()

    def doing(self, text):
        self.lines.append(text)
        self.heard.set()


class Connection:
    """To a guest that does nothing of its own."""

    def __init__(self):
        self.closed = threading.Event()

    @property
    def alive(self):
        return not self.closed.is_set()

    def warm_up(self): ...

    def wait_closed(self, timeout=None):
        return self.closed.wait(timeout)

    def quiet(self):
        return 0.0

    def sent_since_heard(self):
        return 0

    def sent_lately(self):
        return 0

    def close(self):
        self.closed.set()


class NoPorts:
    def describe(self):
        return []


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="hvw"))  # short, as a socket's path must be
    (made / "m").mkdir()
    yield made / "m"
    shutil.rmtree(made)


@pytest.fixture
def config(folder):
    """The settings of an agent whose guest has stopped in its initramfs."""
    place = str(folder)
    made = AgentConfig("m", place, place, f"{place}/log", 1, "key", "host", "", f"{place}/console", boot_seconds=30.0)
    Path(made.console).write_text("first\r\n" * 30 + LAST.replace("\n", "\r\n"))
    settings.store(made, folder, ProcessId(os.getpid(), 0.0))
    return made


@contextmanager
def agent(config, monkeypatch, wait_banner, **replaced):
    monkeypatch.setattr(module, "wait_banner", wait_banner)
    monkeypatch.setattr(module, "_PAUSE_MOST", 0.01)
    for name, value in replaced.items():
        monkeypatch.setattr(module, name, value)
    life = Life(config, Parts(), lambda: True, Host())
    server = Server(config, life, NoPorts(), print, {"name": "m"}, Parts(), Activity(), lambda: None)
    thread = threading.Thread(target=life.run, daemon=True)
    thread.start()
    try:
        yield life
    finally:
        server.close()
        life.stop()
        thread.join(10)
        assert not thread.is_alive()


def silent(port, deadline, *, check, **_):
    """The guest's sshd never speaks."""
    while time.monotonic() < deadline:
        check()
        time.sleep(0.01)
    raise SshError("the guest's ssh server did not answer in time", "nothing spoke on 127.0.0.1:1", "hostvm logs")


def unsettled(*_, **__):
    raise SshError("no answer", "sshd restarts", None)


def failure(folder, seconds, progress=None):
    with pytest.raises(HostvmError) as caught:
        wait_ready(folder, time.monotonic() + seconds, progress or Told())
    assert caught.value.details.count("the guest's console") == 1, caught.value
    assert caught.value.details.endswith(f"({folder / 'console'}) ends with:\n" + "first\n" * 18 + LAST)
    return caught.value


def test_what_the_agent_waits_for_is_told_while_it_waits(config, folder, monkeypatch):
    told, spoke = Told(), threading.Event()
    made_ready = threading.Event()

    def banner(*_, **__):
        spoke.wait(10)
        return object()

    config = replace(config, engine_socket="/run/docker.sock")
    with agent(
        config,
        monkeypatch,
        banner,
        handshake=lambda *_, **__: Connection(),
        wait_engine=lambda *_: made_ready.wait(10),
        run_checks=lambda *_, **__: ["names: no answer"],
    ):
        waiting = threading.Thread(target=wait_ready, args=(folder, time.monotonic() + 20, told), daemon=True)
        waiting.start()
        assert told.heard.wait(10)
        assert told.lines == [SSH]
        told.heard.clear()
        spoke.set()
        assert told.heard.wait(10)
        assert told.lines == [SSH, ENGINE]
        made_ready.set()
        waiting.join(10)
        assert not waiting.is_alive()


def test_what_is_told_again_and_again_is_told_once(config, folder, monkeypatch):
    """An sshd that takes connections and drops them is tried many times."""
    told = Told()
    with agent(config, monkeypatch, unsettled):
        error = failure(folder, 0.5, told)
    assert (type(error), error.brief) == (AgentNotReady, "machine m is not ready")
    assert error.details.startswith(f"it is booting: {SSH}\n")
    assert told.lines == [SSH]


def test_whoever_comes_late_hears_what_is_waited_for_now_alone(config, folder, monkeypatch):
    told = Told()
    with agent(config, monkeypatch, unsettled) as life:
        for text in ("one", "two", SSH):
            life._say(text)
        failure(folder, 0.2, told)
    assert told.lines == [SSH]


def test_a_guest_that_hangs_is_told_with_its_console_at_the_deadline_of_its_boot(config, folder, monkeypatch):
    with agent(replace(config, boot_seconds=0.3), monkeypatch, silent, _AGAIN_SECONDS=0.0):
        error = failure(folder, 20)
    assert (type(error), error.brief) == (SshError, "the guest's ssh server did not answer in time")
    assert error.details.startswith("nothing spoke on 127.0.0.1:1\n")


def broken(*_, **__):
    time.sleep(0.3)
    raise SshError("the ssh connection to the guest could not be made", "EOFError:", "hostvm logs --console")


def test_a_handshake_that_fails_at_the_end_has_the_console_too(config, folder, monkeypatch):
    with agent(replace(config, boot_seconds=0.2), monkeypatch, lambda *_, **__: object(), handshake=broken):
        assert failure(folder, 20).brief == "the ssh connection to the guest could not be made"


@pytest.mark.parametrize("lost", [True, False])
def test_an_engine_that_is_late_or_lost_is_told_with_the_console(config, folder, monkeypatch, lost):
    def engine(connection, place, deadline, *_):
        if lost:
            connection.close()
        else:
            time.sleep(max(0.0, deadline - time.monotonic()))
        raise MachineError("the container engine did not answer in time", "nothing listens", "hostvm logs --engine")

    with agent(
        replace(config, engine_socket="/run/docker.sock", boot_seconds=0.3),
        monkeypatch,
        lambda *_, **__: object(),
        handshake=lambda *_, **__: Connection(),
        wait_engine=engine,
        _AGAIN_SECONDS=0.0,
    ):
        assert failure(folder, 20).details.startswith("nothing listens\n")


def test_an_engine_that_gives_up_is_told_in_its_own_words_alone(config, folder, monkeypatch):
    why = MachineError("the container engine does not start", "dockerd ended", "hostvm logs --engine")

    def engine(*_):
        raise why

    with (
        agent(
            replace(config, engine_socket="/run/docker.sock"),
            monkeypatch,
            lambda *_, **__: object(),
            handshake=lambda *_, **__: Connection(),
            wait_engine=engine,
        ),
        pytest.raises(MachineError) as caught,
    ):
        wait_ready(folder, time.monotonic() + 20, Told())
    assert caught.value == MachineError(why.brief, why.details, "hostvm -m m logs --engine")


@pytest.fixture
def listener(config):
    """An agent's socket that a test plays."""
    made = LocalListener(config.agent_sock)
    yield made
    made.close()


def test_an_agent_that_goes_with_its_machine_leaves_the_console(config, folder, listener):
    def go():
        sock = listener.accept()
        sock.sendall(protocol.control(protocol.PROGRESS, {"text": SSH}))
        protocol.read_frame(protocol.reader(sock))
        sock.close()

    gone, told = threading.Thread(target=go, daemon=True), Told()
    gone.start()
    error = failure(folder, 20, told)
    gone.join(10)
    assert error.brief == "the agent of machine m went away"
    assert told.lines == [SSH]


def test_an_agent_that_hangs_is_given_up_at_the_deadline(config, folder, listener, monkeypatch):
    monkeypatch.setattr(client, "_LATE", 0.1)
    held = []

    def hang():
        held.append(sock := listener.accept())
        sock.sendall(protocol.control(protocol.PROGRESS, {"text": SSH}))

    threading.Thread(target=hang, daemon=True).start()
    assert failure(folder, 0.2).brief == "the agent of machine m does not answer"
    held[0].close()


def test_an_agent_that_never_came_leaves_what_the_guest_said_beside_its_own_words(config, folder, monkeypatch):
    Path(config.log).write_text("ImportError\n")
    monkeypatch.setattr(client, "_may_appear", lambda _: False)
    error = failure(folder, 20)
    assert error.brief == "the agent of machine m did not start"
    assert error.details.startswith("ImportError\n")


def test_without_settings_there_is_no_console_to_show(folder, monkeypatch):
    monkeypatch.setattr(client, "_may_appear", lambda _: False)
    with pytest.raises(AgentError) as caught:
        wait_ready(folder, time.monotonic() + 20, Told())
    assert caught.value.details is None
