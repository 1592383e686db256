"""Files that an engine's words name besides: `--cidfile`, `--iidfile`, `--metadata-file`, `--env-file`, `--label-file`,
`--secret` of a build.

They are this computer's; the guest's client would write and look for them in the guest. So it gets a folder there, and
what is in it is carried.
"""

from __future__ import annotations

import os
import posixpath
import threading
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cli.build_options import read_build, secret_source
from cli.build_words import bake_at, build_at, build_takes_next
from cli.docker_words import takes_next, verb_words
from cli.guest_env import engine_env
from cli.printer import FORWARD_FAILED, tell
from cli.project_files import bake_takes_next
from hostvm.agent.client import run_in_guest
from hostvm.agent.pipe import GuestPipe
from hostvm.errors import ForwardError, HostvmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_VARIABLE = "variable"
_READ, _ENV, _WRITTEN, _ID, _NEW = "read", "env", "written", "id", "new"
_OF_PROGRAMS = {"--env-file": _ENV, "--label-file": _READ, "--cidfile": _NEW}
_OF_BUILDS = {"--iidfile": _ID, "--metadata-file": _WRITTEN}

_PLACE = "/run/hostvm-files.XXXXXX"
_PUT = 'umask 077; cat > "$1"'
# Until the connection of whoever made the folder ends, of itself or not.
_GUARD = """
trap '' HUP TERM
cat > /dev/null
rm -rf -- "$1"
"""
_SECONDS = 30.0
# Half a minute at most: nobody ends it when this process is killed.
_WAIT = """
n=0
while [ -d "$1" ] && [ $n -lt 150 ]; do
	[ -s "$2" ] && exec cat "$2"
	sleep 0.2
	n=$((n+1))
done
"""


class NamedFile(NamedTuple):
    """A file that is named.

    :param at: index of the word that holds its path.
    :param front: what stands before the path in that word.
    :param kind: read; env: read, a variable on each line; written when the command ends; id: written so, and none of
        before is left by one that fails; new: made at once, and written while the command runs; or variable: no file
        here, but `path` is the name of one that the guest's client does not get, whose value it reads from a file.
    """

    at: int
    front: str
    path: str
    kind: str


def find_files(words: list[str]) -> list[NamedFile]:
    """The files that the options of `docker WORDS` name; those of an image's own words are its program's."""
    start = build_at(words)
    if start is not None:
        return [*_options(words, start, _OF_BUILDS, build_takes_next, mixed=True), *_secrets(words)]
    if (start := bake_at(words)) is not None:
        return _options(words, start, _OF_BUILDS, bake_takes_next, mixed=True)
    verb, at = verb_words(words)
    if verb not in ("run", "create", "exec") or "compose" in words[: at - 1]:
        return []
    return _options(words, at, _OF_PROGRAMS, lambda word: takes_next(verb, word), mixed=False)


def differs(named: NamedFile) -> bool:
    """Whether the guest has no such file, though it may have one of that name: some variable does not travel there."""
    if named.kind != _ENV:
        return named.kind == _VARIABLE
    try:
        data = Path(named.path).read_bytes()
    except OSError:
        return False  # which is told where it is carried, and by the guest's client elsewhere
    return _with_values(data) != data


def _secrets(words: list[str]) -> list[NamedFile]:
    found = []
    for one in read_build(words).options:
        if one.name != "--secret":
            continue
        front, source, is_variable = secret_source(one.value, os.environ)
        if is_variable and (source not in os.environ or source in engine_env(os.environ)):
            continue  # it is there as it is here
        if source:
            found.append(NamedFile(one.at, one.front + front, source, _VARIABLE if is_variable else _READ))
    return found


def _options(
    words: list[str], at: int, kinds: dict[str, str], takes: Callable[[str], bool], *, mixed: bool
) -> list[NamedFile]:
    """:param mixed: options may follow words that are none."""
    found = []
    while at < len(words) and words[at] != "--" and (mixed or (words[at].startswith("-") and words[at] != "-")):
        word = words[at]
        name, equals, value = word.partition("=")
        if name in kinds:
            place, front = (at, name + equals) if equals else (at + 1, "")
            path = value if equals else "".join(words[place : place + 1])
            if path:
                found.append(NamedFile(place, front, path, kinds[name]))
            at = place + 1
        else:
            at += 2 if word.startswith("-") and takes(word) else 1
    return found


def run_with_files(files: list[NamedFile], words: list[str], run_dir: Path, run: Callable[[list[str]], int]) -> int:
    """Run the words with the files' places in the guest, carry the files, and return the command's exit status.

    :param run_dir: of a machine that runs.
    :param run: gets the words.
    :raises HostvmError: the guest cannot be reached, or has no space for them.
    """
    verb = "build" if build_at(words) is not None else verb_words(words)[0]
    failed = FORWARD_FAILED if verb in ("run", "create") else 1
    try:
        read = {file.at: _content(file) for file in files if file.kind in (_READ, _ENV, _VARIABLE)}
        failed = FORWARD_FAILED if verb == "run" else 1
        with _made([file for file in files if file.kind == _NEW]) as made:
            for file in files:
                if file.kind == _ID and os.path.isfile(file.path):  # noqa: PTH113 - as it was typed
                    os.unlink(file.path)  # noqa: PTH108 - as above
            return _run(files, words, run_dir, run, made, read)
    except _RefusedError as refused:
        tell(f"docker: {refused}")
        return failed


