"""What could come next on a `hostvm` command line: asked by the shells' completion scripts.

`hostvm __complete SHELL ...` answers with a first line of switches (`files`, `dirs`, `nospace`), then a candidate a
line, a description behind a tab. hostvm's own words come from its parser; an engine's are asked of its client in the
guest (cobra's `__complete`), quickly and silently: a machine that is off has nothing to say.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cli.main import split_globals
from cli.manage import build_parser
from hostvm.agent import protocol
from hostvm.agent.client import Agent
from hostvm.config.templates import bundled
from hostvm.errors import HostvmError
from hostvm.paths import MachinePaths, machine_names, run_folder
from hostvm.plain import plain_line
from hostvm.spec import BY_KEY
from runtime.words import FORWARDED

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS = 8.0  # compose's words take an emulated guest on a slow computer 4.3
_FILES = frozenset({"FILE", "PATH", "TEMPLATE"})
_FOLDERS = frozenset({"DIR"})
_MACHINES = frozenset({"name", "machine", "source", "target"})
# cobra's ShellCompDirective
_ERROR, _NO_SPACE, _NO_FILES, _ONLY_ENDINGS, _ONLY_DIRS = 1, 2, 4, 8, 16


@dataclass
class Answer:
    """Candidates with their descriptions, and what the shell is to do besides: `files`, `dirs`, `nospace`."""

    items: list[tuple[str, str]] = field(default_factory=list)
    switches: set[str] = field(default_factory=set)


def complete(words: list[str], launcher: Sequence[str] = ()) -> int:
    """`hostvm __complete SHELL ...`: bash gives its line up to the cursor and COMP_WORDBREAKS, others the words.

    :param launcher: hostvm's words that the program stands for which was typed.

    Never a message and never a failure: it would land in the middle of what the user types.
    """
    shell, *rest = words
    breaks = ""
    if shell == "powershell":
        rest = ["" if word == "''" else word for word in rest]
    if shell == "bash":
        rest, breaks = split_line(rest[0])[1:], rest[1]
    try:
        answer = answer_for([*launcher, *(rest or [""])])
    except (HostvmError, OSError, ValueError):
        return 0
    sys.stdout.write(render(shell, answer, (rest or [""])[-1], breaks))
    return 0


def render(shell: str, answer: Answer, current: str, breaks: str = "") -> str:
    """The answer as text, only what `current` can become."""
    items = [(value, text) for value, text in answer.items if value.startswith(current)]
    lines = [" ".join(sorted(answer.switches))]
    if shell == "bash":
        # bash completes only what stands behind the last of its break characters.
        cut = max((current.rfind(mark) for mark in ":=" if mark in breaks), default=-1) + 1
        lines += [value[cut:] for value, _ in items]
    else:
        lines += [f"{value}\t{text}" if text else value for value, text in items]
    return "\n".join(lines) + "\n"


def split_line(line: str) -> list[str]:
    """A shell's line as words, the last one unfinished (or empty), quotes and backslashes taken off."""
    words, word, quote, escaped = [], "", "", False
    for letter in line:
        if escaped:
            word, escaped = word + letter, False
        elif letter == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if letter == quote else quote
            word += "" if not quote else letter
        elif letter in "'\"":
            quote = letter
        elif letter.isspace():
            words += [word] if word else []
            word = ""
        else:
            word += letter
    return [*words, word]


def answer_for(words: list[str]) -> Answer:
    """What the last of hostvm's words may be."""
    *typed, current = words
    if typed and typed[-1] in ("-m", "--machine"):
        before = split_globals(typed[:-1]).rest
        if not before or before[0] not in FORWARDED or len(before) == 1:
            return _machines()
    found = split_globals(typed)
    if found.rest and found.rest[0] in FORWARDED:
        prefix = FORWARDED[found.rest[0]][1]
        return _of_engine(found.chosen(), [prefix[0], "__complete", *prefix[1:], *found.rest[1:], current], current)
    return _of_parser(build_parser(), found.rest, current, found.chosen())


# ---- hostvm's own words


