"""Platforms that an engine's words name: is there an emulator of them in the machine?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.ctr_words import run_platforms
from cli.docker_words import takes_next, verb_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT = "DOCKER_DEFAULT_PLATFORM"
_OPTION = "--platform"
# Of these the words behind the image are the program's own.
_PROGRAM_VERBS = ("run", "create")
# What runs programs of the platform, perhaps; other verbs only fetch and look.
_RUNNING = (*_PROGRAM_VERBS, "build", "b", "bake", "up", "start", "restart")


def named_platforms(words: list[str], env: Mapping[str, str]) -> list[str]:
    """The platforms that a command is to run programs of, as they are written; none twice.

    :param words: docker's, without "docker" itself.
    """
    verb, at = verb_words(words)
    if verb in ("buildx", "builder"):
        verb = next((word for word in words[at:] if word in _RUNNING), "")
    if verb not in _RUNNING:
        return []
    rest = words[at:]
    if verb in _PROGRAM_VERBS:
        rest = _own_options(verb, rest)
    found = []
    for number, word in enumerate(rest):
        name, equals, value = word.partition("=")
        if name == _OPTION:
            found += (value if equals else "".join(rest[number + 1 : number + 2])).split(",")
    named = found or env.get(DEFAULT, "").split(",")
    return list(dict.fromkeys(one.strip() for one in named if one.strip() and one.strip() != "local"))


def _own_options(verb: str, rest: list[str]) -> list[str]:
    at = 0
    while at < len(rest) and rest[at].startswith("-") and rest[at] not in ("-", "--"):
        at += 2 if takes_next(verb, rest[at]) else 1
    return rest[:at]


def require_emulators(
    name: str, word: str, words: list[str], env: Mapping[str, str], start: Callable[[], None]
) -> None:
    """Have the machine run programs of the platforms that are named; fetches an emulator that is not here yet.

    :param word: the engine's client, whose words these are.
    :param start: starts the machine.
    :raises MachineError: `run` or `create` of a platform that `emulate` does not name.
    :raises HostvmError: the emulator cannot be fetched or placed.
    """
    of_ctr = word == "ctr"
    platforms = run_platforms(words) if of_ctr else named_platforms(words, env)
    if not platforms:
        return
    from cli.commands.common import require_machine
    from hostvm.emulate import emulated, is_native, not_emulated, platform_arch
    from hostvm.paths import MachinePaths, cache
    from hostvm.spec import load_spec
    from hostvm.state import load_state

    paths = MachinePaths.of(name)
    require_machine(paths)
    arch, wanted = load_state(paths).arch, load_spec(paths.spec).emulate
    foreign = {platform_arch(one): one for one in platforms if not is_native(platform_arch(one), arch)}
    allowed = emulated(wanted, arch)
    unknown = [one for one in foreign if one not in allowed]
    if unknown and (of_ctr or verb_words(words)[0] in _PROGRAM_VERBS):
        raise not_emulated(name, unknown[0], foreign[unknown[0]], wanted, arch)
    if names := [one for one in foreign if one in allowed]:
        from cli.progress import make_progress
        from hostvm.agent.client import agent_is_ready
        from hostvm.emulators import provide_emulators

        if not agent_is_ready(paths.run_dir):
            start()
        provide_emulators(paths.run_dir, names, arch, cache(), make_progress(quiet=False))
