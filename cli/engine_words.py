"""`hostvm docker ...` and the other engine words, on the quick path."""

from __future__ import annotations

import os
import sys

from cli.host_client import choice, find_host_client
from hostvm.agent.client import AgentAbsent, AgentNotReady, engine_of
from hostvm.engines import WITHOUT_DOCKER_API
from hostvm.paths import DOCKER_SOCK, machine_option, run_folder
from runtime.words import BROUGHT, DOCKERS, FORWARDED

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    from typing import Any

    from cli.main import Globals

_NOT_FOUND = 127
"""Of a shell that finds no such program; also a program's own status."""

_SELDOM_COLLECTS = ("GOGC", "400")
"""For the guest's docker client, as its dockerd has it: a look ends before garbage is collected once, which took an
emulated one a quarter of its time. Not where the user's own GOGC, or that there is none, may be meant."""

_NAMING_FILES = ("--cidfile", "--iidfile", "--metadata-file", "--env-file", "--label-file", "--secret")
"""Those of cli/named_files.py."""


def run_engine_word(found: Globals) -> int:
    """Run `hostvm WORD ARGS...` and return the engine client's own exit status."""
    word, *arguments = found.rest
    engines, prefix = FORWARDED[word]
    if engine_of(run_folder(found.chosen())) not in engines:
        _require_engine(found.chosen(), word, engines)
    if word == "ctr":
        return _run_ctr(found.chosen(), arguments)
    words = [*prefix[1:], *arguments]
    if word != "docker" or not _is_for_another(words):
        words = _with_shares(found.chosen(), prefix[0], words)
        _require_emulators(found.chosen(), word, words)
    client = find_host_client(words) if word in DOCKERS else None
    if client is not None:
        return _run_here(found.chosen(), client, words)
    if choice() == "host" and word in DOCKERS:
        from hostvm.errors import ForwardError

        raise ForwardError(
            "HOSTVM_CLIENT=host, but no docker client here can do this",
            f"looked for docker on PATH, with the plugin that '{' '.join(words[:2])}' needs",
            "install one, or let the guest's do it: unset HOSTVM_CLIENT",
        )
    status = _run_in_guest(found.chosen(), prefix[:1], words)
    if status == _NOT_FOUND and word in BROUGHT:
        _require_program(found.chosen(), word)
    return status


def _is_for_another(words: list[str]) -> bool:
    """Whether docker's own options, which stand first, lead to another engine; costs nothing where there are none."""
    if not words or not words[0].startswith("-"):
        return False
    from cli.docker_words import names_engine

    return names_engine(words)


def _with_shares(name: str, program: str, words: list[str]) -> list[str]:
    """Folders of this computer as the guest has them; costs nothing where none is named."""
    if not any(word in ("run", "create") or (word == "build" and program == "podman") for word in words):
        return words
    from cli.build_words import build_at
    from cli.share_words import may_name_folders, with_guest_paths

    if not may_name_folders(words):
        return words
    from hostvm.agent.client import agent_is_ready
    from hostvm.shares.client import shared_mounts

    folder = run_folder(name)
    if not agent_is_ready(folder):
        _start(name)
    mounts, here = shared_mounts(folder), os.getcwd()  # noqa: PTH109 - as in cli/forward.py
    sock = os.path.join(folder, DOCKER_SOCK)  # noqa: PTH118 - as above
    needs = " ".join(f"{key}={value}" for key, value in BROUGHT.get(program, {}).items())
    run = f"{f'env {needs} ' if needs else ''}{program} {'run' if build_at(words) is None else 'build'}"
    return with_guest_paths(words, mounts, here, lambda: _disks(name), sock, machine_option(name), run)


def _require_emulators(name: str, word: str, words: list[str]) -> None:
    """Programs of a platform that is named can run in the machine; costs nothing where none is named.

    :raises HostvmError: they cannot, and the command is for nothing else.
    """
    if "DOCKER_DEFAULT_PLATFORM" not in os.environ and not any(one.startswith("--platform") for one in words):
        return
    from cli.platform_words import require_emulators

    require_emulators(name, word, words, os.environ, lambda: _start(name))


def _disks(name: str) -> list[str]:
    from hostvm.machines.change import booted_spec
    from hostvm.paths import MachinePaths

    spec = booted_spec(MachinePaths.of(name))
    return [disk.mount for disk in spec.disks] if spec else []


def _require_project(name: str, words: list[str]) -> None:
    """Compose, bake and stacks read their files where they run, and what is beside those: the folders must be there.

    :raises ForwardError: one is not, though the files are here.
    """
    from cli.project_files import find_project

    folders = find_project(words, os.environ)
    missing = next((folder for folder in folders if not _are_in_guest(name, [folder])), None)
    if missing is None:
        return
    from hostvm.errors import ForwardError
    from hostvm.platform.words import quoted

    raise ForwardError(
        f"{missing} is not shared with the machine at the same path",
        f"the {'compose ' if 'compose' in words else ''}client inside the guest cannot see this computer's files",
        f"hostvm mount add {quoted(missing)}{machine_option(name)}",
    )


