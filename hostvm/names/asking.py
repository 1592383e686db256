"""Asking several that may be slow: none keeps another's answer back."""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

_Key = TypeVar("_Key")
_Answer = TypeVar("_Answer")


def begin(call: Callable[[], _Answer]) -> Future[_Answer]:
    """Call in a thread of its own, which no end of this program waits for."""
    found: Future[_Answer] = Future()

    def run() -> None:
        try:
            found.set_result(call())
        except BaseException as fault:  # noqa: BLE001 - it is the asker's
            found.set_exception(fault)

    try:
        threading.Thread(target=run, name="names-ask", daemon=True).start()
    except RuntimeError as fault:  # no thread can be had
        found.set_exception(OSError(str(fault)))
    return found


def in_turn(
    calls: Mapping[_Key, Callable[[], _Answer]], apart: float, seconds: float, unwanted: Callable[[_Answer], None]
) -> Generator[tuple[_Key, Future[_Answer] | None]]:
    """Each with its key as it ends, and after `seconds` with None those that have not.

    One is begun when all before it have ended, or `apart` seconds after the one before it. To be closed by whoever
    leaves before the end.

    :param unwanted: gets the answers that come after that.
    """
    deadline = time.monotonic() + seconds
    begun: dict[Future[_Answer], _Key] = {}
    try:
        for key, call in calls.items():
            begun[begin(call)] = key
            yield from _ended(begun, min(deadline, time.monotonic() + apart))
        yield from _ended(begun, deadline)
        yield from [(key, None) for key in begun.values()]
    finally:
        for late in begun:
            drop(late, unwanted)


def _ended(begun: dict[Future[_Answer], _Key], until: float) -> Iterator[tuple[_Key, Future[_Answer]]]:
    """Take those out that end before `until`, and give them."""
    while begun and (ended := wait(begun, max(0.0, until - time.monotonic()), FIRST_COMPLETED).done):
        for one in [one for one in begun if one in ended]:
            yield begun.pop(one), one


def drop(asked: Future[_Answer], unwanted: Callable[[_Answer], None]) -> None:
    """Wait for it no longer; what it still gives goes to `unwanted`."""
    asked.add_done_callback(lambda ended: None if ended.exception() else unwanted(ended.result()))
