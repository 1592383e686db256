from __future__ import annotations

import contextlib
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from agent_rig import ENVIRONMENT, until
from sshd import free_port

from hostvm.agent import protocol
from hostvm.agent.client import (
    Agent,
    AgentAbsent,
    agent_is_ready,
    agent_status,
    end_agent,
    request,
    run_in_guest,
    wait_ready,
)
from hostvm.agent.parts import Parts
from hostvm.agent.run import run_agent
from hostvm.checks import Check
from hostvm.console import ENGINE_MARK, SSH_MARK
from hostvm.drivers.consoles import CONSOLE_MOST
from hostvm.errors import AgentError, HostvmError, MachineError, SshError
from hostvm.process_id import ProcessId
from hostvm.ssh.keys import make_keys
from images.progress import NullProgress


def test_sockets_are_private(agent):
    for name in ("agent.sock", "docker.sock"):
        mode = (agent.run_dir / name).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(agent.run_dir.stat().st_mode) == 0o700


def test_status(agent):
    facts = agent.status()
    assert facts["ready"] is True
    assert facts["state"] == "ready"
    assert facts["pid"] == agent.process.pid
    assert facts["docker_host"] == f"unix://{agent.run_dir}/docker.sock"
    assert 0 < facts["marks"]["banner"] <= facts["marks"]["ssh"] <= facts["marks"]["engine"] <= facts["marks"]["ready"]
    assert agent_is_ready(agent.run_dir)


