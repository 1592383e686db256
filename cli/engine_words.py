"""`hostvm docker ...` and the other engine words, on the quick path."""

from __future__ import annotations

import os
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
    from cli.docker_words import plan
    from cli.forward import forward
    from cli.guest_env import engine_env

    env = engine_env(os.environ)
    if "build" in words or "b" in words:
        from cli.build_context import find_build, guest_argv, open_context

        build = find_build(words)
        if build is not None:
            return forward(paths.run_dir, guest_argv(prefix, build), stdin=open_context(build), env=env)
    tty, reads = plan(words, (os.isatty(0), os.isatty(1), os.isatty(2)))
    return forward(paths.run_dir, [*prefix, *words], tty=tty, stdin=0 if reads else None, env=env)
