"""Windows' side of hostvm, run by CPython for Windows."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

import pexpect
import pytest

pytestmark = pytest.mark.wine


def test_the_pipe_ends_each_direction_by_itself(windows):
    facts = windows.facts("pipe.py")
    assert facts["sizes"] == ["0 bytes", "1 bytes", "65536 bytes", "65537 bytes", "5000000 bytes"]
    assert facts["many"] == [["1000 bytes"], 50]
    assert facts["both"] == "7 bytes"
    assert facts["gone"] == 56  # a client that goes without a word is noticed
    assert (facts["server"], facts["name"]) == ("ended", "FileNotFoundError")


def test_what_is_private_and_what_is_atomic(windows, tmp_path):
    """Folders for this user and the system, files replaced whole, the control channel's token, no program's window."""
    facts = windows.facts("local.py", rf"C:\test-{uuid4().hex}", "detached")
    # Wine keeps access lists as modes, so that order and protection from inheritance are lost.
    assert set(re.findall(r"\(.*?\)", facts["acl"])) == {f"(A;OICI;FA;;;{facts['sid']})", "(A;OICI;FA;;;SY)"}
    assert facts["file"] == ["two", ["file"]]
    assert facts["held"] == ["three", True]
    assert facts["moved"]
    assert facts["admitted"] == [True, False]
    assert (facts["listener"], facts["after"]) == ("ended", "FileNotFoundError")
    assert (facts["window"], facts["alive"], facts["killed"]) == ("0", True, True)


def test_the_console_is_raw_and_speaks_utf8(windows):
    """Wine's console on a terminal of ours. It knows no escape sequences as input, no resizing, and keeps Ctrl-C."""
    script = windows.path(Path(__file__).parent / "windows" / "terminal.py")
    python = str(windows.top / "python" / "python.exe")
    child = pexpect.spawn(
        "wine", [python, script], env={**windows.env, "TERM": "xterm"}, dimensions=(30, 100), timeout=30
    )
    child.expect("ready")
    child.send("a")
    child.expect("keys 61 size 30 100")  # at once, without a line's end
    child.send("\u00e9\u65e5")
    child.expect("keys c3a9e697a5 ")
    child.send("q")
    child.expect("restored")
    child.expect(pexpect.EOF)
