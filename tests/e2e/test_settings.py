"""A machine that is changed: what counts at once, what waits for a restart, seen in the guest."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pexpect
import pytest
from machines import HOSTVM, eventually, folders_of, hostvm, running_machine, succeed

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def own(folders):
    """Made from a template, with folders as typed, and a comment in its settings."""
    options = ("--template", "ci", "--cpus", "1", "--memory", "1GiB", "--disk", "10GiB")
    options += ("--mount", f"{folders['kept']}:/typed/kept:ro", "--mount", f"{folders['used']}:/typed/used")
    with running_machine(f"set-{os.getpid()}", *options) as made:
        file = folders_of(made.name)[0] / "machine.yaml"
        file.write_text(file.read_text() + "# mine\n")
        yield made


def seen(machine) -> tuple[int, int, int]:
    """Processors, MiB of memory and GiB of file system, as the guest has them."""
    words = "nproc; sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; stat -f -c '%b %S' /var"
    cpus, kib, blocks = machine.shell("sh", "-c", words).splitlines()
    count, size = map(int, blocks.split())
    return int(cpus), int(kib) // 1024, round(count * size / 2**30)


def test_folders_are_shared_as_typed_at_the_start(own, folders):
    rows = json.loads(own.hostvm("mount", "ls", "--json"))
    told = [(row["source"], row["target"], row["readonly"], row["state"]) for row in rows]
    assert told == [
        (str(folders["kept"]), "/typed/kept", True, "mounted"),
        (str(folders["used"]), "/typed/used", False, "mounted"),
    ]
    script = "cat /typed/*/file; echo written > /typed/used/new; ! touch /typed/kept/new"
    assert own.shell("sh", "-c", script) == "keptused"
    assert (folders["used"] / "new").read_text() == "written\n"
    assert not (folders["kept"] / "new").exists()


def test_a_change_of_a_running_machine(own):
    cpus, memory, disk = seen(own)
    assert (cpus, disk) == (1, 10)
    assert 900 < memory < 1024

    changed = json.loads(own.hostvm("set", own.name, "cpus=2", "memory=1280MiB", "disk=12GiB", "--json"))
    assert changed["waiting"] == ["cpus", "memory"]
    assert changed["changed"] == ["cpus", "memory", "disk"]
    assert seen(own) == (1, memory, 12), "the file system grew, the rest waits"
    known = json.loads(own.hostvm("inspect", own.name))
    assert known["waiting"] == ["cpus", "memory"]
    assert known["wanted"]["cpus"] == 2
    assert known["observed"]["hardware"] == {"cpus": 1, "memory": 1 << 30, "disk": 12 << 30}
    assert f"waiting:   cpus and memory, for: hostvm restart {own.name}" in own.hostvm("status", own.name)

    refused = hostvm("set", own.name, "disk=4GiB", "image=other")
    assert refused.status == 2
    assert "disk: 4GiB is less than the 12GiB it has" in refused.err
    assert "image: changes by an upgrade" in refused.err
    assert "hostvm upgrade" in refused.err

    own.hostvm("set", "--restart", own.name, "autostart=true")
    cpus, after, disk = seen(own)
    assert (cpus, disk) == (2, 12)
    assert "waiting:" not in own.hostvm("status", own.name)
    assert after - memory > 200
    assert (folders_of(own.name)[0] / "machine.yaml").read_text().endswith("# mine\n")


EDITOR = """\
#!/bin/sh
# First a fault, then what is meant.
grep -q "^cpus: none" "$1" && cpus=1 || cpus=none
sed -i.bak "s/^cpus:.*/cpus: $cpus/" "$1" && rm "$1.bak"
"""


def test_an_editor_on_a_terminal(own, tmp_path):
    """What it wrote wrong is told, and the editor comes again; what is sound is the machine's.

    Follows the test above, which leaves two processors.
    """
    program = tmp_path / "editor"
    program.write_text(EDITOR)
    program.chmod(0o755)
    env = {**os.environ, "EDITOR": str(program), "VISUAL": ""}
    file = folders_of(own.name)[0] / "machine.yaml"
    child = pexpect.spawn(str(HOSTVM), ["edit", own.name], env=env, timeout=60, dimensions=(30, 200))
    try:
        child.expect(r"cpus: .*none")
        child.expect_exact("Edit it again?")
        assert "cpus: 2" in file.read_text(), "nothing was saved"
        child.sendline("y")
        child.expect_exact(f"hostvm restart {own.name}")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert child.exitstatus == 0
    assert "cpus: 1" in file.read_text()
    assert file.read_text().endswith("# mine\n")
    assert json.loads(own.hostvm("inspect", own.name))["waiting"] == ["cpus"]


@pytest.mark.slow
def test_a_machine_kept_in_the_foreground(own):
    """It grew while it was off; the keeper starts it, ends it in order when told, and a command may start it again."""
    own.hostvm("stop", own.name)
    assert "12GiB" not in own.hostvm("set", own.name, "disk=13GiB")
    keeper = subprocess.Popen([str(HOSTVM), "autostart", "run", own.name], stderr=subprocess.PIPE)
    try:
        eventually(lambda: hostvm("status", own.name).status == 0, "the machine runs", 120)
        assert seen(own)[2] == 13
        assert keeper.poll() is None
    finally:
        keeper.send_signal(signal.SIGTERM)
        _, said = keeper.communicate(timeout=90)
    assert keeper.returncode == 0, said.decode()
    assert json.loads(hostvm("status", own.name, "--json").out)["status"] == "stopped"
    assert json.loads(succeed(hostvm("inspect", own.name, "--json")))["made"]["wanted_off"] is False
