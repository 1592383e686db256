"""The one door to other programs.

Every program starts with a scrubbed environment, standard input that is not the user's, and no terminal of its
own; what fails is told with the command as it could be pasted into a shell. Nothing else imports `subprocess`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import signal
import subprocess  # noqa: TID251 - this module is the exception the ban speaks of
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError
from hostvm.process_id import ProcessId, identify, is_alive, is_ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_LAST_OUTPUT_SECONDS = 5.0
_OUTPUT_SHOWN = 4000
"""Characters of a failed program's output that go into the error."""

# What programs need to find themselves, their libraries, their user's folders and their network; the rest of
# the user's environment (QEMU_*, LD_PRELOAD, PYTHONPATH, secrets) is not for them.
_KEPT = frozenset(
    {
        *("HOME", "USER", "LOGNAME", "PATH", "SHELL", "TERM", "TZ", "TMPDIR", "TMP", "TEMP", "LD_LIBRARY_PATH"),
        *("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"),
        *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA"),
        *("PROGRAMDATA", "PROGRAMFILES", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    }
)

_ENDINGS = ".COM;.EXE;.BAT;.CMD"

_FAULTS = {-getattr(signal, name, 0) for name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGABRT")} - {0}
_WINDOWS_FAULT = 0xC0000000
"""From here on an exit status is that of a fault (NTSTATUS: 0xC0000005 is an access violation)."""
# Ctrl-C; a program that cannot begin (its format, or a DLL: missing, without what is looked for, refusing); and a kill
# by PowerShell's Stop-Process.
_WINDOWS_NO_FAULT = {0xC000013A, 0xC000007B, 0xC0000135, 0xC0000138, 0xC0000139, 0xC0000142, 0xFFFFFFFF}


@dataclass(frozen=True, slots=True)
class Result:
    """A finished program; `status` is negative when a signal ended it (-9: SIGKILL)."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes


_hearers: list[Callable[[str], None]] = []
_crashed: set[ProcessId] = set()
_reapers: dict[ProcessId, threading.Thread] = {}
_REAP_SECONDS = 5.0


def show_commands(tell: Callable[[str], None]) -> None:
    """From here on tell every command before it is started, as it can be pasted into a shell."""
    _hearers.append(tell)


def join(argv: Sequence[str]) -> str:
    """The command as one line for a shell: on Windows in double quotes, and only where they must be."""
    if sys.platform == "win32":
        return subprocess.list2cmdline(argv)
    return shlex.join(argv)


def find_program(name: str, path: str | None = None) -> str | None:
    """Where a program is on PATH, or on another `path`; None when it is nowhere.

    On Windows both shutil and the system take one of that name from the current folder first, which is whoever's files
    are in it; so this looks by itself.
    """
    if sys.platform != "win32":
        return which(name, path=path)
    endings = [ending.lower() for ending in os.environ.get("PATHEXT", _ENDINGS).split(";") if ending]
    names = [name] if name.lower().endswith(tuple(endings)) else [name + ending for ending in endings]
    for folder in (os.environ.get("PATH", "") if path is None else path).split(os.pathsep):
        for place in (Path(folder, one) for one in names if folder):
            if place.is_file():
                return str(place)
    return None


def scrubbed_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment programs get: a few known variables, HOSTVM_*, the C locale, then `extra`."""
    env = {key: value for key, value in os.environ.items() if key in _KEPT or key.startswith("HOSTVM_")}
    return {**env, "LC_ALL": "C.UTF-8", **(extra or {})}


def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    tied: bool = False,
) -> Result:
    """Run a program to its end and collect its output.

    :param timeout: seconds; then the program and what it started are killed and reaped, as on any exception.
    :param env: added to the scrubbed environment.
    :param check: whether a status other than 0 is an error.
    :param tied: on Linux it dies with this process, as of `running`: for one that would go on without it.
    :raises HostvmError: it is missing, failed, or took too long; the details hold command, status and output.
    """
    words = tuple(str(word) for word in argv)
    started = (*_tied_to_us(), *words) if tied else words
    child = _popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=cwd)
    try:
        stdout, stderr = child.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        _kill_group(child)
        stdout, stderr = _last_output(child)
        raise HostvmError(
            f"{_name(words)} did not finish within {timeout:g} s",
            _details(words, "killed", stdout + stderr),
            f"Try it by hand: {join(words)}",
        ) from None
    except BaseException:
        _kill_group(child)
        _last_output(child)
        raise
    result = Result(words, child.returncode, stdout, stderr)
    if check and result.status != 0:
        raise failure(result)
    return result


