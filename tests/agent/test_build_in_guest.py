"""What the guest's shell and tar make of a build's stream, with those of this computer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from cli.build_context import Build, ContextStream, find_build, guest_argv


@pytest.fixture
def build(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "a-large").write_bytes(bytes(1 << 20))
    (tmp_path / "z").touch()
    return Build((), tmp_path, None)


def _run(build, stream, first=b""):
    """The build lists its folder."""
    with os.fdopen(stream.descriptor, "rb") as rest:
        return subprocess.run(
            guest_argv(("ls", "-A"), build), input=first + rest.read(), capture_output=True, check=False
        )


def test_the_build_sees_the_context_alone(build):
    ran = _run(build, ContextStream(build))
    assert (ran.returncode, ran.stdout.split()) == (0, [b"Dockerfile", b"a-large", b"z"])


def test_nothing_is_built_of_a_part_of_the_context(build):
    stream = ContextStream(build)
    first = os.read(stream.descriptor, 1)
    (build.context / "z").unlink()
    ran = _run(build, stream, first)
    assert (ran.returncode, ran.stdout, ran.stderr) == (125, b"", b"")


@pytest.mark.skipif(sys.platform != "linux", reason="the guest is Linux")
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
