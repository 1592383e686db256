"""What hostvm needs of ssh and paramiko's Transport does not do: Unix sockets, pings, channels without waiting.

Everything that touches paramiko's private attributes is here and in hostvm/ssh/channel.py; that is why the dependency
is bounded (`paramiko>=5.1,<6`). Checked against paramiko 5.1 and OpenSSH 9.2 and 10.0.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

import paramiko
from paramiko import common
from paramiko.packet import Packetizer

from hostvm.ssh.channel import GuestChannel, make_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from paramiko.message import Message
    from typing_extensions import Buffer

# A library never writes to standard error; the agent says what matters in its own words.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False

WINDOW = 2 * 1024 * 1024
PACKET = 32 * 1024
_SLICE = 0.1
_SPELL = 5.0
_WAKES, _ENDS = 1.0, 10.0


class _Packetizer(Packetizer):
    """Knows when the last message came, how many bytes were sent since, and how many lately."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.heard = time.monotonic()
        self.sent_since = 0
        self._spell, self._in_spell, self._in_spell_before = self.heard, 0, 0

    def read_message(self) -> tuple[int, Message]:
        kind, message = super().read_message()
        self.heard, self.sent_since = time.monotonic(), 0
        return kind, message

    def write_all(self, out: Buffer) -> None:
        size = memoryview(out).nbytes
        self.sent_since += size
        self._in_spell = self._turn() + size
        super().write_all(out)

    def sent_lately(self) -> int:
        """Bytes of the last 5 s, or of up to twice that."""
        return self._turn() + self._in_spell_before

    def _turn(self) -> int:
        """Begin another spell if it is time; gives what was sent in this one."""
        now = time.monotonic()
        if (passed := now - self._spell) > _SPELL:
            self._in_spell_before = self._in_spell if passed <= 2 * _SPELL else 0
            self._spell, self._in_spell = now, 0
        return self._in_spell


