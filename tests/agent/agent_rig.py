"""What the tests of this folder share: an agent and clients of it as processes, waiting, connecting."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}


def until(condition, seconds=10.0):
    """Wait for a condition; gives its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not after {seconds} s"
        time.sleep(0.02)
    return value


def waiting_shell(guest):
    """The channel of the shell that waits in the guest for the next command."""
    guest.run(["true"])
    until(lambda: guest._shell._channel is not None and guest._shell._begun is guest._shell._channel)
    return guest._shell._channel


def has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more; nobody need have waited for it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


class AgentUnderTest:
    """A machine's run folder, and an agent process for it."""

    def __init__(self, folder: Path, sshd, engine_socket: str) -> None:
        from hostvm.agent import config as settings
        from hostvm.console import ENGINE_MARK, SSH_MARK

        self.run_dir = folder / "m"
        self.log = self.run_dir / "agent.log"
        self.config = settings.AgentConfig(
            name="m",
            run_dir=str(self.run_dir),
            home=str(folder),
            log=str(self.log),
            ssh_port=sshd.port,
            client_key=str(sshd.keys.client_key),
            host_public_key=sshd.keys.host_public,
            engine_socket=engine_socket,
            console=str(folder / "console.log"),
            user=sshd.user,
        )
        # What a guest says on its console when its sshd and its engine listen.
        Path(self.config.console).write_bytes(SSH_MARK + b"\n" + ENGINE_MARK + b"\n")
        settings.store(self.config, self.run_dir)
        self.processes: list[subprocess.Popen] = []

    def spawn(self) -> subprocess.Popen:
        from hostvm import process_id
        from hostvm.agent import config as settings

        argv = [sys.executable, HERE / "agent_process.py", self.run_dir]
        child = subprocess.Popen(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, start_new_session=True)
        self.processes.append(child)
        identity = process_id.identify(child.pid)
        settings.store(self.config, self.run_dir, identity)
        return child

    def start(self) -> None:
        from hostvm.agent.client import wait_ready
        from images.progress import NullProgress

        self.spawn()
        wait_ready(self.run_dir, time.monotonic() + 15, NullProgress())

    @property
    def process(self) -> subprocess.Popen:
        return self.processes[-1]

    def status(self):
        from hostvm.agent.client import agent_status

        return agent_status(self.run_dir)

    def stop(self) -> None:
        for child in self.processes:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
            child.wait(10)

    def argv(self, mode: str, *words: str | bytes) -> list[str | bytes]:
        return [sys.executable, str(HERE / "client_process.py"), str(self.run_dir), mode, *words]

    def run(self, *words: str | bytes, mode: str = "plain", **options) -> subprocess.CompletedProcess:
        options.setdefault("stdin", subprocess.DEVNULL) if "input" not in options else None
        return subprocess.run(
            self.argv(mode, *words), env=ENVIRONMENT, capture_output=True, timeout=60, check=False, **options
        )

    def popen(self, *words: str | bytes, mode: str = "plain", **options) -> subprocess.Popen:
        return subprocess.Popen(self.argv(mode, *words), env=ENVIRONMENT, **options)


def connect_to(sshd, **changes):
    from hostvm.ssh.connection import connect

    options = {
        "port": sshd.port,
        "client_key": sshd.keys.client_key,
        "host_public_key": sshd.keys.host_public,
        "deadline": time.monotonic() + 10,
        "user": sshd.user,
        **changes,
    }
    return connect(**options)


@contextlib.contextmanager
def udp_echo():
    """The port of a program that gives every datagram back, with "re " before it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve():
            while (received := server.recvfrom(65535))[1] is not None:  # None: it was shut
                server.sendto(b"re " + received[0], received[1])

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RD)
