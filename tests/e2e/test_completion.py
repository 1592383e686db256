"""The completion scripts in the shells themselves, at a terminal, with the Tab key."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time

import pexpect
import pytest
from machines import HOSTVM, hostvm, succeed

pytestmark = pytest.mark.vm

_BASH = ["--norc", "--noprofile", "-i"]
_START = {
    "bash": (_BASH, "bind 'set bell-style none'; eval \"$(hostvm completion bash)\""),
    # As macOS's /bin/bash, which has neither builtin.
    "bash 3.2": (_BASH, "bind 'set bell-style none'; enable -n mapfile compopt; eval \"$(hostvm completion bash)\""),
    "zsh": (
        ["-f", "-i"],
        "unsetopt beep; PS1='sh> '; autoload -U compinit; compinit -u -D; source <(hostvm completion zsh)",
    ),
    "fish": (["--no-config", "-i"], "function fish_prompt; echo 'sh> '; end; hostvm completion fish | source"),
}
_CONTROLS = re.compile(r"\x1b(\[[0-9;?<>=]*[a-zA-Z]|\][^\x07\x1b]*(\x07|\x1b\\)|[()].|[=>78])|[\x00-\x08\x0e-\x1f]")


@pytest.fixture(params=sorted(_START))
def shell(request, machine, tmp_path):
    """A shell at a terminal, hostvm's completion loaded, which uses the shared machine."""
    name = request.param.split()[0]
    program = shutil.which(name)
    assert program, f"no {name}: run `make setup`"
    launchers = tmp_path / "launchers"
    succeed(hostvm("shim", "install", machine.name, "--force", "--dir", str(launchers)))
    options, script = _START[request.param]
    env = {
        **os.environ,
        "HOSTVM_MACHINE": machine.name,
        "PATH": os.pathsep.join([str(launchers), str(HOSTVM.parent), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "PS1": "sh> ",
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
    }
    child = pexpect.spawn(program, options, env=env, encoding="utf-8", timeout=30, dimensions=(50, 120), cwd=tmp_path)
    child.sendline(script + "; echo lo''aded")
    child.expect_exact("loaded")
    yield child
    child.close(force=True)


def typed(shell, text, *expected):
    """Type, press Tab, twice where there is a choice, and wait until everything expected has been drawn.

    The scripts give a guest that is busy a few seconds and then say nothing; as a user would, press Tab again.
    """
    deadline = time.monotonic() + 90
    seen = ""
    while not all(word in _CONTROLS.sub("", seen) for word in expected):
        assert time.monotonic() < deadline, f"{text!r} and Tab gave: {seen!r}"
        shell.send("\x15" + text + "\t" * min(len(expected), 2))
        with contextlib.suppress(pexpect.TIMEOUT):
            while not all(word in _CONTROLS.sub("", seen) for word in expected):
                seen += shell.read_nonblocking(4096, timeout=8)


def test_words_of_hostvm_machines_and_the_engines(shell, machine):
    typed(shell, "hostvm st", "start", "status", "stop")
    typed(shell, "hostvm start --use-c", "--use-context")
    typed(shell, f"hostvm stop {machine.name[:6]}", machine.name)
    typed(shell, "hostvm docker pu", "pull", "push")
    typed(shell, "hostvm docker run --read-o", "--read-only")
    typed(shell, "hostvm docker run busybox:la", "busybox:latest")
    typed(shell, "docker pu", "pull", "push")
    typed(shell, "docker run busybox:la", "busybox:latest")
    typed(shell, "docker-compose up --det", "--detach")
