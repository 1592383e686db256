"""Use the docker client of this computer when there is one that can do what is asked.

It sees the user's own files, so contexts, compose files and `docker cp` need no detour; the engine is the guest's
all the same. Plugins are looked for where docker's own client looks for them (cli-plugins/manager).
"""

from __future__ import annotations

import os
import sys

from cli.shims import native_client

# A word of docker's command line -> the plugin that must be there for it.
_PLUGIN_WORDS = {
    "build": "docker-buildx",
    "buildx": "docker-buildx",
    "builder": "docker-buildx",
    "compose": "docker-compose",
}
_SYSTEM_PLUGINS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
    "/opt/homebrew/lib/docker/cli-plugins",
)
_OPTIONS_WITH_VALUE = (
    "--config",
    "-c",
    "--context",
    "-H",
    "--host",
    "-l",
    "--log-level",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
)


OTHER_ENGINE = ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_CERT_PATH")
"""Variables that lead docker's clients elsewhere, or make them speak TLS to a socket that has none."""


def choice() -> str:
    """`HOSTVM_CLIENT`: auto (default), host or guest."""
    return os.environ.get("HOSTVM_CLIENT", "auto")


def find_host_client(words: list[str]) -> str | None:
    """The path of a docker client on this computer that can run `docker WORDS`; None when the guest's must."""
    if choice() == "guest":
        return None
    client = native_client("docker")
    if client is None or not _plugin_is_there(words):
        return None
    return client


def _plugin_is_there(words: list[str]) -> bool:
    plugin = _PLUGIN_WORDS.get(subcommand(words))
    if plugin is None:
        return True
    from pathlib import Path

    user = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "cli-plugins"
    folders = [user, *(Path(folder) for folder in _SYSTEM_PLUGINS)]
    if sys.platform == "win32":
        folders.append(Path(os.environ.get("PROGRAMDATA", "C:\\ProgramData")) / "Docker" / "cli-plugins")
    return any((folder / name).exists() for folder in folders for name in (plugin, f"{plugin}.exe"))


def subcommand(words: list[str]) -> str:
    """The first of docker's words that is no global option; `image build` counts as `build`."""
    rest = iter(words)
    for word in rest:
        if word in _OPTIONS_WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            return next(rest, "") if word == "image" and "build" in words else word
    return ""


def run_host_client(client: str, words: list[str], docker_host: str) -> int:
    """Become the client; only Windows, which cannot, waits for it."""
    env = {key: value for key, value in os.environ.items() if key not in OTHER_ENGINE}
    env["DOCKER_HOST"] = docker_host
    env["HOSTVM_CLIENT"] = "guest"  # a "docker" on PATH that calls hostvm again finds an end in the guest's client
    if sys.platform != "win32":
        os.execve(client, ["docker", *words], env)  # noqa: S606 - the user's own words to the user's own client
    # Bind mounts of compose files: `C:\x` is said as `/c/x`, where the guest has it.
    env.setdefault("COMPOSE_CONVERT_WINDOWS_PATHS", "1")
    from hostvm.process import run_attached

    return run_attached([client, *words], env=env)