def _in_guest_as_here(name: str, named: list[str]) -> bool:
    """Whether all of these, and the working folder, are in the guest under the same names."""
    try:
        here = os.getcwd()  # noqa: PTH109 - as above
    except FileNotFoundError:
        return False  # it was deleted meanwhile
    return bool(named) and _are_in_guest(name, [here, *named])


def _are_in_guest(name: str, paths: list[str]) -> bool:
    """Whether all of these, which are absolute, are in the guest under the same names, on Windows as it spells them."""
    from hostvm.agent.client import agent_is_ready
    from hostvm.shares.client import shared_mounts
    from hostvm.shares.model import guest_path

    folder = run_folder(name)
    if not agent_is_ready(folder):
        _start(name)
    mounts = shared_mounts(folder)
    if sys.platform == "win32":
        from hostvm.platform.windows_paths import guest_folder

        return all(guest_path(mounts, path) == guest_folder(path) is not None for path in paths)
    return all(guest_path(mounts, path) == path for path in paths)


def _run_here(name: str, client: str, words: list[str]) -> int:
    from cli.host_client import run_host_client
    from hostvm.agent.client import agent_is_ready, docker_host

    folder = run_folder(name)
    if not agent_is_ready(folder):
        _start(name)
    if sys.platform == "win32":
        from cli.windows_words import for_host_client

        words = for_host_client(words, os.getcwd(), os.environ)  # noqa: PTH109 - a plain word for plain words
    return run_host_client(client, words, docker_host(folder))


def _run_ctr(name: str, words: list[str]) -> int:
    """Its grammar is another one than docker's: what reads input or a terminal says so by other words."""
    from cli.ctr_words import with_hosts_dir

    _require_emulators(name, "ctr", words)
    reads = "-" in words or any(word in ("run", "exec", "attach", "start") for word in words)
    tty = reads and any(word in ("-t", "--tty") for word in words) and os.isatty(0) and os.isatty(1)
    return _forward(name, ["ctr", *with_hosts_dir(words)], tty=tty, stdin=0 if reads else None)


def _require_engine(name: str, word: str, engines: tuple[str, ...]) -> None:
    """Start the machine if it is off, and see that its engine has the word.

    :raises ForwardError: it has not.
    """
    from hostvm.agent.client import agent_is_ready

    folder = run_folder(name)
    if not agent_is_ready(folder):
        _start(name)
    if (engine := engine_of(folder)) in engines:
        return
    from hostvm.errors import ForwardError

    known = [one for one, (those, _) in FORWARDED.items() if engine in those]
    raise ForwardError(
        f"machine {name} has no {word}",
        f"its engine is {engine}; {word} is a word of {' and '.join(engines)}",
        "\n".join(
            [
                f"its own words are: {', '.join(f'hostvm -m {name} {one}' for one in known)}",
                f"or make a machine for it: hostvm start NAME --engine {engines[0]}",
            ]
        ),
    )


def _require_program(name: str, word: str) -> None:
    """See that a client which the user brings is in the machine's guest image.

    :raises ForwardError: it is not.
    """
    from hostvm.agent.client import run_in_guest
    from hostvm.paths import MachinePaths

    if run_in_guest(MachinePaths.of(name).run_dir, ["sh", "-c", 'command -v "$1"', "look", word]).status == 0:
        return
    from hostvm.errors import ForwardError
    from hostvm.platform.words import in_turn

    raise ForwardError(
        f"the guest image of machine {name} has no {word}",
        f"Debian has none; docs/engines.md has the recipe of an image with it ({word}.yaml)",
        in_turn(f"hostvm image build --recipe {word}.yaml", f"hostvm upgrade {name} --image {word}"),
    )


def _run_in_guest(name: str, prefix: tuple[str, ...], words: list[str]) -> int:
    if prefix[0] == "docker" and words[:1] and words[0].startswith("-"):
        from cli.client_options import for_guest

        sock = os.path.join(run_folder(name), DOCKER_SOCK)  # noqa: PTH118 - as in cli/forward.py
        words = for_guest(words, sock, lambda paths: _are_in_guest(name, paths), machine_option(name))
    if any(word.startswith(_NAMING_FILES) for word in words):
        from cli.build_context import named_paths
        from cli.named_files import differs, find_files, run_with_files

        files = find_files(words)
        named = [*(os.path.abspath(file.path) for file in files), *named_paths(words)]  # noqa: PTH100 - as below
        if any(map(differs, files)) or (files and not _in_guest_as_here(name, named)):
            from hostvm.agent.client import agent_is_ready
            from hostvm.paths import MachinePaths

            paths = MachinePaths.of(name)
            if not agent_is_ready(paths.run_dir):
                _start(name)
            return run_with_files(files, words, paths.run_dir, lambda words: _run_words(name, prefix, words))
    return _run_words(name, prefix, words)


