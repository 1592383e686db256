"""The one ssh connection to a guest, as `hostvm.guest.Guest`."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from typing import TYPE_CHECKING

from hostvm.errors import GuestTimeout, SshError
from hostvm.guest import Completed
from hostvm.platform.words import in_turn
from hostvm.ssh.banner import wait_banner
from hostvm.ssh.command import command_text
from hostvm.ssh.polled import PolledStream
from hostvm.ssh.process import SshProcess, SshStream
from hostvm.ssh.waiting import WaitingShell

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from hostvm.guest import Pty
    from hostvm.ssh.transport import GuestTransport

_CHUNK = 256 * 1024
OUTPUT_MOST = 64 * 1024 * 1024
"""Bytes of output that `run` collects, and as many of errors; what may have more is streamed."""


class SshRefused(SshError):  # noqa: N818 - what happened
    """Another host key than the planted one, or our key is not taken: trying again will not help."""


def import_paramiko() -> None:
    """Import paramiko without `invoke`, half of its import time, which it needs only for ssh_config files.

    The agent calls this while the guest boots.
    """
    if "paramiko" in sys.modules or "invoke" in sys.modules:
        return
    sys.modules["invoke"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("hostvm.ssh.transport")
    finally:
        del sys.modules["invoke"]


def connect(
    port: int,
    *,
    client_key: Path,
    host_public_key: str,
    deadline: float,
    user: str = "root",
    host: str = "127.0.0.1",
) -> Connection:
    """Wait for sshd on (host, port) and log in, accepting exactly `host_public_key`.

    :param host_public_key: `ssh-ed25519 BASE64`, as in `hostvm.ssh.keys.Keys`.
    :param deadline: on `time.monotonic`'s clock.
    :raises SshRefused: another host key, or our key was refused.
    :raises SshError: no answer before the deadline.
    """
    return handshake(
        wait_banner(port, deadline, host),
        client_key=client_key,
        host_public_key=host_public_key,
        deadline=deadline,
        user=user,
    )


def handshake(
    sock: socket.socket, *, client_key: Path, host_public_key: str, deadline: float, user: str = "root"
) -> Connection:
    """`connect` on a socket that `wait_banner` returned; the socket is closed when it fails."""
    import_paramiko()
    import paramiko

    from hostvm.ssh.transport import GuestTransport, load_client_key

    transport = GuestTransport(sock)
    left = max(1.0, deadline - time.monotonic())
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = left
    try:
        transport.start_client(timeout=left)
        _check_host_key(transport, host_public_key)
        transport.auth_publickey(user, load_client_key(str(client_key)))
        return Connection(transport)
    except BaseException as error:
        transport.close()
        if isinstance(error, paramiko.AuthenticationException):
            raise SshRefused(
                "the guest does not take the machine's ssh key",
                f"{type(error).__name__}: {error}",
                "hostvm restart   # plants it anew",
            ) from error
        if isinstance(error, (paramiko.SSHException, EOFError, OSError)):
            raise _connect_error(error) from error
        raise


def _check_host_key(transport: GuestTransport, pinned: str) -> None:
    key = transport.get_remote_server_key()
    if f"{key.get_name()} {key.get_base64()}" != pinned.strip():
        raise SshRefused(
            "the guest's host key is not the one that was planted",
            f"expected {pinned.strip()}, was shown {key.get_name()} {key.get_base64()}",
            in_turn("hostvm stop", "hostvm start   # if it stays, something else listens on the machine's ssh port"),
        )


def _connect_error(error: BaseException) -> SshError:
    return SshError(
        "the ssh connection to the guest could not be made",
        f"{type(error).__name__}: {error}",
        "hostvm logs --console   # shows what the guest's sshd said",
    )


class Connection:
    """Implements `Guest`; made by `connect`. Any thread may call anything."""

    def __init__(self, transport: GuestTransport) -> None:
        self._transport = transport
        self._shell = WaitingShell(transport)
        self._warming = threading.Lock()
        self._warm = False

    def warm_up(self) -> None:
        """Run `true`, unless that was done: sshd sets TCP_NODELAY only with a connection's first program.

        Until then every round trip takes 40 ms (measured with OpenSSH 9.2 and 10.0).
        """
        with self._warming:
            if not self._warm:
                self.run(["true"])
                self._warm = True

    @property
    def alive(self) -> bool:
        """Whether the connection stood when last heard of; see `ping`."""
        return self._transport.is_active()

    def ping(self, timeout: float) -> bool:
        """Whether the guest's sshd answers within `timeout` seconds."""
        return self._transport.ping(timeout)

    def hears(self, timeout: float) -> bool:
        """Whether the guest sends anything within `timeout` seconds, an answer to a ping or what else is on its way."""
        return self._transport.hears(timeout)

    def quiet(self) -> float:
        """Seconds since the guest last sent anything."""
        return self._transport.quiet()

    def sent_since_heard(self) -> int:
        """Bytes on their way to the guest, at most: those since it last sent anything."""
        return self._transport.sent_since_heard()

    def sent_lately(self) -> int:
        """Bytes that were sent in the last 5 to 10 s, whatever was heard meanwhile."""
        return self._transport.sent_lately()

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for the end of the connection; True when it ended."""
        self._transport.join(timeout)
        return not self._transport.is_alive()

    def run(
        self,
        argv: Sequence[str | bytes],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        """See `Guest.run`."""
        process = self._start(argv, env, cwd, None)
        expired, too_long = threading.Event(), threading.Event()

        def give_up(why: threading.Event = expired) -> None:
            why.set()
            process.abort()

        timer = threading.Timer(timeout, give_up)
        timer.daemon = True
        timer.start()
        try:
            completed = _communicate(process, stdin, lambda: give_up(too_long))
        except SshError:
            if not expired.is_set() and not too_long.is_set():
                raise
        finally:
            timer.cancel()
            process.close()
        if too_long.is_set():
            raise SshError(
                "a program in the guest has too much to say",
                f"{command_text(argv).decode(errors='replace')} wrote more than {OUTPUT_MOST >> 20} MiB and was killed",
                "hostvm shell   # look what it is that answers there",
            )
        if expired.is_set():
            raise GuestTimeout(
                "a program in the guest took too long",
                f"{command_text(argv).decode(errors='replace')} ran for more than {timeout:g} s and was killed",
                "hostvm shell -- top -bn1   # shows what keeps the guest busy",
            )
        return completed

    def stream(
        self,
        argv: Sequence[str | bytes],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pty: Pty | None = None,
    ) -> SshProcess:
        """See `Guest.stream`."""
        return self._start(argv, env, cwd, pty)

    def open_socket(self, path: str) -> SshStream:
        """See `Guest.open_socket`. Such channels do not count against sshd's MaxSessions."""
        return SshStream(self._transport.open_guest_channel("direct-streamlocal@openssh.com", path, "", 0))

    def accept_socket(self, path: str, serve: Callable[[SshStream], None]) -> None:
        """See `Guest.accept_socket`. sshd does not say when it cannot listen; look for the socket."""
        self._transport.accept_streamlocal(path, lambda channel: serve(SshStream(channel)))

    def open_tcp(self, host: str, port: int) -> SshStream:
        """See `Guest.open_tcp`."""
        return SshStream(self._transport.open_guest_channel("direct-tcpip", host, port, "127.0.0.1", 0))

    def begin_tcp(self, host: str, port: int, changed: Callable[[], None]) -> PolledStream:
        """Begin to connect from inside the guest; returns at once.

        :param changed: called whenever the stream may have something new to tell, by the connection's own thread, which
            it must not hold up.
        :raises ConnectionError: the connection is gone.
        """
        words = (host, port, "127.0.0.1", 0)
        return PolledStream(self._transport.begin_polled("direct-tcpip", *words, changed=changed))

    def close(self) -> None:
        """End the connection and everything on it. Idempotent."""
        self._transport.close()

    def _start(
        self,
        argv: Sequence[str | bytes],
        env: Mapping[str, str] | None,
        cwd: str | None,
        pty: Pty | None,
    ) -> SshProcess:
        text = command_text(argv, env, cwd)
        if pty is None and (waiting := self._shell.take(text)) is not None:
            return SshProcess(waiting, has_pty=False, when_closed=self._shell.prepare)
        try:
            channel = self._transport.open_guest_channel("session")
            # The requests are sent without waiting for their answers: a refusal closes the channel.
            if pty is not None:
                channel.request("pty-req", pty.term, pty.columns, pty.rows, 0, 0, b"\0", reply=True)
            channel.request("exec", text, reply=True)
        except OSError as error:
            raise SshError(
                "the guest did not start a program",
                str(error),
                "hostvm status   # shows whether the machine is reached",
            ) from error
        self._shell.prepare()
        return SshProcess(channel, has_pty=pty is not None)


def _communicate(process: SshProcess, stdin: bytes, too_long: Callable[[], None]) -> Completed:
    errors: list[bytes] = []
    threads = [threading.Thread(target=lambda: errors.extend(_chunks(process.read_stderr, too_long)), daemon=True)]
    if stdin:
        threads.append(threading.Thread(target=_feed, args=(process, stdin), daemon=True))
    else:
        process.close_stdin()
    for thread in threads:
        thread.start()
    output = list(_chunks(process.read_stdout, too_long))
    threads[0].join()
    return Completed(process.wait(), b"".join(output), b"".join(errors))


def _feed(process: SshProcess, stdin: bytes) -> None:
    try:
        process.write_stdin(stdin)
    except OSError:
        return  # it did not want all of it
    process.close_stdin()


def _chunks(read: Callable[[int], bytes], too_long: Callable[[], None]) -> Iterator[bytes]:
    size = 0
    while data := read(_CHUNK):
        size += len(data)
        if size > OUTPUT_MOST:
            too_long()
            return
        yield data