def failure(result: Result, brief: str | None = None, resolution: str | None = None) -> HostvmError:
    """The error for a program that ended badly, for callers that ran it with `check=False`."""
    return HostvmError(
        brief or f"{_name(result.argv)} failed",
        _details(result.argv, f"exit status {result.status}", result.stderr + result.stdout),
        resolution or f"Try it by hand: {join(result.argv)}",
    )


def run_attached(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, without: Sequence[str] = ()
) -> int:
    """Run a program on the user's own terminal (an editor, a client) and return its status (128+n: signal n).

    The user's whole environment is passed on but for the variables `without`, with `env` added. Ctrl-C is the program's
    business meanwhile; SIGTERM is passed on to it, so that what the caller has to tidy up is tidied up when it ends.

    :raises HostvmError: it is missing.
    """
    words = tuple(str(word) for word in argv)
    _show(words, env)
    try:
        kept = {name: value for name, value in os.environ.items() if name not in without}
        # Also one that is a .cmd (npm), which the system does not look for.
        child = subprocess.Popen(_placed(words) or words, env={**kept, **(env or {})})
    except OSError as error:
        raise _cannot_start(words, error) from error
    with _passing_term(child):
        while True:
            try:
                status = child.wait()
            except KeyboardInterrupt:
                continue
            return status if status >= 0 else 128 - status


@contextmanager
def _passing_term(child: subprocess.Popen[bytes]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) == signal.SIG_IGN:
        yield  # signals are not ours
        return
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Child:
    """A program that runs beside its caller, made by `running`."""

    def __init__(self, process: subprocess.Popen[bytes], argv: tuple[str, ...]) -> None:
        self._process = process
        self.argv = argv
        self.pid = process.pid

    def poll(self) -> int | None:
        """Its status, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float) -> int | None:
        """Wait up to `timeout` seconds; its status, or None when it still runs."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill it and what it started, and reap it. Idempotent."""
        _kill_group(self._process)
        self._process.wait()


@contextmanager
def running(argv: Sequence[str | Path], log: Path, *, pass_fds: Sequence[int] = ()) -> Iterator[Child]:
    """Run a program beside the caller, its output in `log`; killed and reaped when the block is left.

    On Linux it also dies with its caller, where util-linux' setpriv is installed.

    :param pass_fds: descriptors it inherits under the same numbers (not on Windows).
    :raises HostvmError: it is missing.
    """
    words = tuple(str(word) for word in argv)
    with log.open("wb") as output:
        process = _popen(
            (*_tied_to_us(), *words), stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=pass_fds
        )
    child = Child(process, words)
    try:
        yield child
    finally:
        child.kill()


def spawn_detached(
    argv: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    shown: Sequence[str] = (),
) -> ProcessId:
    """Start a program that outlives its caller and has no terminal; its output is appended to `log` (0600).

    While the caller lives, the program is reaped when it ends, so that it is not seen as a zombie.

    :param pass_fds: descriptors it inherits under the same numbers (not on Windows).
    :param shown: words that do the same by hand, where a shell has none of those descriptors.
    :raises HostvmError: it is missing.
    """
    words = tuple(str(word) for word in argv)
    with open(log, "ab", opener=_open_private) as output:
        process = _popen(
            words,
            shown=shown,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
        )
    identity = None
    with contextlib.suppress(OSError):  # it runs, whoever it is
        identity = identify(process.pid)
    found = identity or ProcessId(process.pid, 0.0)
    reaper = threading.Thread(target=_reap, args=(process, found), name=f"reap-{process.pid}", daemon=True)
    _reapers[found] = reaper
    reaper.start()
    return found


def _reap(process: subprocess.Popen[bytes], identity: ProcessId) -> None:
    if is_fault(process.wait()):
        _crashed.add(identity)
    _reapers.pop(identity, None)