def test_run_in_guest(agent):
    done = run_in_guest(agent.run_dir, ["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=10)
    assert (done.status, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


@pytest.mark.timeout(30)  # one that speaks was waited for without an end
@pytest.mark.parametrize("line", ["while echo .; do sleep 0.1; done", "sleep 60"])
def test_one_that_takes_too_long_is_not_waited_for(agent, line):
    """And is told of, not its agent, which answers."""
    with pytest.raises(AgentError, match=r"sh in machine \S+ takes longer than 0.5 s"):
        run_in_guest(agent.run_dir, ["sh", "-c", line], timeout=0.5)
    assert run_in_guest(agent.run_dir, ["echo", "next"], timeout=10).stdout == b"next\n"


def test_second_agent_leaves(agent):
    second = agent.spawn()
    assert second.wait(10) == 3
    assert "another agent" in agent.log.read_text()
    agent.processes.remove(second)
    assert agent.status()["pid"] == agent.process.pid


def test_other_version_is_told_what_to_do(agent):
    with Agent(agent.run_dir, 5) as client:
        hello = {"version": 99, "op": "status"}
        client.sock.sendall(protocol.control(protocol.HELLO, hello))
        with pytest.raises(AgentError) as caught:
            client.answer()
    assert caught.value.resolution == "hostvm restart m"


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff" * 64,
        protocol.frame(protocol.STDIN, b"x"),
        protocol.frame(protocol.HELLO, b"no json"),
        protocol.frame(protocol.HELLO, b"[]"),
        protocol.control(protocol.HELLO, {"version": protocol.VERSION, "op": "no such"}),
        protocol.control(protocol.HELLO, {"version": protocol.VERSION, "op": "exec"}),
        protocol.control(protocol.HELLO, {"version": protocol.VERSION, "op": "exec", "argv": [1]}),
        protocol.frame(protocol.HELLO, b"x" * 100)[:20],
    ],
)
def test_nonsense_ends_that_connection_only(agent, sent):
    with Agent(agent.run_dir, 10) as client:
        client.sock.sendall(sent)
        with contextlib.suppress(OSError):
            client.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(HostvmError):
            client.answer()
    assert agent_is_ready(agent.run_dir)


def flood(client: Agent) -> None:
    for _ in range(200):
        client.sock.sendall(protocol.frame(protocol.STDIN, b"x" * 65536))
    client.next_frame()


def test_input_beyond_its_credit_ends_the_session(agent):
    with Agent(agent.run_dir, 10) as client:
        client.ask("exec", argv=["sleep", "60"])
        client.answer()
        with pytest.raises((HostvmError, OSError)):
            flood(client)
    until(lambda: agent.status()["sessions"] == 0)


def test_sockets_of_a_dead_agent_are_replaced(own_agent):
    own_agent.start()
    own_agent.process.kill()
    own_agent.process.wait()
    assert (own_agent.run_dir / "agent.sock").exists()
    with pytest.raises(AgentAbsent) as caught:
        Agent(own_agent.run_dir)
    assert caught.value.resolution == "hostvm start m"
    own_agent.start()
    assert own_agent.run("echo", "again").stdout == b"again\n"


def test_a_console_that_grows_is_cut_while_the_agent_lives(own_agent):
    own_agent.start()
    console = Path(own_agent.config.console)
    with console.open("ab", buffering=0) as guest:
        guest.write(b"noise of a driver\n" * (CONSOLE_MOST // 18 + 1))
        until(lambda: console.stat().st_size < 1000, 20)
        guest.write(b"and on\n")
    assert console.read_bytes().endswith(b"\n" + SSH_MARK + b"\n" + ENGINE_MARK + b"\nand on\n")
    assert "console was cut" in own_agent.log.read_text()


def test_shutdown_removes_the_sockets(own_agent):
    own_agent.start()
    end_agent(own_agent.run_dir)
    assert own_agent.process.wait(5) == 0
    assert not list(own_agent.run_dir.glob("*.sock"))
    assert agent_status(own_agent.run_dir) is None
    end_agent(own_agent.run_dir)


def test_a_hung_agent_is_killed(own_agent):
    own_agent.start()
    own_agent.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    end_agent(own_agent.run_dir, timeout=0.5)
    assert time.monotonic() - begun < 5
    assert own_agent.process.wait(5) == -signal.SIGKILL


def test_reconnects_when_ssh_is_lost(own_agent, sshd):
    own_agent.start()
    begun = time.monotonic()
    sshd.cut(sshd.connections()[-1])
    until(lambda: "was lost" in own_agent.log.read_text())
    until(lambda: agent_is_ready(own_agent.run_dir))
    assert time.monotonic() - begun < 5
    assert own_agent.run("echo", "back").stdout == b"back\n"


@pytest.fixture
def impatient(monkeypatch):
    times = {"_IN_USE_EVERY": 0.2, "_PATIENCE": 0.5, "_PATIENCE_MOST": 0.5, "_MUCH_WAITS": 2.0}
    for name, seconds in times.items():
        monkeypatch.setattr(f"hostvm.agent.watch.{name}", seconds)


def frozen(processes):
    """Stopped for as long as the block lasts; what they are connected to stays up, and hears nothing."""
    stack = contextlib.ExitStack()
    for process in processes:
        process.suspend()
        stack.callback(process.resume)
    return stack


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_is_cut_off_is_replaced(own_agent, sshd):
    """Nothing comes through the old one and nothing tells of its end (a firewall), but sshd answers on a new one."""
    with agent_in_this_process(own_agent.config, [], [], lambda: True):
        wait_ready(own_agent.run_dir, time.monotonic() + 10, NullProgress())
        connection = sshd.connections()[-1]
        client = own_agent.popen("sleep", "71", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        # Its input fills all buffers on the way: what is said besides must not wait for it.
        full = own_agent.popen("sleep", "71", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: agent_status(own_agent.run_dir)["sessions"] == 2)
        with frozen([connection, *connection.children(recursive=True)]):
            filler = threading.Thread(target=lambda: fill(full.stdin), daemon=True)
            filler.start()
            for one in (client, full):
                assert one.wait(15) == 125
                assert b"was lost" in one.stderr.read()
                one.stderr.close()
            until(lambda: agent_is_ready(own_agent.run_dir))
            assert run_in_guest(own_agent.run_dir, ["echo", "back"], timeout=10).stdout == b"back\n"
        filler.join(10)
        sshd.cut(connection)


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_stands_still_with_much_on_its_way_is_kept(own_agent, sshd):
    """QEMU's network lets a guest wait for seconds that had no room for more, and then goes on."""
    with agent_in_this_process(own_agent.config, [], [], lambda: True):
        wait_ready(own_agent.run_dir, time.monotonic() + 10, NullProgress())
        connection = sshd.connections()[-1]
        counting = own_agent.popen("wc", "-c", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        until(lambda: agent_status(own_agent.run_dir)["sessions"] == 1)
        with frozen([connection, *connection.children(recursive=True)]):
            filler = threading.Thread(target=lambda: counting.stdin.write(bytes(1 << 20)), daemon=True)
            filler.start()
            until(lambda: "does not answer" in own_agent.log.read_text())
        filler.join(10)
        counting.stdin.close()
        assert counting.stdout.read() == b"1048576\n"
        assert counting.wait(10) == 0


def fill(pipe) -> None:
    with contextlib.suppress(OSError), pipe:
        while True:
            pipe.write(bytes(65536))


@pytest.mark.usefixtures("impatient")
def test_a_paused_guest_keeps_its_connection(own_agent, sshd):
    with agent_in_this_process(own_agent.config, [], [], lambda: True):
        wait_ready(own_agent.run_dir, time.monotonic() + 10, NullProgress())
        connection = sshd.connections()[-1]
        client = own_agent.popen("sh", "-c", "read line; echo got $line", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        until(lambda: agent_status(own_agent.run_dir)["sessions"] == 1)
        server = psutil.Process(sshd.process.pid)
        with frozen([server, *server.children(recursive=True)]):
            until(lambda: "does not answer" in own_agent.log.read_text())
            time.sleep(1.5)  # it is asked a few times
        until(lambda: "answers again" in own_agent.log.read_text())
        assert client.communicate(b"on\n", timeout=10)[0] == b"got on\n"
        assert connection.is_running()


def test_a_command_waits_for_a_guest_that_comes_late(own_agent, sshd):
    sshd.stop()
    try:
        own_agent.spawn()
        until(lambda: agent_status(own_agent.run_dir))
        assert not agent_is_ready(own_agent.run_dir)
        client = own_agent.popen("echo", "late", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        time.sleep(0.3)
        assert client.poll() is None
    finally:
        sshd.start()
    assert client.communicate(timeout=10)[0] == b"late\n"


def test_ends_with_its_machine(own_agent, sshd):
    own_agent.start()
    sshd.stop()
    try:
        assert own_agent.process.wait(10) == 0
    finally:
        sshd.start()
    assert not list(own_agent.run_dir.glob("*.sock"))


def test_start_that_dies_is_told_at_once(own_agent):
    from hostvm.agent import config as settings

    settings.store(own_agent.config, own_agent.run_dir, ProcessId(2**22 - 1, 1.0))
    own_agent.log.write_text("2026 agent begins\nout of memory\n")
    begun = time.monotonic()
    with pytest.raises(AgentError) as caught:
        wait_ready(own_agent.run_dir, begun + 60, NullProgress())
    assert time.monotonic() - begun < 2
    assert "out of memory" in caught.value.details


class Recorder:
    name = "recorder"
    early = False

    def __init__(self) -> None:
        self.events: list[str] = []

    def start(self, guest, host) -> None:
        self.events.append("start " + guest.run(["echo", "in guest"]).stdout.decode().strip())
        host.log("service speaks")

    def stop(self) -> None:
        self.events.append("stop")

    def describe(self):
        return {"events": len(self.events)}


@contextlib.contextmanager
def agent_in_this_process(config, services, checks, is_running):
    thread = threading.Thread(target=run_agent, args=(config, Parts(services, checks), is_running), daemon=True)
    thread.start()
    try:
        yield
    finally:
        end_agent(Path(config.run_dir))
        thread.join(10)


def test_services_live_with_the_connection(own_agent, sshd):
    recorder = Recorder()
    with agent_in_this_process(own_agent.config, [recorder], [], lambda: True):
        wait_ready(own_agent.run_dir, time.monotonic() + 10, NullProgress())
        until(lambda: recorder.events == ["start in guest"])
        assert agent_status(own_agent.run_dir)["services"] == {"recorder": {"events": 1}}
        sshd.cut(sshd.connections()[-1])
        until(lambda: recorder.events == ["start in guest", "stop", "start in guest"])
    assert recorder.events[-1] == "stop"
    assert "service speaks" in own_agent.log.read_text()


@pytest.mark.parametrize(
    ("whose", "unwanted"),
    [
        ("import cli.held, runtime.engine as e; e.find_engine('docker')", {"ssl", "http.client", "hostvm.net.plan"}),
        ("import cli.agent_main, hostvm.net.dns_service", {"dns", "paramiko"}),
    ],
    ids=["command", "agent"],
)
def test_who_wakes_a_machine_imports_nothing_for_later(whose, unwanted):
    """What a start from power-off needs alone; what the agent needs when it has reached the guest."""
    look = [sys.executable, "-P", "-c", f"{whose}; import sys; print(*sys.modules)"]
    done = subprocess.run(look, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert unwanted.isdisjoint(done.stdout.split())


class Watcher(Recorder):
    """One that gives way."""

    name = "watcher"
    gives_way = True


@pytest.fixture
def woken(own_agent, monkeypatch):
    """The services of an agent of a guest that was woken; whatever woke it may take its time."""
    monkeypatch.setattr("hostvm.agent.life._COMES_WITHIN", 60.0)
    monkeypatch.setattr("hostvm.agent.life._PASSES_WITHIN", 60.0)
    services = [Watcher(), Recorder()]
    with agent_in_this_process(replace(own_agent.config, woken=True), services, [], lambda: True):
        wait_ready(own_agent.run_dir, time.monotonic() + 10, NullProgress())
        until(lambda: services[1].events == ["start in guest"])
        yield services


def test_a_command_that_woke_a_guest_goes_before_services_that_give_way(own_agent, woken):
    with own_agent.popen("sh", "-c", "echo begun; read line", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"begun\n"
        time.sleep(0.2)
        assert woken[0].events == []
        child.communicate(b"go\n", timeout=10)
    until(lambda: woken[0].events == ["start in guest"])


def test_who_asks_for_all_that_happened_has_services_that_give_way_begin(own_agent, woken):
    assert woken[0].events == []
    assert request(own_agent.run_dir, "leave", after=3600.0) == {"left": False}
    assert woken[0].events == ["start in guest"]


@pytest.mark.parametrize("word", ["_COMES_WITHIN", "_PASSES_WITHIN"])
def test_services_give_way_for_a_moment_only(own_agent, monkeypatch, word):
    """Nobody comes; or whoever came stays."""
    monkeypatch.setattr("hostvm.agent.life._COMES_WITHIN", 60.0)
    monkeypatch.setattr("hostvm.agent.life._PASSES_WITHIN", 60.0)
    monkeypatch.setattr(f"hostvm.agent.life.{word}", 0.1)
    watcher = Watcher()
    with agent_in_this_process(replace(own_agent.config, woken=True), [watcher], [], lambda: True):
        wait_ready(own_agent.run_dir, time.monotonic() + 10, NullProgress())
        with own_agent.popen("cat", stdin=subprocess.PIPE) if word == "_PASSES_WITHIN" else contextlib.nullcontext():
            until(lambda: watcher.events == ["start in guest"])


def test_check_that_fails_is_told_and_the_machine_kept(own_agent, monkeypatch):
    monkeypatch.setattr("hostvm.agent.life._AGAIN_SECONDS", 3.0)
    config = replace(own_agent.config, boot_seconds=3.0)
    check = Check("data disk", ("sh", "-c", "echo not mounted; exit 1"), "look with: hostvm logs m")
    with agent_in_this_process(config, [], [check], lambda: True):
        with pytest.raises(MachineError) as caught:
            until(lambda: wait_ready(own_agent.run_dir, time.monotonic() + 20, NullProgress()))
        assert "data disk" in caught.value.brief
        assert "not mounted" in caught.value.details
        assert caught.value.resolution == "look with: hostvm logs m"
        assert agent_status(own_agent.run_dir)["state"] == "failed"
        # ssh works all the same, for a look inside.
        assert run_in_guest(own_agent.run_dir, ["echo", "inside"], timeout=10).stdout == b"inside\n"


def test_another_host_key_is_told_at_once(own_agent, tmp_path):
    config = replace(own_agent.config, host_public_key=make_keys(tmp_path).host_public)
    with agent_in_this_process(config, [], [], lambda: True):
        begun = time.monotonic()
        with pytest.raises(SshError) as caught:
            wait_ready(own_agent.run_dir, begun + 60, NullProgress())
        assert time.monotonic() - begun < 10
    assert "host key" in caught.value.brief


def test_agent_that_never_sees_a_machine_says_so(own_agent, monkeypatch):
    monkeypatch.setattr("hostvm.agent.life._APPEARS_WITHIN", 0.2)
    numbers = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]
    handlers = [signal.getsignal(number) for number in numbers]
    assert run_agent(replace(own_agent.config, ssh_port=free_port()), Parts(), lambda: False) == 0
    assert "the machine is off" in own_agent.log.read_text()
    assert [signal.getsignal(number) for number in numbers] == handlers, "whoever called it hears signals as before"


def test_preparations_run_once_the_data_is_there_and_before_ready(own_agent):
    """One that fails is a warning in the log; the next one runs all the same."""
    console, events = Path(own_agent.config.console), []
    console.write_bytes(b"Server listening on 0.0.0.0\nAPI listen on /run/docker.sock\n")

    def fail(guest):
        events.append("first")
        raise ValueError("does not matter")

    def note(guest):
        events.append(guest.run(["echo", "second"]).stdout.decode().strip())

    config, running = own_agent.config, lambda: True
    thread = threading.Thread(target=run_agent, args=(config, Parts(preparations=[fail, note]), running), daemon=True)
    thread.start()
    try:
        until(lambda: (agent_status(own_agent.run_dir) or {}).get("marks", {}).get("engine"))
        assert events == [], "nothing was prepared before the guest's data is there"
        assert not agent_status(own_agent.run_dir)["ready"]
        with console.open("ab") as file:
            file.write(b"hostvm-guest: mark services 3.1\n")
        wait_ready(own_agent.run_dir, time.monotonic() + 10, NullProgress())
        assert events == ["first", "second"]
        assert "warning: ValueError: does not matter" in Path(config.log).read_text()
    finally:
        end_agent(Path(config.run_dir))
        thread.join(10)
