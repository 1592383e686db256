"""Progress for people: bars on a terminal, plain lines elsewhere, nothing when asked to be quiet. All on stderr."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from hostvm.plain import plain
from hostvm.sizes import human_size
from images.progress import NullProgress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as RichBars
    from rich.progress import TaskID
    from rich.status import Status

    from images.progress import Progress, Task

_PLAIN_INTERVAL = 5.0  # seconds between plain lines of one long task


def make_progress(*, quiet: bool) -> Progress:
    """What suits where stderr goes."""
    if quiet:
        return NullProgress()
    return RichProgress() if sys.stderr.isatty() else PlainProgress(sys.stderr)


class _PlainTask:
    def __init__(self, name: str, total: int | None, unit: str, out: TextIO) -> None:
        self._name, self._total, self._unit, self._out = plain(name), total, unit, out
        self.done = 0
        self._began = self._told = time.monotonic()

    def advance(self, amount: int) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self._told >= _PLAIN_INTERVAL:
            self._told = now
            whole = f" of {self._show(self._total)}" if self._total else ""
            self._out.write(f"{self._name}: {self._show(self.done)}{whole}\n")
            self._out.flush()

    def end(self) -> None:
        seconds = time.monotonic() - self._began
        rate = f", {human_size(self.done / seconds)}/s" if self._unit == "B" and seconds > 0.5 else ""  # noqa: PLR2004
        self._out.write(f"{self._name}: {self._show(self.done)} in {seconds:.1f} s{rate}\n")
        self._out.flush()

    def _show(self, amount: int) -> str:
        return human_size(amount) if self._unit == "B" else str(amount)


class PlainProgress:
    """One line a finished step, and one for each thing it says to be at; for logs and pipes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._steps: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say so when it is over, or has failed."""
        began = time.monotonic()
        self._steps.append(name)
        try:
            yield
        except BaseException as error:
            self.note(f"{name}: {_failure(error, began)}")
            raise
        finally:
            self._steps.pop()
        self.note(f"{name}: {time.monotonic() - began:.1f} s")

    @contextmanager
    def task(self, name: str, total: int | None, unit: str = "") -> Iterator[Task]:
        """A line every few seconds and one at the end."""
        task = _PlainTask(name, total, unit, self._out)
        yield task
        task.end()

    def note(self, text: str) -> None:
        """One line."""
        self._out.write(plain(text) + "\n")
        self._out.flush()

    def doing(self, text: str) -> None:
        """One line, which begins with the step's name."""
        self.note(": ".join([*self._steps[-1:], text]))


class _RichTask:
    def __init__(self, bars: RichBars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: int) -> None:
        self._bars.advance(self._task, amount)


class RichProgress:
    """Live bars with sizes and rates; a finished one becomes a line."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._steps: list[tuple[str, Status]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A spinner, then the elapsed time."""
        began, name = time.monotonic(), _literal(name)
        try:
            with self._console.status(name) as status:
                self._steps.append((name, status))
                try:
                    yield
                finally:
                    self._steps.pop()
        except BaseException as error:
            self._console.print(f"[red]✗[/] {name} [dim]{_failure(error, began)}[/]")
            raise
        self._console.print(f"[green]✓[/] {name} [dim]{time.monotonic() - began:.1f} s[/]")

    @contextmanager
    def task(self, name: str, total: int | None, unit: str = "") -> Iterator[Task]:
        """A bar, then the elapsed time."""
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        measured = [DownloadColumn(binary_units=True), TransferSpeedColumn()] if unit == "B" else [MofNCompleteColumn()]
        columns = (TextColumn("{task.description}"), BarColumn(), *measured, TimeRemainingColumn())
        began, name = time.monotonic(), _literal(name)
        with Progress(*columns, console=self._console, transient=True) as bars:
            yield _RichTask(bars, bars.add_task(name, total=total))
        self._console.print(f"[green]✓[/] {name} [dim]{time.monotonic() - began:.1f} s[/]")

    def note(self, text: str) -> None:
        """One line above the bars."""
        self._console.print(plain(text), markup=False, soft_wrap=True)  # a command in it is to be pasted

    def doing(self, text: str) -> None:
        """Behind the spinner."""
        for name, status in self._steps[-1:]:
            status.update(f"{name}: {_literal(text)}")


def _literal(text: str) -> str:
    """For where rich reads markup: brackets are brackets."""
    from rich.markup import escape

    return escape(plain(text))


def _failure(error: BaseException, began: float) -> str:
    word = "failed" if isinstance(error, Exception) else "interrupted"
    return f"{word} after {time.monotonic() - began:.1f} s"
