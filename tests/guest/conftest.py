"""The guest's own scripts, run here: by busybox where this computer has it, as in the guest, else by its sh."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from images.recipe import FILES


@pytest.fixture
def run_script(tmp_path):
    """Runs a script of images/files after a prelude that sets stand-ins up; gives its lines.

    `$root` is a folder of the test, which has programs that count over this computer's; `places` are paths of the guest
    and where they are here.
    """
    if sys.platform != "linux":
        pytest.skip("the guest is Linux")
    shell = ["busybox", "sh"] if shutil.which("busybox") else ["sh"]

    def run(name, prelude, programs, places, end=""):
        for program, text in programs.items():
            (tmp_path / program).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / program).chmod(0o755)
        script = (FILES / name).read_text(encoding="utf-8")
        for there, here in places.items():
            script = script.replace(there, here)
        text = f'root={tmp_path} PATH="{tmp_path}:$PATH"\n{prelude}\n{script}\n{end}'
        done = subprocess.run([*shell, "-c", text], capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        return done.stdout.splitlines()

    return run
