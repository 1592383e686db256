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


def test_all_is_written_before_room_is_given_back(tmp_path):
    """That takes its time with much that was deleted, on each disk, and the computer cuts the power in the end."""
    if sys.platform != "linux":
        pytest.skip("the guest is Linux")
    part = re.search(r"^sync -f /var\n.*?(?=^# The kernel holds)", SCRIPT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert part is not None
    (tmp_path / "disks").write_text("one /mnt/one\ntwo /mnt/two\n")
    stand_ins = 'sync() { echo "sync $2"; }; timeout() { echo "trim $3"; }; umount() { echo "umount $1"; }\n'
    shell = ["busybox", "sh"] if shutil.which("busybox") else ["sh"]
    done = subprocess.run(
        [*shell, "-c", f"seed={tmp_path}\n{stand_ins}{part[0]}"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    told = done.stdout.splitlines()
    assert told[:3] == ["sync /var", "sync /mnt/one", "sync /mnt/two"]
    assert told[3:] == ["trim /var", "trim /mnt/two", "umount /mnt/two", "trim /mnt/one", "umount /mnt/one"]
