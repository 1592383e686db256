from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from cli.main import main
from hostvm.doctor import computer, machine
from hostvm.doctor.bundle import write_bundle
from hostvm.doctor.finding import FAIL, OK, WARN, Finding, looked_at
from hostvm.errors import MachineError, UsageError
from hostvm.guest import Completed
from hostvm.machines.observe import Observation
from hostvm.paths import MachinePaths
from hostvm.qemu_binary import QemuBinary


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch) -> Path:
    for name in ("home", "cache", "run"):
        monkeypatch.setenv(f"HOSTVM_{name.upper()}", str(tmp_path / name))
    return tmp_path


def test_a_look_that_fails_is_a_finding():
    def look():
        yield Finding("a", "one", OK, "fine")
        raise MachineError("it broke", "in two", "glue it")

    assert list(looked_at("a", "b", look)) == [
        Finding("a", "one", OK, "fine"),
        Finding("a", "b", FAIL, "it broke: in two", "glue it"),
    ]


def test_whatever_is_not_well_has_a_fix(monkeypatch):
    monkeypatch.setattr(computer, "LITTLE_MEMORY", 2**60)
    monkeypatch.setattr(computer, "LITTLE_ROOM", 2**60)
    monkeypatch.setenv("HOSTVM_RUN", "/" + "long/" * 30)
    found = {finding.name: finding for finding in computer.look_at_computer()}
    assert {name: finding.level for name, finding in found.items() if finding.level != OK} == {
        "memory": WARN,
        "home": WARN,
        "cache": WARN,
        "run folder": FAIL,
    }
    assert all(finding.fix for finding in found.values() if finding.level != OK)


def test_room_is_looked_for_where_the_folder_will_be(folders, monkeypatch):
    asked = []
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or real(path))
    list(computer.look_at_computer())
    assert asked == [folders, folders]


@pytest.mark.parametrize(("version", "level"), [((7, 2, 22), FAIL), ((10, 0, 0), OK)])
def test_what_emulates_a_foreign_machine_is_looked_at(monkeypatch, version, level):
    monkeypatch.setattr(machine, "find_qemu", lambda arch: QemuBinary(Path("/usr/bin/q"), arch, version))
    (found,) = machine._emulator("box", "arm64")
    assert (found.level, bool(found.fix)) == (level, level == FAIL)
    assert "emulates arm64" in found.found


def test_a_bundle_is_private_masked_and_never_overwrites(folders):
    file = folders / "out.tar.gz"
    names = write_bundle(file, [Finding("a", "b", FAIL, "PASSWORD=hunter2", "see")])
    assert file.stat().st_mode & 0o077 == 0
    with tarfile.open(file) as tar:
        assert tar.getnames() == [f"hostvm-doctor/{name}" for name in names]
        text = tar.extractfile("hostvm-doctor/doctor.json").read().decode()
    assert "hunter2" not in text
    assert '"level": "fail"' in text
    with pytest.raises(UsageError, match="exists"):
        write_bundle(file, [])


def test_an_unknown_machine_is_an_error_and_no_finding(capsys):
    assert main(["doctor", "nobody"]) == 1
    assert "no machine called nobody" in capsys.readouterr().err


VERSIONS = b"Client:\n  Version:  1.7.24\n  Go version: go1\n\nServer:\n  Version:  1.7.25\n  UUID: 1\n"


@pytest.mark.parametrize(
    ("done", "level", "found"),
    [
        (Completed(0, VERSIONS, b""), OK, "answers: containerd 1.7.25"),
        (Completed(1, b"", b"cannot dial\n"), FAIL, "it does not answer: cannot dial"),
    ],
)
def test_an_engine_without_docker_s_api_is_asked_by_its_own_client(monkeypatch, done, level, found):
    paths = MachinePaths.of("box")
    paths.run_dir.mkdir(parents=True)
    (paths.run_dir / "agent.json").write_text(json.dumps({"engine": "containerd"}))
    monkeypatch.setattr(machine, "run_in_guest", lambda *_, **__: done)
    seen = Observation(paths, "running", agent={"ready": True})
    (engine,) = (one for one in machine._running(paths, seen) if one.name == "engine")
    assert (engine.level, engine.found) == (level, found)


def test_a_guest_that_can_start_no_program_is_a_finding(monkeypatch):
    monkeypatch.setattr(machine, "run_in_guest", lambda *_, **__: Completed(126, b"", b"fork: out of memory\n"))
    (found,) = machine._guest(MachinePaths.of("box"))
    assert (found.level, found.found) == (FAIL, "the guest does not tell its time: fork: out of memory")
    assert found.fix


def test_a_guest_whose_ssh_server_is_silent_is_asked_nothing(monkeypatch):
    monkeypatch.setattr(machine, "run_in_guest", lambda *_, **__: pytest.fail("asked"))
    seen = Observation(MachinePaths.of("box"), "starting", agent={"silent_since": "2026-12-01 12:00:00"})
    (found,) = machine._running(MachinePaths.of("box"), seen)
    assert (found.name, found.level, found.fix) == ("ssh server", FAIL, "hostvm restart box")
    assert "has not answered since 2026-12-01 12:00:00" in found.found