def _run(
    files: list[NamedFile],
    words: list[str],
    run_dir: Path,
    run: Callable[[list[str]], int],
    made: dict[int, _NewFile],
    read: dict[int, bytes],
) -> int:
    with _folder(run_dir, guarded=bool(read)) as folder:
        changed = list(words)
        for number, file in enumerate(files):
            there = posixpath.join(folder, str(number))
            changed[file.at] = file.front + there
            if file.at in read:
                with GuestPipe(run_dir, ["sh", "-c", _PUT, "sh", there]) as pipe:
                    pipe.write(read[file.at])
                    pipe.finish()
            elif file.kind == _NEW:
                threading.Thread(
                    target=_follow, args=(run_dir, folder, there, made[file.at]), name="cidfile", daemon=True
                ).start()
        status = run(changed)
        for number, file in enumerate(files):
            if file.at in read or (file.kind == _NEW and made[file.at].filled):
                continue
            done = run_in_guest(run_dir, ["cat", posixpath.join(folder, str(number))], timeout=_SECONDS)
            if file.kind == _NEW:
                made[file.at].fill(done.stdout)
            elif done.status == 0:
                _write(file.path, done.stdout)
        return status


@contextmanager
def _folder(run_dir: Path, *, guarded: bool) -> Iterator[str]:
    """One in the guest. `guarded`: it is gone at once also when this process is killed, or its agent."""
    folder = _in_guest(run_dir, ["mktemp", "-d", _PLACE]).decode().strip()
    try:
        with GuestPipe(run_dir, ["sh", "-c", _GUARD, "sh", folder]) if guarded else nullcontext():
            yield folder
    finally:
        with suppress(HostvmError):  # the machine is gone, and the folder with it
            run_in_guest(run_dir, ["rm", "-rf", "--", folder], timeout=_SECONDS)


class _RefusedError(Exception):
    """What docker's client would say of a file."""


class _NewFile:
    """One that is made before the command begins, written once, and gone if nothing is.

    :ivar filled: whether nothing is to be written any more.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.filled = False
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError as fault:
            raise _RefusedError(
                f"container ID file found, make sure the other container isn't running or delete {path}"
            ) from fault
        except OSError as fault:
            raise _RefusedError(f"failed to create the container ID file: {path}: {fault.strerror}") from fault

    def fill(self, data: bytes) -> None:
        with self._lock:
            if data and not self.filled:
                os.write(self._descriptor, data)
                self.filled = True

    def close(self) -> None:
        with self._lock:
            filled, self.filled = self.filled, True
            os.close(self._descriptor)
        if not filled:
            with suppress(FileNotFoundError):  # somebody removed it
                os.unlink(self._path)  # noqa: PTH108 - as it was typed


@contextmanager
def _made(files: list[NamedFile]) -> Iterator[dict[int, _NewFile]]:
    made: dict[int, _NewFile] = {}
    try:
        for file in files:
            made[file.at] = _NewFile(file.path)
        yield made
    finally:
        for one in made.values():
            one.close()


def _follow(run_dir: Path, folder: str, path: str, made: _NewFile) -> None:
    """Write it as soon as the guest's client has: whoever waits for a container's id does while the container runs."""
    try:
        while (
            done := run_in_guest(run_dir, ["sh", "-c", _WAIT, "sh", folder, path], timeout=2 * _SECONDS)
        ).status == 0:
            made.fill(done.stdout)
            if done.stdout or not _is_there(run_dir, folder):
                return
    except (HostvmError, OSError):
        return  # the command itself says why


def _is_there(run_dir: Path, folder: str) -> bool:
    return run_in_guest(run_dir, ["test", "-d", folder], timeout=_SECONDS).status == 0


def _content(named: NamedFile) -> bytes:
    if named.kind == _VARIABLE:
        return os.fsencode(os.environ[named.path])
    try:
        with open(named.path, "rb") as file:  # noqa: PTH123 - as it was typed
            data = file.read()
    except OSError as fault:
        raise _RefusedError(f"open {named.path}: {(fault.strerror or str(fault)).lower()}") from fault
    return _with_values(data) if named.kind == _ENV else data


def _with_values(data: bytes) -> bytes:
    """A file of variables with the value of each that is named alone, means this computer's, and does not travel."""
    travel = engine_env(os.environ)

    def line_of(line: bytes) -> bytes:
        name = os.fsdecode(line.strip())
        value = os.environ.get(name)
        if value is None or name in travel or "\n" in value:  # which a line cannot hold
            return line
        return os.fsencode(f"{name}={value}")

    return b"\n".join(map(line_of, data.split(b"\n")))


def _write(path: str, data: bytes) -> None:
    try:
        with open(path, "wb") as file:  # noqa: PTH123 - as it was typed
            file.write(data)
    except OSError as fault:
        raise _RefusedError(f"open {path}: {(fault.strerror or str(fault)).lower()}") from fault


def _in_guest(run_dir: Path, argv: list[str]) -> bytes:
    done = run_in_guest(run_dir, argv, timeout=_SECONDS)
    if done.status != 0:
        raise ForwardError(
            "files cannot be carried to the guest",
            done.stderr.decode(errors="replace").strip() or f"{argv[0]} ended with {done.status}",
            "look at its room: hostvm shell -- df -h /run",
        )
    return done.stdout