def _of_parser(parser: argparse.ArgumentParser, typed: list[str], current: str, machine: str) -> Answer:
    wanted: argparse.Action | None = None  # the option whose value comes next
    positionals = 0
    for word in typed:
        if wanted is not None:
            wanted = None
        elif word == "--":
            return Answer(switches={"files"})
        elif word.startswith("-"):
            action = parser._option_string_actions.get(word)  # noqa: SLF001 - argparse shows its options nowhere else
            wanted = action if action is not None and action.nargs is None else None
        elif (inner := _subparsers(parser)) is not None:
            if word not in inner.choices:
                return Answer()
            parser, positionals = inner.choices[word], 0
        else:
            positionals += 1
    if wanted is not None:
        return _values(wanted, machine)
    if current.startswith("-"):
        return Answer([(name, action.help or "") for action in _options(parser) for name in action.option_strings])
    if (inner := _subparsers(parser)) is not None:
        return Answer([(str(choice.dest), choice.help or "") for choice in inner._choices_actions])  # noqa: SLF001
    slots = parser._get_positional_actions()  # noqa: SLF001
    return _values(slots[positionals], machine) if positionals < len(slots) else Answer()


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._get_optional_actions() if action.help is not argparse.SUPPRESS]  # noqa: SLF001


def _subparsers(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser] | None:
    return next((one for one in parser._actions if isinstance(one, argparse._SubParsersAction)), None)  # noqa: SLF001


def _values(action: argparse.Action, machine: str) -> Answer:
    if action.choices:
        return Answer([(str(choice), "") for choice in action.choices])
    if action.dest in _MACHINES:
        return _machines()
    if action.metavar == "NAME|FILE":
        return Answer([(one.name, one.about) for one in bundled()], {"files"})
    if action.metavar in _FILES or action.metavar in _FOLDERS:
        return Answer(switches={"dirs" if action.metavar in _FOLDERS else "files"})
    if action.metavar in ("CONTAINER", "SNAPSHOT"):
        return _in_machine(action, machine)
    setting = BY_KEY.get(action.dest)
    return Answer([(choice, "") for choice in getattr(setting and setting.kind, "choices", ())])


def _in_machine(action: argparse.Action, machine: str) -> Answer:
    """What the machine has of such things."""
    if action.metavar == "SNAPSHOT":
        from hostvm.machines.snapshots import snapshot_names

        return Answer([(name, "snapshot") for name in snapshot_names(MachinePaths.of(machine))])
    return _of_engine(machine, ["docker", "__complete", "container", "inspect", ""], "")


def _machines() -> Answer:
    return Answer([(name, "machine") for name in machine_names()])


# ---- an engine's words


def _of_engine(machine: str, argv: list[str], current: str) -> Answer:
    lines = _ask_guest(machine, argv).splitlines()
    if not lines or not lines[-1].startswith(":"):
        return Answer()
    bits = int(lines.pop()[1:])
    if bits & _ERROR:
        return Answer()
    # For "--format=js" cobra names the values alone.
    before = current[: current.index("=") + 1] if current.startswith("-") and "=" in current else ""
    items = [(before + value, plain_line(text)) for value, _, text in (line.partition("\t") for line in lines)]
    # What a shell would show and type is of the guest's choice.
    items = [item for item in items if not item[0].startswith("_activeHelp_") and item[0] == plain_line(item[0])]
    answer = Answer(items)
    if bits & _NO_SPACE:
        answer.switches.add("nospace")
    if bits & _ONLY_DIRS:
        answer = Answer(switches={"dirs"})
    elif bits & _ONLY_ENDINGS or not bits & _NO_FILES:
        answer.switches.add("files")
    return answer


def _ask_guest(machine: str, argv: list[str]) -> str:
    """The program's output, "" when the machine is off or slow.

    :raises HostvmError: as `Agent`.
    """
    deadline = time.monotonic() + _SECONDS
    output = b""
    with Agent(run_folder(machine), _SECONDS) as agent:
        agent.ask("exec", argv=argv, env={"COBRA_ACTIVE_HELP": "0"}, wait=0.0, ready=True)
        agent.answer()
        agent.sock.sendall(protocol.frame(protocol.STDIN_END))
        while time.monotonic() < deadline:
            kind, payload = agent.next_frame()
            if kind == protocol.EXIT:
                return output.decode(errors="replace")
            output += payload if kind == protocol.STDOUT else b""
    return ""
