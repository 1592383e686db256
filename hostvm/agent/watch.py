"""Whether the guest still answers on its connection, and when that is given up for a new one.

Every ping wakes the guest, which costs an emulated one some milliseconds: one that nobody uses is asked seldom, and one
that says something by itself not at all.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hostvm.ssh.banner import knock

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from hostvm.agent.attempt import Attempt
    from hostvm.ssh.connection import Connection

_LOOK_EVERY = 1.0
_IN_USE_EVERY, _UNUSED_EVERY = 1.25, 5.0
_UNANSWERED = 1.0
_IN_USE_SECONDS = 60.0
_LATE = 1.0
_USE_EVERY = 5.0  # whoever is asked may have to ask the guest
_PATIENCE, _PATIENCE_MOST = 1.0, 8.0
_OTHERS_WAIT = 3.0  # sshd's fork alone takes a busy emulated guest more than one
_MUCH = 64 * 1024
_MUCH_WAITS = 15.0
_OFTEN_SECONDS = 60.0
_SELDOM = 15.0
_SILENT_MOST = 540.0
_GLANCE = 0.1


class Watch:
    """Over one connection to the guest.

    :param idle: seconds since the machine was last used.
    :param stood_still: whether the machine stood still for want of room here; returns when it does so no more.
    :param attempt: begins to log in on a socket where sshd speaks.
    :param late: called when the guest has answered more than a second late: it may have been paused.
    """

    def __init__(
        self,
        ssh_port: int,
        idle: Callable[[], float],
        stood_still: Callable[[Connection], bool],
        log: Callable[[str], None],
        attempt: Callable[[socket.socket], Attempt],
        late: Callable[[], None],
    ) -> None:
        self._ssh_port = ssh_port
        self._idle = idle
        self._stood_still = stood_still
        self._log = log
        self._attempt = attempt
        self._late = late
        self._in_use = True
        self._use_looked_at = time.monotonic()

    def hold(self, connection: Connection) -> Attempt | None:
        """Until the connection ends; the new one, if it was given up for that."""
        another: Attempt | None = None
        patience = _PATIENCE
        while not connection.wait_closed(min(max(self._asks_in(connection), 0.0), _LOOK_EVERY)):
            if self._asks_in(connection) > 0:
                continue
            asked = time.monotonic()
            if connection.hears(patience):
                patience = max(patience * 0.9, _PATIENCE)
            else:
                self._log("the guest does not answer")
                another = self._wait_answer(connection, patience)
                patience = min(patience * 2, _PATIENCE_MOST)  # a slow one would make sshd fork again and again
            if another is None and time.monotonic() - asked > _LATE:
                self._late()
        return another

    def _asks_in(self, connection: Connection) -> float:
        """Seconds until the guest is to be asked whether it is there.

        What was sent is usually answered at once. Somebody waits for that, so that it does not matter how seldom the
        guest was asked before.
        """
        quiet = connection.quiet()
        if connection.sent_since_heard():
            return _UNANSWERED - quiet
        now = time.monotonic()
        if now - self._use_looked_at >= _USE_EVERY:
            self._in_use, self._use_looked_at = self._idle() < _IN_USE_SECONDS, now
        return (_IN_USE_EVERY if self._in_use else _UNUSED_EVERY) - quiet

    def _wait_answer(self, connection: Connection, patience: float) -> Attempt | None:
        """Until a silent connection answers, or is given up; the new one instead.

        A guest that answers nobody is paused, and given up after minutes only. One whose sshd lets others log in while
        this connection stays mute was cut off from it (a firewall, an address that changed): TCP would try again later
        and later, so a new connection is the quicker one. It is made while the old one may still answer, and is closed
        if it does. Not while much is on its way: QEMU's network asks a guest
        that had no room only 5 s later, or later still, whether there is some again (libslirp's persist timer), and a
        busy one takes long for what came; that it said something meanwhile does not mean that it took all of it. A
        paused guest gets all of these when it goes on, each at the cost of a process, so that they become rare.
        """
        begun, lately = time.monotonic(), connection.sent_lately()

        def is_stuck() -> bool:
            return max(lately, connection.sent_since_heard()) > _MUCH and time.monotonic() - begun < _MUCH_WAITS

        while connection.alive:
            if self._stood_still(connection):
                begun = time.monotonic()
            sock = knock(self._ssh_port, _OTHERS_WAIT)
            another = None
            if sock is not None and not is_stuck():
                another = self._attempt(sock)
            elif sock is not None:
                sock.close()  # to log in would cost a busy guest more than this did
            silent = time.monotonic() - begun
            # Heard meanwhile, or soon.
            answers = connection.quiet() < silent or connection.hears(patience if silent < _OFTEN_SECONDS else _SELDOM)
            while another is not None and not answers and not another.over and connection.alive:
                another.wait(_GLANCE)
                answers = connection.quiet() < time.monotonic() - begun
            if another is not None and another.made and not answers and not is_stuck():
                connection.close()
                return another
            if another is not None:
                another.close()
            if answers:
                self._log("the guest answers again")
                return None
            if silent > _SILENT_MOST:
                connection.close()
        return None
