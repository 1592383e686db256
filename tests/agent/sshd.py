"""A real sshd on the loopback, standing for a guest's: own keys and configuration, an ordinary user's login."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from hostvm.ssh.keys import Keys, authorized_keys_line, make_keys

# Debian 12's sshd passes signals on only for ordinary users; the guest's newer one does for root too.
LOGIN = f"hv-sshd-{os.getpid()}"  # of this run: another one beside it has its own

CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {host_key}
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
StreamLocalBindMask 0177
AcceptEnv *
MaxSessions 1000
MaxStartups 500
PrintMotd no
"""


class Sshd:
    """`port`, `user`, `keys`, `home`; `stop()` and `start()` end and begin it with all its connections."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.keys: Keys = make_keys(folder / "keys")
        self.port = free_port()
        self.user = self._login()
        (folder / "authorized_keys").write_text(authorized_keys_line(self.keys.client_public))
        config = CONFIG.format(port=self.port, host_key=self.keys.host_key, folder=folder)
        (folder / "sshd_config").write_text(config)
        self.process: subprocess.Popen[bytes] | None = None

    def _login(self) -> str:
        if os.getuid() != 0:
            return pwd.getpwuid(os.getuid()).pw_name
        subprocess.run(
            ["useradd", "--system", "--shell", "/bin/sh", "--password", "*", "--home-dir", self.home, LOGIN],
            check=True,
        )
        shutil.chown(self.home, LOGIN)
        return LOGIN

    def start(self) -> None:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        log = (self.folder / "sshd.log").open("ab")
        self.process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", self.folder / "sshd_config"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError((self.folder / "sshd.log").read_text())

    def connections(self) -> list[psutil.Process]:
        """The children that serve connections, oldest first; each has a child without privileges."""
        assert self.process is not None
        dated = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                dated.append((child.create_time(), child.pid, child))
        return [child for _, _, child in sorted(dated)]

    def cut(self, connection: psutil.Process) -> None:
        """End one connection as a crash would."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*connection.children(recursive=True), connection]:
                process.kill()

    def stop(self) -> None:
        if self.process is None:
            return
        connections = self.connections()
        self.process.terminate()
        self.process.wait(10)
        self.process = None
        for connection in connections:
            self.cut(connection)

    def remove(self) -> None:
        self.stop()
        if self.user == LOGIN:
            deadline = time.monotonic() + 10
            while subprocess.run(["pkill", "-KILL", "-U", LOGIN], check=False).returncode == 0:
                assert time.monotonic() < deadline, f"processes of {LOGIN} do not end"
                time.sleep(0.05)
            subprocess.run(["userdel", LOGIN], check=True)


@contextlib.contextmanager
def running_sshd():
    folder = Path(tempfile.mkdtemp(prefix="hostvm-sshd-"))
    folder.chmod(0o755)
    sshd = Sshd(folder)
    try:
        sshd.start()
        yield sshd
    finally:
        sshd.remove()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
