"""Which programs the last steps of a guest wait for, by a table of programs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from images.recipe import FILES

SCRIPT = FILES / "guest/usr/lib/hostvm/shutdown"

KERNEL_THREAD = 0x200000 | 0x40
PROGRAMS = {
    "1 (s6-svscan) S 0": (0x100, True),
    "416 (shutdown) S 1": (0x100, True),
    "2 (kthreadd) S 0": (KERNEL_THREAD, False),
    "217 (a program) D 1": (0x100, True),
    "219 (two\nlines) S 1": (0x100, True),
    "218 (has (ended) Z 1": (0x100, False),
    "486 (s6-supervise) S 1": (0, False),  # process 1 starts it anew, however often it is killed
    "487 (s6-supervise) S 300": (0, True),  # a container's own
}


@pytest.mark.parametrize("left_out", [None, *PROGRAMS])
def test_what_is_waited_for(tmp_path, left_out):
    """The function alone: the script kills everything."""
    if sys.platform != "linux":
        pytest.skip("the guest is Linux")
    function = re.search(r"^count\(\) \{\n.*?^\}\n", SCRIPT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert function is not None
    there = {line: facts for line, facts in PROGRAMS.items() if line != left_out}
    for line, (flags, _) in there.items():
        folder = tmp_path / line.split()[0]
        folder.mkdir()
        (folder / "stat").write_text(f"{line} 1 1 0 -1 {flags} 758 0 0\n")
    shell = ["busybox", "sh"] if shutil.which("busybox") else ["sh"]
    text = function[0].replace("/proc/", f"{tmp_path}/") + "count; echo $left"
    done = subprocess.run([*shell, "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (f"{sum(counts for _, counts in there.values())}\n", "")
