"""A start that does not come to its end: what whoever waits for it sees, on a pipe as scripts and CI have one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from as_typed import hostvm, succeed  # a helper beside this file

pytestmark = pytest.mark.vm

HERE = Path(__file__).parent
SECONDS = 60.0  # START_SECONDS of hanging_start.py
REACHED = 10.0  # the last look whether programs can be run in it all the same


def test_a_guest_that_hangs_in_its_initramfs_is_told_of_while_it_does_and_when_it_is_given_up(image):
    name = f"vmtest-{uuid4().hex[:8]}"
    words = [sys.executable, str(HERE / "hanging_start.py"), "start", name, "--image", image.digest]
    words += ["--driver", "qemu", "--cpus", "1", "--memory", "512MiB", "--mount", "none"]
    env = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
    try:
        began = time.monotonic()
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env) as start:
            cut = threading.Timer(SECONDS + REACHED + 60, start.kill)
            cut.start()
            first = next((line for line in start.stderr if line.startswith(f"start {name}:")), "")
            assert first == f"start {name}: waiting for the guest's ssh server\n"
            assert start.poll() is None, "it is told of while it goes on"
            said = start.stderr.read()
            cut.cancel()
        took = time.monotonic() - began
        assert start.returncode == 1
        assert "waiting for the guest's ssh server" not in said, "nothing is told again and again"
        lasted = re.search(rf"^start {name}: failed after (\d+\.\d) s$", said, re.MULTILINE)
        assert lasted, said
        assert float(lasted[1]) <= took + 0.1
        assert said.index("failed after") < said.index("hostvm: the guest's ssh server did not answer in time")
        assert said.count("the guest's console (") == 1, said
        assert re.search(r"^  test: no root image$", said, re.MULTILINE), said
        assert f"hostvm -m {name} logs --console" in said
        assert json.loads(hostvm("status", name, "--json").stdout)["status"] == "stopped"
        assert "test: no root image" in succeed("logs", "--console", name)
    finally:
        hostvm("rm", "--force", name)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_start_whose_qemu_crashes_begins_anew(image):
    """QEMU 7.2 had an access violation in the first second of some guests that it emulates."""
    name = f"vmtest-{uuid4().hex[:8]}"
    words = [
        "start",
        name,
        "--image",
        image.digest,
        "--driver",
        "qemu",
        "--cpus",
        "2",
        "--memory",
        "1GiB",
        "--mount",
        "none",
    ]
    env = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "cli.main", *words], stderr=subprocess.PIPE, text=True, env=env
        ) as start:
            cut = threading.Timer(240, start.kill)
            cut.start()
            first = next((line for line in start.stderr if line.startswith(f"start {name}:")), "")
            assert first == f"start {name}: waiting for the guest's ssh server\n"
            (qemu,) = (one for one in psutil.process_iter(["cmdline"]) if is_qemu_of(name, one))
            qemu.send_signal(signal.SIGSEGV)
            said = start.stderr.read()
            cut.cancel()
        assert start.returncode == 0, said
        assert said.count(f"QEMU crashed; machine {name} is started anew\n") == 1
        assert "docker" in succeed("-m", name, "docker", "info")
        (second,) = (one for one in psutil.process_iter(["cmdline"]) if is_qemu_of(name, one))
        assert second.pid != qemu.pid
    finally:
        hostvm("rm", "--force", name)


def is_qemu_of(name: str, process: psutil.Process) -> bool:
    words = process.info["cmdline"] or []
    return "qemu" in "".join(words[:1]) and any(f"guest=hostvm-{name}" in word for word in words)
