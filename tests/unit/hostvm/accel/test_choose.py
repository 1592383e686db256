from __future__ import annotations

import pytest

from hostvm.accel import choose
from hostvm.errors import DriverError, SpecError
from hostvm.qemu_binary import QemuBinary
from images.progress import NullProgress


class Notes(NullProgress):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


class World:
    """A computer: its architecture and system, and what a boot under its accelerator would tell."""

    def __init__(self, monkeypatch, tmp_path):
        self.finding: str | None = None
        self.probes = 0
        self.notes = Notes()
        self.qemu_path = tmp_path / "qemu"
        self.qemu_path.write_text("")
        self.kernel = tmp_path / "vmlinuz"
        self.kernel.write_text("")
        self.cache = tmp_path / "cache"
        self._monkeypatch = monkeypatch
        self.become("linux")
        monkeypatch.setattr(choose, "host_arch", lambda: "amd64")
        monkeypatch.setattr(choose, "probe", self._probe)
        monkeypatch.setattr(choose.os, "access", lambda *_: True)
        monkeypatch.setattr(choose.Path, "exists", lambda self: str(self) == "/dev/kvm")

    def become(self, system):
        self._monkeypatch.setattr(choose.sys, "platform", system)

    def _probe(self, *_):
        self.probes += 1
        return self.finding

    def select(self, wanted="auto", arch="amd64", version=(10, 0, 0)):
        qemu = QemuBinary(self.qemu_path, arch, version)
        return choose.select_accel(wanted, qemu=qemu, kernel=self.kernel, cache_dir=self.cache, progress=self.notes)


@pytest.fixture
def world(monkeypatch, tmp_path):
    return World(monkeypatch, tmp_path)


@pytest.mark.parametrize(("system", "accel"), [("linux", "kvm"), ("darwin", "hvf"), ("win32", "whpx")])
def test_the_system_s_own_is_taken_when_a_boot_succeeds(world, system, accel):
    world.become(system)
    assert world.select() == accel
    assert world.select() == accel
    assert world.probes == 1
    assert world.notes.lines == []


def test_a_broken_one_falls_back_and_says_so_once(world):
    world.finding = "the virtual CPU died (internal-error)"
    assert [world.select(), world.select()] == ["tcg", "tcg"]
    assert world.probes == 1
    assert world.notes.lines == [
        "kvm cannot be used: the virtual CPU died (internal-error); guests are emulated (tcg), which is slower"
    ]


def test_asked_for_by_name_a_broken_one_is_an_error_and_looked_at_each_time(world):
    world.finding = "broken"
    for _ in range(2):
        with pytest.raises(DriverError) as caught:
            world.select("kvm")
        assert (caught.value.brief, caught.value.details) == ("accelerator kvm does not work here", "broken")
        assert caught.value.resolution
    assert world.probes == 2
    world.finding = None
    assert world.select("kvm") == "kvm"


def test_tcg_is_never_probed(world):
    assert world.select("tcg") == "tcg"
    assert world.probes == 0


def test_a_foreign_architecture_is_emulated_without_a_probe(world):
    assert world.select(arch="arm64") == "tcg"
    assert world.probes == 0
    assert "this computer is amd64, the guest arm64" in world.notes.lines[0]


def test_another_system_s_accelerator_is_an_error(world):
    with pytest.raises(DriverError, match="on this system there is only kvm"):
        world.select("hvf")


def test_an_unknown_word_lists_the_known_ones(world):
    with pytest.raises(SpecError) as caught:
        world.select("xen")
    assert caught.value.resolution == "Use one of: --accel auto|kvm|hvf|whpx|tcg"


def test_no_right_to_the_device_is_told_with_the_cure(world, monkeypatch):
    monkeypatch.setattr(choose.os, "access", lambda *_: False)
    assert world.select() == "tcg"
    assert "sudo usermod -aG kvm" in world.notes.lines[0]
    assert world.probes == 0


def test_no_device(world, monkeypatch):
    monkeypatch.setattr(choose.Path, "exists", lambda _self: False)
    assert world.select() == "tcg"
    assert "there is no /dev/kvm" in world.notes.lines[0]


def test_another_kernel_is_probed_anew(world):
    world.select()
    world.kernel.write_text("another")
    world.select()
    assert world.probes == 2


def test_another_boot_of_the_host_is_probed_anew(world, monkeypatch):
    world.select()
    monkeypatch.setattr("hostvm.accel.cache.host_boot", lambda: "next")
    world.select()
    assert world.probes == 2


@pytest.mark.parametrize(
    ("system", "finding", "version", "words"),
    [("linux", "no", (8, 2, 0), "9.0.4 or later"), ("darwin", None, (11, 0, 1), "10.2 is better")],
)
def test_bad_versions_are_named(world, monkeypatch, system, finding, version, words):
    world.become(system)
    world.finding = finding
    monkeypatch.setattr(choose, "host_arch", lambda: "arm64")
    world.select(arch="arm64", version=version)
    assert words in world.notes.lines[-1]


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", "amd64"), ("AMD64", "amd64"), ("aarch64", "arm64")])
def test_host_arch(monkeypatch, machine, arch):
    monkeypatch.setattr(choose.platform, "machine", lambda: machine)
    assert choose.host_arch() == arch
