"""What a containerd guest is asked about its tasks: folders like containerd's, with processes of this computer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from runtime.containerd.tasks import _LOOK

FOLDER = "/run/containerd/io.containerd.runtime.v2.task"


@pytest.mark.skipif(sys.platform != "linux", reason="the guest is Linux")
def test_a_task_runs_as_long_as_its_first_process_does(tmp_path):
    def look() -> str:
        script = _LOOK.replace(FOLDER, str(tmp_path))
        shell = ["busybox", "sh"] if shutil.which("busybox") else ["sh"]
        done = subprocess.run([*shell, "-c", script], input="\n\n", capture_output=True, text=True, check=True)
        assert done.stderr == ""
        first, second = done.stdout.split()
        assert first == second
        return first

    assert FOLDER in _LOOK
    assert look() == "0"
    (tmp_path / "default" / "created").mkdir(parents=True)
    assert look() == "0"
    ended = tmp_path / "default" / "ended" / "init.pid"
    ended.parent.mkdir()
    with subprocess.Popen(["true"]) as gone:
        pass
    ended.write_text(str(gone.pid))
    assert look() == "0"
    runs = tmp_path / "other" / "runs" / "init.pid"
    runs.parent.mkdir(parents=True)
    runs.write_text("")
    assert look() == "0"
    runs.write_text(str(os.getpid()))
    assert look() == "1"
