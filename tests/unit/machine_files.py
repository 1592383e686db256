"""What a machine, and a snapshot with memory, are in files."""

from __future__ import annotations

from hostvm.paths import MachinePaths
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, save_state

STATE = MachineState("uuid-a", "52:54:00:00:00:01", "amd64", 1, "qemu", "sha256:0", "2026-11-24T18:00:00Z")
SAVED = {
    "suspended": "2026-11-24T18:00:00Z",
    "hypervisor": "QEMU 7.2.22",
    "board": [],
    "disk": [1, 2],
    "ram": {"size": 3, "sum": ""},
    "domain": {},
    "engine_socket": "",
}


def make_box():
    """The machine `box`, which is wanted on."""
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())))
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "now", wanted_off=False))
    return paths
