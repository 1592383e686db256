from __future__ import annotations

import pytest

from hostvm.drivers.qemu import hardware


def test_commas_are_doubled():
    assert hardware.escape("/a,b, c") == "/a,,b,, c"


@pytest.mark.parametrize(
    ("arch", "version", "option"),
    [
        ("amd64", (10, 2, 0), "whpx,kernel-irqchip=off"),
        ("amd64", (11, 0, 0), "whpx"),
        ("arm64", (10, 2, 0), "whpx"),
    ],
)
def test_whpx_s_interrupt_controller(arch, version, option):
    assert hardware.accelerator(arch, "whpx", version) == option


def test_parameters_are_added_once():
    line = hardware.with_parameters("quiet  cpuidle.off=1", "amd64", "tcg")
    assert line == "quiet cpuidle.off=1 clearcpuid=cx16,erms,fsrm"
    assert hardware.with_parameters(line, "amd64", "tcg") == line


@pytest.mark.parametrize(
    ("version", "told"), [(None, True), ((7, 2, 22), True), ((9, 2, 0), True), ((10, 0, 0), False)]
)
def test_cx16_is_hidden_from_kernels_where_the_emulation_of_it_is_faulty_or_unknown(version, told):
    assert ("clearcpuid=cx16,erms,fsrm" in hardware.kernel_parameters("amd64", "tcg", version)) is told


def test_a_fast_guest_needs_no_parameters():
    assert hardware.with_parameters("quiet", "amd64", "kvm") == "quiet"


@pytest.mark.parametrize(
    ("arch", "accel", "version", "cpus"),
    [
        ("amd64", "whpx", (10, 1, 2), 1),
        ("amd64", "whpx", (11, 0, 0), 4),
        ("arm64", "whpx", (10, 1, 2), 4),
        ("amd64", "tcg", (10, 1, 2), 4),
        ("amd64", "kvm", (7, 2, 0), 4),
    ],
)
def test_cpus_that_can_be_used(arch, accel, version, cpus):
    assert hardware.usable_cpus(arch, accel, version, 4) == cpus
