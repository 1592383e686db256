"""A channel of an ssh connection to a guest: what paramiko's does not hear, and its end in order."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from paramiko import common
from paramiko.channel import Channel
from paramiko.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.ssh.transport import GuestTransport

_UNAWAITED = (common.cMSG_CHANNEL_WINDOW_ADJUST, common.cMSG_CHANNEL_EOF, common.cMSG_CHANNEL_CLOSE)


class GuestChannel(Channel):
    """A channel that also hears `exit-signal` and `eow@openssh.com`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_signal: str | None = None
        self.reader_gone = False
        self.answered = threading.Event()  # the guest's answer to its opening
        self.open_failure: str | None = None
        self.when_open: Callable[[GuestChannel], None] | None = None
        self.abandoned = False
        self._changed: Callable[[], None] | None = None
        self._outlet: _Outlet | None = None
        self._refused = False
        # Whom the guest's answers are for, in the order of what was asked; None: paramiko.
        self._asked: deque[Callable[[bool], None] | None] = deque()
        self._asking = threading.Lock()

    def _set_transport(self, transport: GuestTransport) -> None:
        self._outlet = _Outlet(transport)
        super()._set_transport(self._outlet)  # type: ignore[misc]

    def tell(self, changed: Callable[[], None]) -> None:
        """Have `changed` called, by the reader, whenever there may be something to do: the guest opened the channel or
        refused to, sent something, has room again, ended. It must not wait for anything.
        """
        self._changed = changed
        # Set by paramiko for what came, and for every kind of end.
        self.in_buffer.set_event(_Bell(changed))  # type: ignore[arg-type]

    def answer_came(self) -> None:
        """The guest's answer to the opening is known."""
        if self._changed is not None:
            self._changed()

    def handle_window_adjust(self, message: Message) -> None:
        """The guest has room for more."""
        self._window_adjust(message)  # type: ignore[attr-defined]
        if self._changed is not None:
            self._changed()

    @property
    def program_over(self) -> bool:
        """Whether the guest has told how the channel's program ended, or that it did not start it."""
        return self.exit_signal is not None or self.exit_status >= 0 or self._refused

    def hold(self) -> None:
        """Keep back the channel's CLOSE, if it comes, until `let_go` was called as often, or the guest closes it."""
        if self._outlet is not None:
            self._outlet.hold()

    def let_go(self) -> None:
        """See `hold`."""
        if self._outlet is not None:
            self._outlet.let_go()

    def handle_request(self, message: Message) -> None:
        """A CHANNEL_REQUEST from the guest; peeks at its name, then lets paramiko answer the ones it knows."""
        start = message.packet.tell()
        kind = message.get_text()
        if kind == "exit-signal":
            message.get_boolean()
            self.exit_signal = message.get_text()
            self.status_event.set()
        elif kind == "eow@openssh.com":
            self.reader_gone = True
        else:
            message.packet.seek(start)
            self._handle_request(message)  # type: ignore[attr-defined]

    def request(self, kind: str, *fields: bytes | str | int | bool, reply: bool = False) -> None:
        """Send a CHANNEL_REQUEST; a refusal with `reply` closes the channel, nobody waits for it.

        :raises ConnectionError: the connection is gone.
        """
        if self.closed:
            return
        if reply:
            self.ask(None, kind, *fields)
        else:
            self._send_request(kind, reply, *fields)

    def ask(self, answered: Callable[[bool], None] | None, kind: str, *fields: bytes | str | int | bool) -> None:
        """Send a CHANNEL_REQUEST, also on a channel that was closed here and whose CLOSE is kept back.

        :param answered: called by the reader with what the guest says, unless it closes the channel instead; None: see
            `request`.
        :raises ConnectionError: the connection is gone.
        """
        reply = True
        with self._asking:
            self._asked.append(answered)
            self._send_request(kind, reply, *fields)

    def handle_answer(self, message: Message, *, said_yes: bool) -> None:
        """The guest's answer to the first of what it was asked."""
        answered = self._asked.popleft() if self._asked else None
        if answered is not None:
            answered(said_yes)
        elif said_yes:
            self._request_success(message)  # type: ignore[attr-defined]
        else:
            self._refused = True
            self._request_failed(message)  # type: ignore[attr-defined]

    def handle_close(self, message: Message) -> None:
        """The guest's CLOSE: it answers nothing any more."""
        self._handle_close(message)  # type: ignore[attr-defined]
        if self._outlet is not None:
            self._outlet.let_go(altogether=True)

    def _send_request(self, kind: str, reply: bool, *fields: bytes | str | int | bool) -> None:  # noqa: FBT001
        message = make_message(common.cMSG_CHANNEL_REQUEST, self.remote_chanid, kind, reply, *fields)
        if self.transport is not None:
            self.transport._send_user_message(message)  # type: ignore[attr-defined]  # noqa: SLF001


class _Bell:
    """Stands for the event that paramiko sets when there is something to read."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.set = ring

    def clear(self) -> None:
        """All was read."""


class _Outlet:
    """A channel's view of its transport: nothing of the channel is sent after its CLOSE.

    paramiko makes a message under the channel's lock and sends it after letting go of that, so another thread's
    CLOSE may overtake it; sshd ends the whole connection for a message on a channel that is gone.

    A connection that ends meanwhile is a ConnectionError, where paramiko's own would be an EOFError; but not for what
    nobody waits for: a reader's room for more, and ends, which are sent by `recv`, `close` and the like.
    """

    def __init__(self, transport: GuestTransport) -> None:
        self._transport = transport
        self._sending = threading.Lock()
        self._closed = False
        self._holding = threading.Lock()
        self._holds = 0
        self._kept_back: Message | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def hold(self) -> None:
        """See `GuestChannel.hold`."""
        with self._holding:
            self._holds += 1

    def let_go(self, *, altogether: bool = False) -> None:
        """See `GuestChannel.let_go`; a further one is no matter."""
        with self._holding:
            self._holds = 0 if altogether else max(0, self._holds - 1)
            late = None
            if not self._holds:
                late, self._kept_back = self._kept_back, None
        if late is not None:
            self._send_user_message(late)

    def _keeps_back(self, message: Message) -> bool:
        with self._holding:
            if not self._holds:
                return False
            self._kept_back = message
            return True

    def _send_user_message(self, message: Message) -> None:
        kind = message.asbytes()[:1]
        if kind == common.cMSG_CHANNEL_CLOSE and self._keeps_back(message):
            return
        if self._transport.put_off(message, self._send_user_message):
            return
        with self._sending:
            if self._closed:
                return
            self._closed = kind == common.cMSG_CHANNEL_CLOSE
            try:
                self._transport.send_user(message)
            except (ConnectionError, EOFError):
                if kind not in _UNAWAITED:
                    raise


def make_message(kind: bytes, *fields: bytes | str | int | bool) -> Message:
    """A message of ssh: its kind, then each field as the protocol writes it."""
    message = Message()
    message.add_byte(kind)
    for field in fields:
        if isinstance(field, bool):
            message.add_boolean(field)
        elif isinstance(field, int):
            message.add_int(field)
        else:
            message.add_string(field)
    return message
