"""What the guest's shell and tar make of a build's stream, with those of this computer."""

from __future__ import annotations

import os
import subprocess

import pytest

from cli.build_context import Build, ContextStream, guest_argv


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
