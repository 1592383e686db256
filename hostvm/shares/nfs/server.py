"""The NFS server of one machine's shares: who is answered, in which order, and when.

Not a general server. It has one client, which proves itself by a secret name with each call; a handle proves nothing,
since any program in the guest can read one (name_to_handle_at). What calls do: `hostvm.shares.nfs.procedures`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import itertools
import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from hostvm.shares.fields import WireError, encode
from hostvm.shares.nfs import rpc, wire
from hostvm.shares.nfs.lasting import Lasting
from hostvm.shares.nfs.places import ROOT
from hostvm.shares.nfs.procedures import Procedures
from hostvm.shares.nfs.refusals import OK, Later, RefusedError, refusal
from hostvm.shares.nfs.xdr import opaque, u32

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.guest import Stream
    from hostvm.shares.nfs.exports import Export
    from hostvm.shares.nfs.rpc import Call

_CHUNK, _CHUNK_OF_MORE = 32 * 1024, 256 * 1024
"""Bytes received at once, of what begins and of what goes on: to have room for more takes longer than to fill it."""

# What must not be done again when its answer was lost with the connection.
_ONCE = frozenset(
    (
        wire.SETATTR,
        wire.WRITE,
        wire.CREATE,
        wire.MKDIR,
        wire.SYMLINK,
        wire.MKNOD,
        wire.REMOVE,
        wire.RMDIR,
        wire.RENAME,
        wire.LINK,
    )
)
_ANSWERS_KEPT = 4096
_TOLD_APART = 2048
"""Bytes at the beginning of a call that hold all but what is written."""
_SENT_AT_ONCE = 64 * 1024
_SWEEP_SECONDS = 1.0
_NO = u32(0)


class NfsServer:
    """Answers all connections of a guest, one call after the other.

    :param client: what the guest's kernel calls itself.
    :param find_export: the share whose handles begin with this; raises KeyError.
    :param exports: all that are used.
    """

    def __init__(
        self,
        client: str,
        find_export: Callable[[bytes], Export],
        exports: Callable[[], list[Export]],
        log: Callable[[str], None],
    ) -> None:
        self._client = encode(client)
        self._find_export = find_export
        self._exports = exports
        self._log = log
        self._lock = threading.Lock()
        self._connections = itertools.count(1)
        self._newest = 0
        self._sweeper: threading.Timer | None = None
        self._lasting = Lasting(log)
        self._answered: OrderedDict[tuple[int, int, bytes], bytes] = OrderedDict()
        self._procedures = Procedures(find_export, self._lasting, self._sweep_soon)

    def complete(self) -> None:
        """All shares are given out that ever will be; until then nothing is gone."""
        self._procedures.handles.complete = True

    def end(self) -> None:
        """Put on the disk what waits to be, since this process is about to end; calls are answered until then."""
        with contextlib.suppress(OSError):  # the log tells it
            self._lasting.drain()

    def let_go(self, export: Export) -> None:
        """Close what is open of a share that is given out no more."""
        with self._lock:
            export.close()

    def run(self, stream: Stream) -> None:
        """Serve a connection until the guest leaves, it breaks, or another one has taken its place."""
        waiting = bytearray()
        sending = threading.Lock()
        connection = next(self._connections)

        def send(data: bytes) -> None:
            with sending:
                stream.sendall(data)

        def later(answer: bytes) -> None:
            send(rpc.record(answer))

        try:
            while data := stream.recv(_CHUNK_OF_MORE if waiting else _CHUNK):
                waiting += data
                answers = bytearray()
                for record in rpc.take_records(waiting):
                    if (answer := self.answer(record, later, connection)) is not None:
                        answers += rpc.record(answer)
                    if len(answers) > _SENT_AT_ONCE:
                        send(bytes(answers))
                        answers.clear()
                if answers:
                    send(bytes(answers))
        except (OSError, rpc.RpcError):
            return
        finally:
            stream.close()

    def answer(self, record: memoryview, send: Callable[[bytes], None], connection: int = 0) -> bytes | None:
        """The answer to one call; None: `send` is called with it from another thread.

        :param connection: a later one has a higher number.
        :raises RpcError: it is no call, or one that the guest has made again by a later connection.
        """
        call = rpc.parse_call(record)
        if call.procedure != wire.NULL and not hmac.compare_digest(encode(call.machine), self._client):
            return rpc.denial(call.number)
        state, body = rpc.SUCCESS, b""
        try:
            if call.program not in (wire.NFS, wire.MOUNT):
                state = rpc.UNKNOWN_PROGRAM
            elif call.version != wire.VERSION:
                state, body = rpc.UNKNOWN_VERSION, u32(wire.VERSION) * 2
            elif call.program == wire.MOUNT:
                state, body = self._mount_program(call)
            elif call.procedure in self._procedures.table:
                with self._lock:
                    self._require_newest(connection)
                    body = self._once(call, record)
            elif call.procedure != wire.NULL:
                state = rpc.UNKNOWN_PROCEDURE
        except WireError:
            state = rpc.GARBAGE
        except Later as later:
            words = (later.descriptor, rpc.reply(call.number, rpc.SUCCESS, later.answer), call, send)
            self._begin_later(*words)
            return None
        return rpc.reply(call.number, state, body)

    def _require_newest(self, connection: int) -> None:
        """What an older connection still holds was sent again by the newest, and answered."""
        if connection < self._newest:
            raise rpc.RpcError("another connection has taken its place")
        self._newest = connection

    def _once(self, call: Call, record: memoryview) -> bytes:
        """One call; what was done already is answered as it was then."""
        once = call.procedure in _ONCE
        key = (call.number, call.procedure, hashlib.sha256(record[:_TOLD_APART]).digest() if once else b"")
        if key in self._answered:
            return self._answered[key]
        try:
            body = self._procedures.answer(call)
        except (WireError, Later):
            raise
        except RefusedError as fault:
            body = refusal(call.procedure, fault.code)
        except OSError as fault:
            body = refusal(call.procedure, wire.code_of(fault))
        except (ValueError, OverflowError):  # a name or place that this computer's files cannot have
            body = refusal(call.procedure, wire.code_of(OSError(errno.EINVAL, "")))
        except Exception as fault:  # noqa: BLE001 - unanswered, it would be asked for ever, before all else
            self._log(f"shares: nfs call {call.procedure} failed: {type(fault).__name__}: {fault}")
            body = refusal(call.procedure, wire.SERVER_FAULT)
        if once:
            self._answered[key] = body
            while len(self._answered) > _ANSWERS_KEPT:
                self._answered.popitem(last=False)
        return body

    def _begin_later(self, descriptor: int, answer: bytes, call: Call, send: Callable[[bytes], None]) -> None:
        words = (descriptor, answer, call, send)
        try:
            threading.Thread(target=self._put_on_disk, args=words, name="shares-fsync", daemon=True).start()
        except RuntimeError:  # there can be no more threads
            self._put_on_disk(*words)

    def _put_on_disk(self, descriptor: int, answer: bytes, call: Call, send: Callable[[bytes], None]) -> None:
        try:
            self._lasting.drain()
            os.fsync(descriptor)
        except OSError as fault:
            answer = rpc.reply(call.number, rpc.SUCCESS, refusal(call.procedure, wire.code_of(fault)))
        finally:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        with contextlib.suppress(OSError):  # the guest has left
            send(answer)

    def _sweep_soon(self) -> None:
        """With the lock held: close after a while what is open."""
        if self._sweeper is None:
            self._sweeper = threading.Timer(_SWEEP_SECONDS, self._sweep)
            self._sweeper.daemon = True
            self._sweeper.start()

    def _sweep(self) -> None:
        with self._lock:
            self._sweeper = None
            still_open = [export for export in self._exports() if export.files.sweep()]
            if still_open:
                self._sweep_soon()

    # ---- mounting

    def _mount_program(self, call: Call) -> tuple[int, bytes]:
        if call.procedure == wire.MOUNT_MNT:
            try:
                export = self._find_export(bytes.fromhex(call.arguments.text(wire.PATH_MOST).strip("/")))
            except (KeyError, ValueError, OSError):
                return rpc.SUCCESS, u32(wire.code_of(OSError(errno.EACCES, "")))
            return rpc.SUCCESS, OK + opaque(export.handle(ROOT)) + u32(1) + u32(wire.AUTH_SYS)
        if call.procedure in (wire.MOUNT_DUMP, wire.MOUNT_EXPORT):
            return rpc.SUCCESS, _NO
        known = call.procedure in (wire.MOUNT_NULL, wire.MOUNT_UMNT, wire.MOUNT_UMNT_ALL)
        return (rpc.SUCCESS if known else rpc.UNKNOWN_PROCEDURE), b""
