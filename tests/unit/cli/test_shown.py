"""What a guest, an engine or a registry says cannot steer the terminal of who reads it; programs get it as it is."""

from __future__ import annotations

import argparse
import io
import json
import sys

import pytest
from rich.console import Console

from cli.commands import doctor, look, port
from cli.commands.common import print_facts, print_table, say
from cli.main import main
from cli.printer import print_failure
from cli.progress import PlainProgress, RichProgress
from cli.session import Session
from hostvm.agent import protocol
from hostvm.doctor.finding import Finding
from hostvm.errors import HostvmError
from hostvm.paths import MachinePaths
from hostvm.plain import plain, plain_line

TITLE = "\x1b]0;mine\x07"
SHOWN = "\\x1b]0;mine\\x07"
ALL = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))


def test_which_characters_are_shown():
    assert not set(plain(ALL)) & (set(ALL) - set("\n\t"))
    assert not set(plain_line(ALL)) & set(ALL)
    assert plain(f"{TITLE}\n\tx\r\x9b\x7f") == f"{SHOWN}\n\tx\\x0d\\x9b\\x7f"
    assert plain_line("one\ntwo") == "one\\x0atwo"
    assert plain("Größe 容器 [red] \\x1b") == "Größe 容器 [red] \\x1b"


@pytest.mark.parametrize("verbose", [0, 1])
def test_an_error_and_its_traceback(capsys, verbose):
    fault = HostvmError(f"brief {TITLE}", f"one {TITLE}\r\ntwo", f"fix {TITLE}")
    fault.__cause__ = ValueError(TITLE)
    print_failure(fault, forwarded=False, verbose=verbose)
    told = capsys.readouterr().err
    assert told.startswith(f"hostvm: brief {SHOWN}\n  one {SHOWN}\n  two\n  -> fix {SHOWN}\n")
    assert ("direct cause" in told) == bool(verbose)
    assert "\x1b" not in told


def test_notes_tables_and_facts(capsys):
    say(argparse.Namespace(quiet=False), f"note {TITLE}")
    print_table(("A", "B"), [(TITLE, "1"), ("x\ny", "2")])
    print_facts([("port", f"80 -> {TITLE}")], 6)
    told = capsys.readouterr()
    assert told.err == f"note {SHOWN}\n"
    assert told.out.splitlines() == [
        f"A{' ' * len(SHOWN)} B",
        f"{SHOWN}  1",
        f"x\\x0ay{' ' * (len(SHOWN) - 6)}  2",
        f"port:  80 -> {SHOWN}",
    ]


def test_names_of_containers_whose_ports_cannot_be_opened(capsys, monkeypatch, tmp_path):
    row = {"container": TITLE, "protocol": "tcp", "host": "127.0.0.1:80", "guest": "127.0.0.1:80", "why": TITLE}
    monkeypatch.setattr(port, "existing_paths", lambda _: argparse.Namespace(run_dir=tmp_path))
    monkeypatch.setattr(port, "request", lambda *_: {"services": {"ports": {"failed": [row]}}})
    port.ls(argparse.Namespace(json=False))
    told = capsys.readouterr()
    assert SHOWN in told.out
    assert told.err == f"hostvm: 127.0.0.1:80/tcp for {SHOWN} cannot be opened: {SHOWN}\n"
    port.ls(argparse.Namespace(json=True))
    assert json.loads(capsys.readouterr().out)[0]["container"] == TITLE


def test_what_the_doctor_finds(capsys):
    doctor._tell(Finding("box", "ports", "warn", f"one {TITLE}\ntwo", f"fix {TITLE}"))
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert [line.split()[-1] for line in told.splitlines()] == [SHOWN, "two", SHOWN]


def test_progress_in_lines_and_on_a_terminal():
    out = io.StringIO()
    drawn = RichProgress()
    drawn._console = Console(file=out, highlight=False, width=200)
    for progress in (PlainProgress(out), drawn):
        with progress.step(f"step [bold]{TITLE}"):
            progress.doing(f"at {TITLE}")
        with progress.task(f"task [/]{TITLE}", 1):
            pass
        progress.note(f"note [red]{TITLE}")
    told = out.getvalue()
    assert "\x1b" not in told
    for words in (f"step [bold]{SHOWN}", f"task [/]{SHOWN}", f"note [red]{SHOWN}"):
        assert told.count(words) >= 2, words


# ---- hostvm logs


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def out(request):
    return Terminal() if request.param else io.StringIO()


@pytest.fixture
def paths():
    found = MachinePaths.of("box")
    found.folder.mkdir(parents=True)
    return found


def test_a_log_on_a_terminal_and_in_a_pipe(out, paths, monkeypatch):
    monkeypatch.setattr(sys, "stdout", out)
    paths.console.write_bytes(f"boot\r\n{TITLE}\r\n".encode())
    assert main(["logs", "--console", "box"]) == 0
    assert out.getvalue() == f"boot\n{SHOWN if out.isatty() else TITLE}\n"


def test_a_log_that_is_followed(out, paths, monkeypatch):
    monkeypatch.setattr(sys, "stdout", out)
    paths.console.write_bytes(b"")
    pieces = [b"boot\r", b"\n\xc3", b"\xa9\x1b", b"[1m\r\nend\r\n"]

    def step(_):
        if not pieces:
            raise KeyboardInterrupt
        with paths.console.open("ab") as file:
            file.write(pieces.pop(0))

    monkeypatch.setattr(look.time, "sleep", step)
    with pytest.raises(KeyboardInterrupt):
        look._follow([paths.console])
    assert out.getvalue() == ("boot\né\\x1b[1m\nend\n" if out.isatty() else "boot\r\né\x1b[1m\r\nend\r\n")


class Says:
    """An agent whose program says this and ends."""

    def __init__(self, *pieces):
        self._frames = [*((protocol.STDOUT, piece) for piece in pieces), (protocol.EXIT, bytes(4))]

    def read_ahead(self): ...

    def next_frame(self):
        return self._frames.pop(0)


def test_the_log_of_an_engine(out, paths, monkeypatch, capfd):
    """It comes from the guest as a program's output does."""
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(look, "load_spec", lambda _: argparse.Namespace(engine="docker"))

    def forward(*_, shown, **__):
        session = Session(Says(b"a\xc3", b"\xa9" + TITLE.encode() + b"\n"), None, tty=False, shown=shown)
        session._receive()
        return session._status

    monkeypatch.setattr("cli.forward.forward", forward)
    assert main(["logs", "--engine", "box"]) == 0
    assert capfd.readouterr().out == f"aé{SHOWN if out.isatty() else TITLE}\n"
