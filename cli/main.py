"""The `hostvm` command. Decides in a few lines whether to forward or to manage, so that forwarding stays quick."""

from __future__ import annotations

import codecs
import os
import sys

from runtime.words import FORWARDED

_NOTHING_LEFT = {"cli.session", "cli.commands.look"}


class Globals:
    """Options that may stand before the verb, and for most verbs after it.

    A plain class: dataclasses would take 20 ms of a forwarded command's start.

    :ivar machine: "" when none was named: then HOSTVM_MACHINE, then "default".
    :ivar nameless: `-m ""` was given: a script's variable that is empty, no wish for the usual machine.
    :ivar rest: the verb and what follows it.
    """

    def __init__(self) -> None:
        self.machine = ""
        self.nameless = False
        self.json = False
        self.verbose = 0
        self.quiet = False
        self.debug = False
        self.rest: list[str] = []

    def chosen(self) -> str:
        """The machine's name."""
        return self.machine or os.environ.get("HOSTVM_MACHINE", "") or "default"


def split_globals(argv: list[str]) -> Globals:
    """Take leading global options off; `rest` begins with the verb.

    An engine's word is followed by words of its own, so `-m NAME` is looked for only directly behind it.
    """
    found = Globals()
    words = list(argv)
    _take_leading(words, found)
    if words and words[0] in FORWARDED:
        verb = words.pop(0)
        _take_machine(words, found)
        words.insert(0, verb)
    found.rest = words
    return found


def _take_leading(words: list[str], found: Globals) -> None:
    while words and words[0].startswith("-"):
        if _take_machine(words, found):
            continue
        if words[0] == "--json":
            found.json = True
        elif words[0] in ("-v", "--verbose"):
            found.verbose += 1
        elif words[0] in ("-q", "--quiet"):
            found.quiet = True
        elif words[0] == "--debug":
            found.debug = True
        else:
            return
        words.pop(0)


def _take_machine(words: list[str], found: Globals) -> bool:
    if not words:
        return False
    if words[0] in ("-m", "--machine") and len(words) > 1:
        found.machine = words[1]
        found.nameless |= not found.machine
        del words[:2]
        return True
    if words[0].startswith("--machine="):
        found.machine = words.pop(0).partition("=")[2]
        found.nameless |= not found.machine
        return True
    return False


def show_commands() -> None:
    """Print every command that is run on this computer, as it can be pasted."""
    from hostvm import process

    process.show_commands(lambda line: print(f"+ {line}", file=sys.stderr, flush=True))  # noqa: T201


def _complete(found: Globals) -> int:
    """Answer a completion script: `hostvm __complete ...`, or `docker __hostvm_complete ...` through a launcher."""
    from cli.completion import complete

    word, *rest = found.rest
    return complete(rest) if word == "__complete" else complete(rest[1:], ["-m", found.chosen(), word])


def _written(fault: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(fault, UnicodeEncodeError)
    at = fault.start
    letter = fault.object[at]
    if "\udc80" <= letter <= "\udcff":
        return bytes([ord(letter) - 0xDC00]), at + 1
    return letter.encode("ascii", "backslashreplace").decode("ascii"), at + 1


def open_streams() -> None:
    """Have all three standard streams, and what is printed written whatever letters are in it.

    One that was closed (`<&-`, `>&-`) would be None, and its descriptor the next file's or socket's: what is written
    to standard output would land in there. Bytes of a file's name that are no text come out as they are, and letters
    that the output's encoding lacks by their number, as on stderr.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest number that is free is the closed one's.
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)  # noqa: FBT003 - its only argument
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    if getattr(sys.stdout, "errors", "") in ("strict", "surrogateescape"):
        codecs.register_error("hostvm", _written)
        sys.stdout.reconfigure(errors="backslashreplace" if sys.platform == "win32" else "hostvm")  # type: ignore[union-attr]


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    open_streams()
    found = split_globals(sys.argv[1:] if argv is None else argv)
    try:
        if found.debug:
            show_commands()
        if "__complete" in found.rest[:1] or "__hostvm_complete" in found.rest[1:2]:
            return _complete(found)
        if found.nameless:
            from hostvm.errors import UsageError

            raise UsageError("-m '' names no machine", None, "name one, or leave it out for the usual one")  # noqa: TRY301
        if found.rest and found.rest[0] in FORWARDED:
            from cli.engine_words import run_engine_word
            from hostvm.paths import check_places

            check_places()
            return run_engine_word(found)
        from cli.manage import manage

        status = manage(found)
        if sys.stdout:
            sys.stdout.flush()  # what cannot be written is told here, not by Python's end
        return status  # noqa: TRY300 - flushing may fail
    except KeyboardInterrupt:
        sys.stderr.write("hostvm: interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader of our output left (| head): end quietly, as other tools do.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as fault:  # noqa: BLE001 - the one boundary where errors become text
        from cli.printer import print_failure

        forwarded = bool(found.rest) and (found.rest[0] in FORWARDED or found.rest[0] in ("shell", "run"))
        return print_failure(fault, forwarded=forwarded, verbose=found.verbose)


def entry() -> None:
    """The console script. After a forwarded word or a look nothing is left to tidy up: Python's own end takes 5 ms."""
    status = main()
    if not _NOTHING_LEFT.isdisjoint(sys.modules):
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream:  # who began this may have given it none
                    stream.flush()
            except (OSError, ValueError):
                pass  # of an output that is gone `main` has told
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    entry()