class GuestTransport(paramiko.Transport):
    """One ssh connection to a guest over a connected socket."""

    packetizer: _Packetizer

    # AES-GCM is 1.4 times as fast here as paramiko's first choice; x25519 is the cheapest exchange for a guest
    # under emulation, and the connection never leaves the host's loopback.
    _preferred_ciphers = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr")
    _preferred_kex = ("curve25519-sha256@libssh.org", *paramiko.Transport._preferred_kex)  # type: ignore[attr-defined]  # noqa: SLF001
    _preferred_keys = ("ssh-ed25519",)
    # The reader wakes this often to look at its flags: ten times a second by default, which an idle laptop
    # notices. `close` wakes it at once instead.
    _active_check_timeout = 5.0

    _channel_handler_table: ClassVar[dict[int, Any]] = {
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]  # noqa: SLF001
        common.MSG_CHANNEL_REQUEST: lambda channel, message: channel.handle_request(message),
        common.MSG_CHANNEL_SUCCESS: lambda channel, message: channel.handle_answer(message, said_yes=True),
        common.MSG_CHANNEL_FAILURE: lambda channel, message: channel.handle_answer(message, said_yes=False),
        common.MSG_CHANNEL_CLOSE: lambda channel, message: channel.handle_close(message),
        common.MSG_CHANNEL_WINDOW_ADJUST: lambda channel, message: channel.handle_window_adjust(message),
    }

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, default_window_size=WINDOW, default_max_packet_size=PACKET, packetizer_class=_Packetizer)
        self._socket = sock
        # paramiko holds channels weakly; these keep one alive until the guest has closed it too, so that its
        # last messages always find it and its number can be forgotten afterwards.
        self._open: dict[int, GuestChannel] = {}
        self._pong = threading.Event()
        self._pinging: threading.Thread | None = None
        self._put_off: list[tuple[Callable[[Message], None], Message]] = []
        self._listening: dict[str, Callable[[GuestChannel], None]] = {}
        handlers: dict[int, Callable[[Message], None]] = self._handler_table  # type: ignore[attr-defined]
        handlers[common.MSG_CHANNEL_OPEN_SUCCESS] = self._open_succeeded
        handlers[common.MSG_CHANNEL_OPEN_FAILURE] = self._open_failed
        handlers[common.MSG_CHANNEL_OPEN] = self._opened_by_guest
        handlers[common.MSG_NEWKEYS] = self._keys_exchanged
        handlers[common.MSG_REQUEST_SUCCESS] = self._answered
        handlers[common.MSG_REQUEST_FAILURE] = self._answered

    def open_guest_channel(self, kind: str, *fields: str | int, timeout: float = 30.0) -> GuestChannel:
        """Open a channel of any kind; `fields` follow the common part of CHANNEL_OPEN.

        :raises ConnectionRefusedError: the guest refused it; its words are the error's text.
        :raises ConnectionError: the connection is gone.
        :raises TimeoutError: no answer within `timeout` seconds.
        """
        return self._opened(self._begin_channel(kind, *fields), timeout)

    def begin_session(self, when_open: Callable[[GuestChannel], None]) -> GuestChannel:
        """Ask for a session channel without waiting; `when_open` is called with it by the reader, if sshd says yes.

        :raises ConnectionError: the connection is gone.
        """
        return self._begin_channel("session", when_open=when_open)

    def begin_polled(self, kind: str, *fields: str | int, changed: Callable[[], None]) -> GuestChannel:
        """Ask for a channel without waiting; see `GuestChannel.tell` for `changed`.

        :raises ConnectionError: the connection is gone.
        """
        return self._begin_channel(kind, *fields, changed=changed)

    def _begin_channel(
        self,
        kind: str,
        *fields: str | int,
        when_open: Callable[[GuestChannel], None] | None = None,
        changed: Callable[[], None] | None = None,
    ) -> GuestChannel:
        with self.lock:
            number = self._next_channel()  # type: ignore[attr-defined]
            channel = GuestChannel(number)
            channel.when_open = when_open
            if changed is not None:
                channel.tell(changed)
            self._channels.put(number, channel)  # type: ignore[attr-defined]
            self.channel_events[number] = channel.answered
            self.channels_seen[number] = True
            self._open[number] = channel
            channel._set_transport(self)  # noqa: SLF001
            channel._set_window(WINDOW, PACKET)  # type: ignore[attr-defined]  # noqa: SLF001
        if not self.is_active():
            self._unlink_channel(number)
            raise ConnectionError("the ssh connection is closed")
        self.send_user(make_message(common.cMSG_CHANNEL_OPEN, kind, number, WINDOW, PACKET, *fields))
        return channel

    def _opened(self, channel: GuestChannel, timeout: float) -> GuestChannel:
        answered = channel.answered.wait(timeout)
        if channel.active:
            return channel
        if channel.open_failure is not None:
            raise ConnectionRefusedError(channel.open_failure)
        channel.abandoned = True
        if channel.active:  # the answer came between the two looks
            channel.close()
        if not answered:
            raise TimeoutError(f"the guest did not answer within {timeout:g} s")
        raise ConnectionError("the ssh connection was lost")

    def accept_streamlocal(self, path: str, serve: Callable[[GuestChannel], None]) -> None:
        """Have sshd listen on a Unix socket in the guest; `serve` gets each connection in a thread of its own.

        (OpenSSH's PROTOCOL, 2.4. No answer is asked for: it could not be told from a ping's.)

        :raises ConnectionError: the connection is gone.
        """
        self._listening[path] = serve
        want_reply = False
        self.send_user(make_message(common.cMSG_GLOBAL_REQUEST, "streamlocal-forward@openssh.com", want_reply, path))

    def send_user(self, message: Message) -> None:
        """Send, waiting out a key exchange.

        :raises ConnectionError: the connection is gone.
        :raises EOFError: the same, in the reader: paramiko takes every OSError there for one of two arguments, and with
            another its thread ended in the midst, telling nobody who waited for an answer.
        """
        try:
            self._send_user_message(message)  # type: ignore[attr-defined]
        except (EOFError, OSError, paramiko.SSHException) as error:
            if threading.current_thread() is self:
                raise EOFError from error
            raise ConnectionError("the ssh connection was lost") from error

    def put_off(self, message: Message, send: Callable[[Message], None]) -> bool:
        """Whether `message` must wait for new keys without its sender; `send` is called with it when they are there.

        The reader itself cannot wait for a key exchange, which it is the one to carry out.
        """
        if threading.current_thread() is not self or self.clear_to_send.is_set():
            return False
        self._put_off.append((send, message))
        return True

    def ping(self, timeout: float) -> bool:
        """Whether sshd answers within `timeout` seconds; any answer counts, OpenSSH's is a refusal."""
        self._pong.clear()
        begun = False
        deadline = time.monotonic() + timeout
        while self.is_active() and (left := deadline - time.monotonic()) > 0:
            begun = begun or self._begin_ping()
            if self._pong.wait(min(left, _SLICE)):
                return True
        return False

    def hears(self, timeout: float) -> bool:
        """Whether anything comes from sshd within `timeout` seconds; it is asked for an answer.

        An answer queues behind what else is on its way, which may be megabytes for a slow guest: one that takes
        them says so all the while.
        """
        since = time.monotonic()
        begun = False
        while self.is_active() and time.monotonic() - since < timeout:
            begun = begun or self._begin_ping()
            if self.packetizer.heard > since:
                return True
            time.sleep(_SLICE)
        return self.packetizer.heard > since

    def quiet(self) -> float:
        """Seconds since anything came from sshd."""
        return time.monotonic() - self.packetizer.heard

    def sent_since_heard(self) -> int:
        """Bytes that were sent, or are about to be, since anything came from sshd."""
        return self.packetizer.sent_since

    def sent_lately(self) -> int:
        """Bytes that were sent in the last seconds, heard of or not: a window of them may still be on its way."""
        return self.packetizer.sent_lately()

    def _begin_ping(self) -> bool:
        """Whether one is being sent now; False: one of before is, which may have had its answer already."""
        if self._pinging is not None and self._pinging.is_alive():
            return False
        # In a thread: where nothing gets through any more, and much is on its way, sending waits for ever.
        self._pinging = threading.Thread(target=self._send_ping, name="ping", daemon=True)
        self._pinging.start()
        return True

    def _send_ping(self) -> None:
        want_reply = True
        with contextlib.suppress(ConnectionError):
            self.send_user(make_message(common.cMSG_GLOBAL_REQUEST, "keepalive@openssh.com", want_reply))

    def close(self) -> None:
        """Close all channels and the socket; wakes the reader, so it takes no time. Idempotent."""
        self.active = False  # a reader that wakes must not report an error
        with contextlib.suppress(OSError):  # already gone
            self._socket.shutdown(socket.SHUT_RDWR)
        # Not closed under the reader's hands: poll(2) looks its number up again when it wakes, and would wait on
        # whatever socket another thread has opened with that number since. Windows may not tell of the shutdown.
        self._await_reader(_WAKES)
        self.packetizer.close()
        self._await_reader(_ENDS)
        for channel in list(self._open.values()):
            channel._unlink()  # type: ignore[attr-defined]  # noqa: SLF001
        for event in list(self.channel_events.values()):
            event.set()

    def _await_reader(self, seconds: float) -> None:
        if threading.current_thread() is not self and self.is_alive():
            self.join(seconds)

    def _open_succeeded(self, message: Message) -> None:
        start = message.packet.tell()
        channel = self._open.get(message.get_int())
        message.packet.seek(start)
        self._parse_channel_open_success(message)  # type: ignore[attr-defined]
        if channel is None:
            return
        if channel.abandoned:
            channel.close()
        elif channel.when_open is not None:
            channel.when_open(channel)
        channel.answer_came()

    def _open_failed(self, message: Message) -> None:
        # paramiko keeps one exception for all channels, which two failing at once would share.
        number, reason, text = message.get_int(), message.get_int(), message.get_text()
        channel = self._open.get(number)
        if channel is not None:
            channel.open_failure = text or f"ssh reason {reason}"
        event = self.channel_events.pop(number, None)
        self._unlink_channel(number)
        if event is not None:
            event.set()
        if channel is not None:
            channel.answer_came()

    def _opened_by_guest(self, message: Message) -> None:
        start = message.packet.tell()
        kind, theirs, window, packet = message.get_text(), message.get_int(), message.get_int(), message.get_int()
        serve = self._listening.get(message.get_text()) if kind == "forwarded-streamlocal@openssh.com" else None
        if serve is None:
            message.packet.seek(start)
            self._parse_channel_open(message)  # type: ignore[attr-defined] # which refuses it
            return
        with self.lock:
            number = self._next_channel()  # type: ignore[attr-defined]
            channel = GuestChannel(number)
            self._channels.put(number, channel)  # type: ignore[attr-defined]
            self.channels_seen[number] = True
            self._open[number] = channel
            channel._set_transport(self)  # noqa: SLF001
            channel._set_window(WINDOW, PACKET)  # type: ignore[attr-defined]  # noqa: SLF001
            channel._set_remote_channel(theirs, window, packet)  # type: ignore[attr-defined]  # noqa: SLF001
        # Through the channel, so that it waits for a key exchange and comes before all else of this channel.
        channel.transport._send_user_message(  # type: ignore[union-attr]  # noqa: SLF001
            make_message(common.cMSG_CHANNEL_OPEN_SUCCESS, theirs, number, WINDOW, PACKET)
        )
        try:
            threading.Thread(target=serve, args=(channel,), name="from-guest", daemon=True).start()
        except RuntimeError:  # no thread can be had: that must not end the reader, and with it all channels
            channel.close()

    def _keys_exchanged(self, message: Message) -> None:
        self._parse_newkeys(message)  # type: ignore[attr-defined]
        waiting, self._put_off = self._put_off, []
        for send, late in waiting:
            send(late)

    def _answered(self, message: Message) -> None:
        del message
        self._pong.set()

    def _unlink_channel(self, number: int) -> None:
        self._channels.delete(number)  # type: ignore[attr-defined]
        self._open.pop(number, None)
        # Nothing follows a CLOSE from the guest; without this the table grows with every channel ever opened.
        self.channels_seen.pop(number, None)


def load_client_key(path: str) -> Any:
    """An ed25519 private key in OpenSSH format."""
    return paramiko.Ed25519Key.from_private_key_file(path)
