from __future__ import annotations

import pytest

from hostvm import process
from hostvm.accel import choose, host
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
        self.whpx = ""
        monkeypatch.setattr(choose, "whpx_obstacle", lambda: self.whpx)  # asks a library of Windows
        self.told = {}  # what sysctl and codesign print
        monkeypatch.setattr(host, "_ask", lambda *argv: self.told.get(argv[0]))
        monkeypatch.setattr(host.os, "access", lambda *_: True)
        monkeypatch.setattr(host.Path, "exists", lambda self: str(self) == "/dev/kvm")

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
    assert world.select(version=(11, 1, 0)) == accel
    assert world.select(version=(11, 1, 0)) == accel
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
    monkeypatch.setattr(host.os, "access", lambda *_: False)
    assert world.select() == "tcg"
    assert "sudo usermod -aG kvm" in world.notes.lines[0]
    assert world.probes == 0


def test_no_device(world, monkeypatch):
    monkeypatch.setattr(host.Path, "exists", lambda _self: False)
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
    [("linux", "no", (8, 2, 0), "9.0.4 or later"), ("darwin", None, (11, 0, 1), "10.2 is good")],
)
def test_bad_versions_are_named(world, monkeypatch, system, finding, version, words):
    world.become(system)
    world.finding = finding
    monkeypatch.setattr(choose, "host_arch", lambda: "arm64")
    world.select(arch="arm64", version=version)
    assert words in world.notes.lines[-1]


@pytest.mark.parametrize(("version", "noted"), [((10, 1, 2), True), ((11, 0, 0), False)])
def test_one_cpu_under_an_old_whpx_is_said(world, version, noted):
    world.become("win32")
    assert world.select(version=version) == "whpx"
    assert any("machines get one" in line for line in world.notes.lines) is noted


def test_a_feature_that_is_off_is_told_with_the_command(world):
    world.become("win32")
    world.whpx = f"off (mend it: {host.ENABLE_WHPX})"
    assert world.select() == "tcg"
    assert "Enable-WindowsOptionalFeature" in world.notes.lines[0]
    with pytest.raises(DriverError) as caught:
        world.select("whpx")
    assert host.ENABLE_WHPX in caught.value.resolution
    assert world.probes == 0


def told(text, status=0):
    return process.Result((), status, text, b"")


ENTITLED = b"""<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "https://a/b.dtd">
<plist version="1.0"><dict><key>com.apple.security.hypervisor</key><true/></dict></plist>"""


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (ENTITLED, True),
        (b"\xfa\xde\x71\x71\0\0\x01\x02" + ENTITLED + b"\0", True),
        (ENTITLED.replace(b"<true/>", b"<false/>"), False),
        (ENTITLED.replace(b"hypervisor", b"app-sandbox"), False),
        (b"<?xml broken", False),
        (b"", False),
    ],
)
def test_entitlement(text, has):
    assert host.has_entitlement(text) is has


@pytest.mark.parametrize(
    ("sysctl", "codesign", "words"),
    [
        (told(b"1\n"), told(ENTITLED), None),
        (None, None, None),  # neither program is there: the boot decides
        (told(b"0\n"), told(ENTITLED), "kern.hv_support is 0"),
        (told(b"1\n"), told(b"", 1), "codesign --sign - --force --entitlements"),
        (told(b"1\n"), told(b"", 2), None),  # a codesign without --xml: so does it
        (told(b"1\n"), told(b""), "may not use the hypervisor"),
    ],
)
def test_hvf_s_conditions_come_before_a_boot(world, sysctl, codesign, words):
    world.become("darwin")
    world.told = {"sysctl": sysctl, "codesign": codesign}
    assert world.select() == ("hvf" if words is None else "tcg")
    assert world.probes == (1 if words is None else 0)
    assert words is None or words in world.notes.lines[0]


@pytest.mark.parametrize(("version", "accel"), [((6, 2, 0), "tcg"), ((7, 0, 0), "hvf")])
def test_an_old_qemu_has_no_hvf_on_apple_silicon(world, monkeypatch, version, accel):
    world.become("darwin")
    monkeypatch.setattr(choose, "host_arch", lambda: "arm64")
    assert world.select(arch="arm64", version=version) == accel
    assert accel == "hvf" or "brew upgrade qemu" in world.notes.lines[0]


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", "amd64"), ("AMD64", "amd64"), ("aarch64", "arm64")])
def test_host_arch(monkeypatch, machine, arch):
    monkeypatch.setattr(choose.platform, "machine", lambda: machine)
    assert choose.host_arch() == arch