def has_crashed(program: ProcessId) -> bool:
    """Whether one that this process started by `spawn_detached` ended by a fault of its own; nobody's kill counts."""
    reaper = _reapers.get(program)
    with contextlib.suppress(OSError):  # the system does not tell now
        if reaper is not None and (is_ending(program.pid) or not is_alive(program)):
            reaper.join(_REAP_SECONDS)  # others see its end before the thread that waits for it has its status
    return program in _crashed


def is_fault(status: int | None) -> bool:
    """Whether an exit status, as `Popen.returncode` has it, is that of a program that did what no program may."""
    if status is None or status in _WINDOWS_NO_FAULT:
        return False
    return status in _FAULTS or status >= _WINDOWS_FAULT


def _show(words: Sequence[str], env: Mapping[str, str] | None, cwd: Path | None = None) -> None:
    line = join([*(["env", *(f"{name}={value}" for name, value in env.items())] if env else []), *words])
    for tell in _hearers:
        tell(f"cd {shlex.quote(str(cwd))} && {line}" if cwd else line)


def _placed(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """The command by its program's path, where the system would look in the current folder; None: it is nowhere."""
    if sys.platform != "win32" or any(letter in words[0] for letter in ":/\\"):
        return words
    found = find_program(words[0])
    return None if found is None else (found, *words[1:])


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _popen(
    words: tuple[str, ...], *, env: Mapping[str, str] | None = None, shown: Sequence[str] = (), **options: Any
) -> subprocess.Popen[bytes]:
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        options.pop("pass_fds", None)
    else:
        # A session of its own: the terminal's Ctrl-C reaches us alone, and a kill reaches all it started.
        options["start_new_session"] = True
    _show(shown or words, env, options.get("cwd"))
    with signals_held() as arrived:
        try:
            placed = _placed(words)
            if placed is None:
                raise FileNotFoundError(errno.ENOENT, "it is not on PATH")
            child = subprocess.Popen(placed, env=scrubbed_env(env), **options)
        except OSError as error:
            raise _cannot_start(words, error) from error
        if arrived:
            _kill_group(child)
            child.wait()
    return child


@contextmanager
def signals_held() -> Iterator[list[int]]:
    """Put off Ctrl-C and a handled SIGTERM until the block is left, then let them come; gives what has arrived.

    For two steps between which an exception would lose something: a program's birth and Popen's return, after which
    it would run on, known to nobody. After another exception in the block they do not come any more.
    """
    arrived: list[int] = []
    held: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            handler = signal.getsignal(number)
            if callable(handler):
                held[number] = handler
                signal.signal(number, lambda got, _frame: arrived.append(got))
    try:
        yield arrived
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    for number in arrived:
        signal.raise_signal(number)


def _tied_to_us() -> tuple[str, ...]:
    """Words before a command that make the kernel kill it when we end, however we end; none where that is not known.

    The shell looks whether we died before the kernel was asked.
    """
    setpriv = which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return ()
    return (setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", '[ $PPID = $0 ] && exec "$@"', str(os.getpid()))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # Once reaped, its number may be another's.
    if sys.platform != "win32" and process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _last_output(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Of a killed program. What it started may hold its pipes open: on Windows a kill reaches the program alone."""
    try:
        return child.communicate(timeout=_LAST_OUTPUT_SECONDS)
    except subprocess.TimeoutExpired as late:
        return late.stdout or b"", late.stderr or b""


def _cannot_start(words: tuple[str, ...], error: OSError) -> HostvmError:
    brief = f"cannot start {_name(words)}: {error.strerror or error}"
    return HostvmError(brief, f"command: {join(words)}", f"Check that it is installed and runs: {words[0]} --version")


def _name(words: tuple[str, ...]) -> str:
    return Path(words[0]).name


def _details(words: tuple[str, ...], ending: str, output: bytes) -> str:
    text = output.decode("utf-8", "replace").strip()
    shown = text if len(text) <= _OUTPUT_SHOWN else "[...] " + text[-_OUTPUT_SHOWN:]
    return "\n".join(part for part in (f"command: {join(words)}", ending, shown) if part)
