"""A recipe's `finish` commands: what the builder guest does with the tree."""

from __future__ import annotations

import io
import sys
import tarfile

import pytest

NAME = "builder-jobs/finish"
PRELUDE = """
set -e
say() { echo "$*"; }
enter() { :; }
leave() { :; }
inside() { shift; (cd "$root/tree" && "$@"); }
"""
PLACES = {
    "/dev/vda": "$root/in.tar",
    "/dev/vdb": "$root/out.tar",
    "/bake/tree": "$root/tree",
    "/job/finish": "$root/commands",
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guest is Linux")


@pytest.fixture
def finish(tmp_path, run_script):
    """What the guest says, and the names in the tree that it gives back."""

    def run(*files, capable="", commands=("touch 'a file'",)):
        with tarfile.open(tmp_path / "in.tar", "w") as tar:
            for name in files:
                info = tarfile.TarInfo(f"./{name}")
                info.mode, info.size = 0o755, 1
                tar.addfile(info, io.BytesIO(b"1"))
        (tmp_path / "commands").write_text("".join(f"step {command}\n" for command in commands))
        said = run_script(NAME, PRELUDE, {"getcap": f"echo '{capable}'" if capable else ":"}, PLACES)
        if not (tmp_path / "out.tar").exists():
            return said, None
        with tarfile.open(tmp_path / "out.tar") as tar:
            return said, sorted(member.name for member in tar if member.isreg())

    return run


@pytest.mark.parametrize("files", [("bin",), ("usr/sbin/getcap",)])
def test_commands_run_in_the_tree_that_comes_back(finish, files):
    said, names = finish(*files)
    assert said == ["unpacking", "finish: touch a file", "writing the tree"]
    assert names == sorted(["./a file", *(f"./{name}" for name in files)])


def test_a_command_may_have_several_lines_and_takes_no_other_for_its_input(finish):
    _, names = finish(commands=["sh -c 'cat\ntouch one\ntouch two'", "touch three"])
    assert names == ["./one", "./three", "./two"]


def test_a_command_that_fails_ends_the_job(finish):
    said, names = finish(commands=["touch one", "false", "touch two"])
    assert (said[-1], names) == ("finish: false", None)


def test_file_capabilities_are_not_lost_in_silence(finish):
    said, names = finish("usr/sbin/getcap", capable="/usr/bin/ping cap_net_raw=ep")
    assert names is None
    assert said[-1].endswith('by the recipe\'s modes ("04755") instead: /usr/bin/ping cap_net_raw=ep')
