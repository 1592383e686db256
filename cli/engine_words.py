"""`hostvm docker ...` and the other engine words, on the quick path."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cli.host_client import choice, find_host_client, run_host_client
from cli.ready import ensure_ready
from hostvm.paths import MachinePaths
from runtime.words import FORWARDED

if TYPE_CHECKING:
    from cli.main import Globals


def run_engine_word(found: Globals) -> int:
    """Run `hostvm WORD ARGS...` and return the engine client's own exit status."""
    word, *arguments = found.rest
    _, prefix = FORWARDED[word]
    paths = MachinePaths.of(found.chosen())
    ensure_ready(paths)
    words = [*prefix[1:], *arguments]
    client = find_host_client(words)
    if client is not None:
        from hostvm.agent.client import docker_host

        return run_host_client(client, words, docker_host(paths.run_dir))
    if choice() == "host":
        from hostvm.errors import ForwardError

        raise ForwardError(
            "HOSTVM_CLIENT=host, but no docker client here can do this",
            f"looked for docker on PATH, with the plugin that '{' '.join(words[:2])}' needs",
            "install one, or let the guest's do it: unset HOSTVM_CLIENT",
        )
    return _run_in_guest(paths, prefix[:1], words)


def _run_in_guest(paths: MachinePaths, prefix: tuple[str, ...], words: list[str]) -> int:
    from cli.forward import forward

    if "build" in words or "b" in words:
        from cli.build_context import find_build, guest_argv, open_context

        build = find_build(words)
        if build is not None:
            return forward(paths.run_dir, guest_argv(prefix, build), tty=False, stdin=open_context(build))
    return forward(paths.run_dir, [*prefix, *words], tty=wants_terminal(words) and _both_terminals())


def _both_terminals() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def wants_terminal(words: list[str]) -> bool:
    """Whether docker's words ask for a terminal (`-t`, `-it`, `--tty`)."""
    raise NotImplementedError
