"""The user's terminal while a program in the guest uses it: raw, and put back whatever happens."""

from __future__ import annotations

import contextlib
import os
import sys
from itertools import pairwise

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_DESCRIPTORS = 256


if sys.platform == "win32":
    import codecs
    import ctypes
    import msvcrt
    from ctypes import wintypes

    # Names of the console API (consoleapi.h).
    _PROCESSED_INPUT, _LINE_INPUT, _ECHO_INPUT, _VT_INPUT = 0x1, 0x2, 0x4, 0x200
    _PROCESSED_OUTPUT, _VT_OUTPUT, _NO_AUTO_RETURN = 0x1, 0x4, 0x8
    _UTF8 = 65001
    _ERROR_OPERATION_ABORTED = 995
    _UTF8_MOST = 3  # bytes of UTF-8 for 16 bits of UTF-16
    _CTRL_Z = "\x1a"

    @contextlib.contextmanager
    def raw_terminal(source: int, sink: int) -> Iterator[None]:
        """Keys and escape sequences go through untouched while the block runs; put back at its end.

        A killed client leaves the console as it is: the console belongs to the window, and `cmd` and PowerShell
        set their modes anew at each prompt.
        """
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        handles = [wintypes.HANDLE(msvcrt.get_osfhandle(number)) for number in (source, sink)]
        before = [wintypes.DWORD(), wintypes.DWORD()]
        for handle, mode in zip(handles, before, strict=True):
            kernel.GetConsoleMode(handle, ctypes.byref(mode))
        pages = kernel.GetConsoleCP(), kernel.GetConsoleOutputCP()
        raw = before[0].value & ~(_PROCESSED_INPUT | _LINE_INPUT | _ECHO_INPUT) | _VT_INPUT
        kernel.SetConsoleMode(handles[0], raw)
        kernel.SetConsoleMode(handles[1], before[1].value | _PROCESSED_OUTPUT | _VT_OUTPUT | _NO_AUTO_RETURN)
        kernel.SetConsoleCP(_UTF8)
        kernel.SetConsoleOutputCP(_UTF8)
        try:
            yield
        finally:
            for handle, mode in zip(handles, before, strict=True):
                kernel.SetConsoleMode(handle, mode)
            kernel.SetConsoleCP(pages[0])
            kernel.SetConsoleOutputCP(pages[1])

    @contextlib.contextmanager
    def console_output(*sinks: int) -> Iterator[None]:
        """What programs of the guest write to consoles among `sinks` is taken for UTF-8, and its escape sequences are
        obeyed, while the block runs; put back at its end.
        """
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        before = [(handle, mode) for sink in sinks if (handle := _handle(sink)) and (mode := _mode(kernel, handle))]
        page = kernel.GetConsoleOutputCP()
        if before:
            kernel.SetConsoleOutputCP(_UTF8)
        for handle, mode in before:
            kernel.SetConsoleMode(handle, mode | _PROCESSED_OUTPUT | _VT_OUTPUT)
        try:
            yield
        finally:
            for handle, mode in before:
                kernel.SetConsoleMode(handle, mode)
            if before:
                kernel.SetConsoleOutputCP(page)

    def console_reader(source: int) -> Callable[[int], bytes] | None:
        """What reads up to so many bytes of UTF-8 from a console; None where `source` is none.

        Read as bytes, each letter beyond ASCII would be a zero on Windows 10 with UTF-8
        (https://github.com/microsoft/terminal/issues/4551), and the system's code page without.
        """
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        handle = _handle(source)
        if handle is None or not _mode(kernel, handle):
            return None
        decoder = codecs.getincrementaldecoder("utf-16-le")("replace")  # a pair of surrogates may come in two pieces
        left = bytearray()

        def read(size: int) -> bytes:
            while not left:
                units = (ctypes.c_uint16 * max(1, size // _UTF8_MOST))()
                count = wintypes.DWORD()
                ctypes.set_last_error(0)
                if not kernel.ReadConsoleW(handle, units, len(units), ctypes.byref(count), None):
                    raise ctypes.WinError(ctypes.get_last_error())
                if not count.value:
                    if ctypes.get_last_error() == _ERROR_OPERATION_ABORTED:
                        continue  # Ctrl-C, which its handler tells of
                    return b""
                text = decoder.decode(bytes(units)[: 2 * count.value])
                if text.startswith(_CTRL_Z) and _mode(kernel, handle) & _LINE_INPUT:
                    return b""
                left.extend(text.encode())
            data = bytes(left[:size])
            del left[:size]
            return data

        return read

    def _handle(descriptor: int) -> wintypes.HANDLE | None:
        try:
            return wintypes.HANDLE(msvcrt.get_osfhandle(descriptor))
        except OSError:
            return None  # it is closed

    def _mode(kernel: ctypes.WinDLL, handle: wintypes.HANDLE) -> int:
        """A console's mode; 0 for what is no console. No console of ours is without any mode."""
        mode = wintypes.DWORD()
        return mode.value if kernel.GetConsoleMode(handle, ctypes.byref(mode)) else 0

    def make_binary(*descriptors: int) -> None:
        """Let bytes through as they are: the C library would translate line ends."""
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                msvcrt.setmode(descriptor, os.O_BINARY)

else:
    import termios

    @contextlib.contextmanager
    def raw_terminal(source: int, sink: int) -> Iterator[None]:
        """Keys and escape sequences go through untouched while the block runs; put back at its end.

        A small child watches over a killed client: it holds no more than the terminal and a pipe, and puts the
        terminal back when the pipe breaks, unless somebody else has set it meanwhile. To be entered before any
        thread is started, since it forks.
        """
        del sink
        before = termios.tcgetattr(source)
        raw = _raw(before)
        with _watchdog(source, before, raw):
            termios.tcsetattr(source, termios.TCSADRAIN, raw)
            try:
                yield
            finally:
                with contextlib.suppress(termios.error):  # a terminal that is gone needs no care
                    termios.tcsetattr(source, termios.TCSADRAIN, before)

    def make_binary(*descriptors: int) -> None:
        """Nothing to do: bytes go through as they are."""
        del descriptors

    def _raw(before: list[Any]) -> list[Any]:
        """As cfmakeraw(3): no echo, no lines, no signals from keys, no output translation, eight bits."""
        source, sink, control, local, *speeds, keys = before
        source &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP)
        source &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
        local &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        # No setting: macOS has it in each terminal that a shell gave back, and drops it with the first key read.
        local &= ~termios.PENDIN
        control = control & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        keys = list(keys)
        keys[termios.VMIN], keys[termios.VTIME] = 1, 0
        return [source, sink & ~termios.OPOST, control, local, *speeds, keys]

    @contextlib.contextmanager
    def _watchdog(terminal: int, before: list[Any], raw: list[Any]) -> Iterator[None]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os._exit(_watch(terminal, reader, before, raw))
        os.close(reader)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.write(writer, b".")
            os.close(writer)
            with contextlib.suppress(OSError):
                os.waitpid(child, 0)

    def _watch(terminal: int, reader: int, before: list[Any], raw: list[Any]) -> int:
        """The child: status 0 whatever happens. It never returns to the caller's code."""
        with contextlib.suppress(OSError, termios.error):
            # A session of its own: no key, hangup or stopped job of the terminal reaches it.
            os.setsid()
            # Everything else is let go, above all the agent's socket and pipes that others wait on.
            for first, last in pairwise(sorted({-1, terminal, reader, _DESCRIPTORS})):
                if first + 1 < last:
                    os.closerange(first + 1, last)
            if os.read(reader, 1) == b"" and termios.tcgetattr(terminal)[:4] == raw[:4]:
                termios.tcsetattr(terminal, termios.TCSANOW, before)
        return 0
