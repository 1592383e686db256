"""Nothing in the guest loads what drives a device when the device appears."""

from __future__ import annotations

import re
from types import SimpleNamespace

from hostvm.drivers.qemu.argv import _helpers

PRELUDE = """\
sleep() { :; }
modprobe() { shift; for module; do echo "$module"; done; }
"""


def test_every_helper_that_a_machine_has_is_driven(run_script, tmp_path):
    (tmp_path / "panic_on_oops").touch()
    places = {"/proc/sys/kernel/panic_on_oops": "$root/panic_on_oops", "/proc/device-tree": "$root/none", "exec ": ": "}
    loaded = run_script("guest/usr/lib/hostvm/services/power/run", PRELUDE, {}, places)
    devices = re.findall(r"(virtio-\w+)-pci", " ".join(_helpers(SimpleNamespace(generation=True))))
    assert {device.replace("-", "_") for device in devices} == {one for one in loaded if one.startswith("virtio")}
    assert len(devices) == 2
