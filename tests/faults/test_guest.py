"""What breaks inside of the guest: its kernel, its sshd, its engine. Noticed, told, and a way on."""

from __future__ import annotations

import json

import pytest
from machines import eventually, folders_of, hostvm, succeed

pytestmark = [pytest.mark.vm, pytest.mark.faults]


def test_a_panic_of_the_guests_kernel_is_noticed_and_shown(machine, ledger, record):
    rounds = record("panic of the guest's kernel")
    acknowledged, boot = ledger.acknowledged(), machine.boot_id()
    crash = "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"
    hostvm("-m", machine.name, "shell", "--", "sh", "-c", crash)
    with rounds.healing():
        rounds.say(hostvm("start", machine.name).err)
        names = ("ps", "--format", "{{.Names}}")
        eventually(lambda: machine.try_docker(*names).out.strip() == "ledger", "it is back", 120)
    assert machine.boot_id() != boot
    assert ledger.lost(acknowledged) == 0
    rounds.acknowledged += sum(acknowledged)
    shown = hostvm("status", machine.name)
    assert "panicked: sysrq triggered crash; it booted anew" in shown.out, shown
    rounds.told.append("status: kernel panicked: sysrq triggered crash; it booted anew")
    found = {row["name"]: row for row in json.loads(hostvm("doctor", machine.name, "--json").out)}
    assert found["kernel"]["level"] == "warn"


def test_a_panic_is_the_end_of_a_machine_that_is_to_stop_then(machine, ledger, record):
    rounds = record("panic of the guest's kernel, with `on_panic: stop`")
    machine.hostvm("set", "--restart", "on_panic=stop")
    try:
        eventually(ledger.run, "what wrote writes again", 90)
        acknowledged, crash = ledger.acknowledged(), "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"
        hostvm("-m", machine.name, "shell", "--", "sh", "-c", crash)
        look = ("status", machine.name, "--json")
        eventually(lambda: json.loads(hostvm(*look).out)["status"] == "stopped", "it is off", 60)
        assert json.loads(hostvm(*look).out)["panics"] == ["sysrq triggered crash"]
        told = f"panicked: sysrq triggered crash; it is off. See: hostvm logs --console {machine.name}"
        assert told in hostvm("status", machine.name).out
        assert "Kernel panic - not syncing: sysrq triggered crash" in hostvm("logs", "--console", machine.name).out
        refused = machine.try_docker("ps")
        assert refused.status == 125
        assert "its kernel panicked: sysrq triggered crash" in refused.err, refused
        assert f"start it with: hostvm start {machine.name}" in refused.err, refused
        rounds.told.append("status: kernel panicked: sysrq triggered crash; it is off")
        with rounds.healing():
            succeed(hostvm("start", machine.name))
            eventually(ledger.run, "what wrote writes again", 90)
        assert ledger.lost(acknowledged) == 0
        rounds.acknowledged += sum(acknowledged)
        assert machine.try_docker("ps").status == 0, "it was started by its user"
    finally:
        machine.hostvm("set", "--restart", "on_panic=")


def test_an_sshd_that_is_down_is_told_and_a_restart_heals(machine, ledger, record):
    rounds = record("sshd of the guest dead and not restarted")
    acknowledged = ledger.acknowledged()
    ending = "s6-svc -d /run/service/sshd; (sleep 1; pkill -9 sshd) > /dev/null 2>&1 &"
    hostvm("-m", machine.name, "shell", "--", "sh", "-c", ending)
    status = ("status", machine.name, "--json")
    eventually(lambda: json.loads(hostvm(*status).out)["status"] == "starting", "it is noticed", 60)
    eventually(lambda: "its ssh server has not answered since" in hostvm("status", machine.name).out, "it is told", 60)
    (shown,) = (row for row in hostvm("status", machine.name).out.splitlines() if row.startswith("guest"))
    assert "it runs, but its ssh server has not answered since 20" in shown
    assert shown.endswith(f": hostvm restart {machine.name}")
    found = {row["name"]: row for row in json.loads(hostvm("doctor", machine.name, "--json").out)}
    assert (found["ssh server"]["level"], found["ssh server"]["fix"]) == ("fail", f"hostvm restart {machine.name}")
    waited = machine.try_docker("ps")
    assert waited.status != 0
    assert f"machine {machine.name} runs, but its ssh server does not answer" in waited.err, waited
    assert f"hostvm restart {machine.name}" in waited.err, waited
    rounds.say(waited.err)
    with rounds.healing():
        succeed(hostvm("restart", machine.name))
    assert machine.try_docker("ps").status == 0
    assert ledger.lost(acknowledged) == 0
    rounds.acknowledged += sum(acknowledged)


def test_an_engine_that_ends_again_and_again_is_told_and_the_machine_can_be_looked_into(machine, record):
    rounds = record("engine that ends again and again (a wrong `daemon:`)")
    yaml = folders_of(machine.name)[0] / "machine.yaml"
    before = yaml.read_text()
    yaml.write_text(before.replace("daemon: {}\n", "daemon: {storage-driver: nonsense}\n"))
    try:
        failed = hostvm("restart", machine.name)
        assert failed.status == 1
        assert "the container engine does not start" in failed.err
        assert "nonsense" in failed.err, "in the engine's own words"
        rounds.say(failed.err)
        looked = hostvm("-m", machine.name, "shell", "--", "echo", "inside")
        assert (looked.out, "is not ready: the container engine" in looked.err) == ("inside\n", True), looked
    finally:
        yaml.write_text(before)
    with rounds.healing():
        succeed(hostvm("restart", machine.name))
    assert machine.try_docker("ps").status == 0


# Reading zeros into a buffer of nearly all memory: the kernel grants it, and finds out.
EAT = "exec dd if=/dev/zero of=/dev/null count=1 bs=$(($(awk '/^MemTotal/ { print $2 }' /proc/meminfo) - 16384))k"


def test_a_container_that_eats_all_memory_is_killed_and_nothing_else(machine, ledger, record):
    rounds = record("container that eats all of the guest's memory")
    boot = machine.boot_id()
    machine.docker("run", "-d", "--name", "eater", "busybox", "sh", "-c", EAT)
    how = ("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "eater")
    eventually(lambda: machine.try_docker(*how).out.startswith("exited"), "it has ended", 180)
    assert machine.docker(*how) == "exited 137"
    with rounds.healing():
        rounds.say(hostvm("start", machine.name).err)
        eventually(ledger.run, "the other one is written", 90)
    assert machine.boot_id() == boot, "the guest outlived it"
    assert json.loads(hostvm("status", machine.name, "--json").out)["status"] == "running"
    acknowledged = ledger.acknowledged()
    assert ledger.lost(acknowledged) == 0
    rounds.acknowledged += sum(acknowledged)
    machine.docker("rm", "eater")
