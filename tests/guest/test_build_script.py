"""The program that has a carried build's folder in the guest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from cli.build_context import ContextStream, find_build, guest_argv

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guest is Linux")


@pytest.mark.parametrize("name", ["INT", "HUP", "TERM"])
def test_a_build_that_is_ended_leaves_nothing_in_the_guest(tmp_path, name):
    """Its folder stayed on the machine's disk with each Ctrl-C. sshd signals all of a command's programs."""
    app, there = tmp_path / "app", tmp_path / "there"
    app.mkdir()
    there.mkdir()
    build = find_build(["build", str(app)])
    argv = [word.replace("/var/tmp", str(there)) for word in guest_argv(("sh", "-c", "pwd; exec sleep 600"), build)]
    with (
        os.fdopen(ContextStream(build).descriptor, "rb") as context,
        subprocess.Popen(argv, stdin=context, stdout=subprocess.PIPE, start_new_session=True) as program,
    ):
        assert program.stdout.readline().startswith(os.fsencode(there))
        number = getattr(signal, f"SIG{name}")
        os.killpg(program.pid, number)
        assert program.wait() == 128 + number, "that of docker's client"
    assert list(there.iterdir()) == []