def _run_words(name: str, prefix: tuple[str, ...], words: list[str]) -> int:
    from cli.docker_words import command_at, plan, reads_variables, starts
    from cli.guest_env import engine_env

    env = {**engine_env(os.environ), **BROUGHT.get(prefix[0], {})}
    if prefix[0] == "docker" and not reads_variables(words):
        env.setdefault(*_SELDOM_COLLECTS)
    command = words[command_at(words) :]
    if command[:1] == ["compose"] and engine_of(run_folder(name)) == "docker":
        from cli.guest_env import project_env
        from hostvm.guest import DOCKER_CONFIG

        env |= project_env(os.environ, DOCKER_CONFIG)
    if any(word in ("run", "create", "exec", "build", "b") for word in words):
        from cli.env_words import may_name_variables, with_values

        words = with_values(words, os.environ, env) if may_name_variables(words) else words
    if command[:1] in (["compose"], ["stack"]) or (command[:1] == ["buildx"] and "bake" in command):
        _require_project(name, words)
    if "cp" in command[:2] and (copied := _copy(name, words)) is not None:
        return copied
    if any(word in words for word in ("save", "export", "load")):
        from cli.archive_words import find_archive, run_archive

        archive = find_archive(words)
        if archive is not None and not _in_guest_as_here(name, [os.path.abspath(archive.path)]):  # noqa: PTH100 - as below
            return run_archive(archive, lambda words, stdin: _forward(name, [*prefix, *words], stdin=stdin, env=env))
    if "build" in words or "b" in words:
        from cli.build_context import ContextStream, find_build, guest_argv, named_paths

        # A folder that is shared at its own path needs no carrying; .dockerignore works as it does here.
        carried = bool(named := named_paths(words)) and not _in_guest_as_here(name, named)
        words = _with_places(name, words, carried=carried)
        build = find_build(words) if carried else None
        if build is not None:
            stream = ContextStream(build)
            status = _forward(name, guest_argv(prefix, build), stdin=stream.descriptor, env=env)
            stream.check()
            return status
    if sys.platform == "win32":
        from cli.windows_words import for_guest

        words = for_guest(words, os.getcwd(), os.environ)  # noqa: PTH109 - a plain word for plain words
    tty, reads = plan(words, (os.isatty(0), os.isatty(1), os.isatty(2)))
    stdin = 0 if reads else None
    return _forward(name, [*prefix, *words], tty=tty, stdin=stdin, env=env, notices=starts(words))


def _with_places(name: str, words: list[str], *, carried: bool) -> list[str]:
    """See `cli.build_options.with_places`."""
    from cli.build_options import with_places

    def there(path: str) -> str:
        if carried and sys.platform == "win32":  # what is not carried is spelled as the guest has it further on
            from hostvm.platform.windows_paths import guest_folder

            return guest_folder(path) or path
        return path

    return with_places(words, lambda paths: _are_in_guest(name, paths), there, machine_option(name), carried=carried)


def _copy(name: str, words: list[str]) -> int | None:
    """Status of a `docker cp`, which is made here, where its files are; None when the guest's client must see to it."""
    from cli.container_copy import find_copy, run_copy
    from hostvm.agent.client import agent_is_ready
    from hostvm.paths import MachinePaths

    copy = find_copy(words)
    if copy is None:
        return None
    if engine_of(run_folder(name)) in WITHOUT_DOCKER_API:
        if copy.here != "-":
            _require_place(name, copy.here)
        return None
    paths = MachinePaths.of(name)
    if not agent_is_ready(paths.run_dir):
        _start(name)
    return run_copy(paths.run_dir, name, copy)


def _require_place(name: str, path: str) -> None:
    """See that nerdctl, which copies by itself, finds this computer's file or folder.

    :raises ForwardError: it would take the guest's own.
    """
    whole = os.path.abspath(path)  # noqa: PTH100 - links stay as they are
    if _are_in_guest(name, [whole]) if os.path.isabs(path) else _in_guest_as_here(name, [whole]):  # noqa: PTH117 - as above
        return
    from hostvm.errors import ForwardError
    from hostvm.platform.words import quoted

    folder = whole if os.path.isdir(whole) else os.path.dirname(whole)  # noqa: PTH112, PTH120 - as above
    option = machine_option(name)
    raise ForwardError(
        f"{whole} is not shared with the machine at the same path",
        "the client inside the guest cannot see this computer's files",
        f"hostvm mount add {quoted(folder)}{option}\n"
        f"or, if a path of the guest is meant: hostvm shell{option} -- nerdctl cp ...",
    )


def _forward(name: str, argv: list[str], **options: Any) -> int:
    """Ask at once: a machine that is ready needs no question before. One that is not is started first."""
    from cli.forward import forward

    folder = run_folder(name)
    try:
        return forward(folder, argv, wait=0.0, explain=True, **options)
    except (AgentAbsent, AgentNotReady):
        _start(name)
        return forward(folder, argv, explain=True, **options)


def _start(name: str) -> None:
    from cli.ready import ensure_ready
    from hostvm.paths import MachinePaths

    ensure_ready(MachinePaths.of(name))
