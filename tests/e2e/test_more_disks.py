"""Further disks of a machine: made, kept, grown, and left alone when they hold something else."""

from __future__ import annotations

import json

import pytest
from machines import folders_of, hostvm

pytestmark = pytest.mark.vm

DISKS = "disks: [{name: scratch, size: 256MiB, mount: /srv/scratch}, {name: logs, size: 64MiB}]\n"


@pytest.fixture
def settings(spare):
    """The spare machine's settings file, to be changed; it is as before afterwards."""
    yaml = folders_of(spare.name)[0] / "machine.yaml"
    before = yaml.read_text()
    kept = "".join(line for line in before.splitlines(keepends=True) if not line.startswith("disks:"))
    yield lambda text: yaml.write_text(kept + text)
    yaml.write_text(before)
    hostvm("stop", spare.name)


def size_of(machine, place: str) -> int:
    """MiB of a mounted file system's device."""
    device = machine.shell("sh", "-c", f"grep ' {place} ' /proc/mounts").split()[0]
    return int(machine.shell("cat", f"/sys/class/block/{device.removeprefix('/dev/')}/size")) // 2048


@pytest.mark.slow
def test_further_disks_are_made_kept_grown_and_never_reformatted(spare, settings):
    folder = folders_of(spare.name)[0]
    settings(DISKS)
    spare.hostvm("restart")
    assert (size_of(spare, "/srv/scratch"), size_of(spare, "/mnt/logs")) == (256, 64)
    words = ("-v", "/srv/scratch:/s", "-v", "/mnt/logs:/l", "busybox", "sh", "-c", "echo kept | tee /s/note > /l/note")
    spare.docker("run", "--rm", *words)
    # One grows. The other gets what is no ext4, so it is somebody's data: the engine does not start, and says why.
    settings(DISKS.replace("256MiB", "512MiB"))
    spare.shell("sh", "-c", "umount /mnt/logs; { printf XFSB; head -c 8188 /dev/zero; } > /dev/vdd; sync")
    failed = hostvm("restart", spare.name)
    assert failed.status == 1
    for part in ("the container engine does not start", "disk-logs /dev/vdd holds something that is not ext4"):
        assert part in failed.err, failed
    assert "fail unmount" not in (folder / "console.log.1").read_text(errors="replace"), "all was unmounted at the stop"
    assert size_of(spare, "/srv/scratch") == 512
    room = int(spare.shell("sh", "-c", "df -k /srv/scratch | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2"))
    assert room > 400 * 1024, "the file system grew along"
    assert spare.shell("cat", "/srv/scratch/note") == "kept"
    assert spare.shell("head", "-c", "4", "/dev/vdd") == "XFSB"
    levels = {row["name"]: row["level"] for row in json.loads(hostvm("doctor", spare.name, "--json").out)}
    assert (levels["disk-scratch"], levels["disk-logs"]) == ("ok", "ok"), "their tables are sound"
    hostvm("stop", spare.name)
    (folder / "disk-logs.qcow2").rename(folder / "elsewhere")
    gone = hostvm("start", spare.name)
    assert (gone.status, "disk-logs.qcow2 is gone" in gone.err) == (1, True), gone
