"""The parts of QEMU's argv that depend on architecture, accelerator and version: board, CPU, kernel parameters.

Pure functions, shared by the driver, the builder guest, the accelerator probe and (for CPU and parameters) the
libvirt driver.
"""

from __future__ import annotations

MIB = 1024 * 1024

_IRQCHIP_ON_WHPX = (11, 0)
"""From this version on, Windows' own interrupt controller works for x86 guests (facts of QEMU's release notes)."""

_SOUND_CX16 = (10, 0, 0)
"""The first version in which emulated kernels were found to use cmpxchg16b without faults; 8 and 9 were not tried."""

SLOW_COPIES = "erms"
"""What Linux, glibc and Go take for "copy by `rep movsb`", which emulation does byte by byte: without it the guest's
kernel copies pieces of 64 KiB three to six times as fast (QEMU 7.2)."""

_SLOW_SHORT_COPIES = "fsrm"
"""The same for short ones; QEMU 7.2 does not have it."""


def escape(value: object) -> str:
    """A value for QEMU's `key=value,...` options, where a comma ends it unless doubled."""
    return str(value).replace(",", ",,")


def machine(arch: str) -> str:
    """-machine: what boots Linux directly with PCI Express on each architecture."""
    # "max" is the host's interrupt controller under kvm, and never the 8-CPU GICv2 elsewhere.
    return "virt,gic-version=max" if arch == "arm64" else "q35,vmport=off"


def accelerator(arch: str, accel: str, version: tuple[int, int, int]) -> str:
    """-accel for kvm, hvf, whpx or tcg."""
    if accel == "tcg":
        return "tcg,thread=multi,tb-size=512"
    if accel == "whpx" and arch == "amd64" and version[:2] < _IRQCHIP_ON_WHPX:
        return "whpx,kernel-irqchip=off"
    return accel


def usable_cpus(arch: str, accel: str, version: tuple[int, int, int], wanted: int) -> int:
    """-smp: all that are wanted, but one under WHPX without Windows' own interrupt controller, where two hang."""
    return 1 if "kernel-irqchip=off" in accelerator(arch, accel, version) else wanted


def cpu(arch: str, accel: str, *, intel_mac: bool = False) -> str:
    """-cpu: the host's own where the accelerator can pass it on, else all that QEMU emulates."""
    if accel == "tcg":
        # The default pointer authentication algorithm is emulated very slowly.
        return "max,pauth-impdef=on" if arch == "arm64" else f"max,-{SLOW_COPIES}"
    if accel == "whpx" and arch == "amd64":
        # Neither "host" nor "max" works on Windows; this is x86-64-v2, which container images may demand.
        return "Westmere"
    if accel == "hvf" and arch == "amd64" and intel_mac:
        return "host,-pdpe1gb"
    return "host"


def kernel_parameters(arch: str, accel: str, version: tuple[int, int, int] | None = None) -> tuple[str, ...]:
    """What the guest's kernel must be told because of the accelerator.

    :param version: QEMU's, where it is known.
    """
    words: list[str] = []
    if accel == "tcg" and arch == "amd64":
        flags = [SLOW_COPIES, _SLOW_SHORT_COPIES]
        if version is None or version < _SOUND_CX16:
            # QEMU 7.2 with two or more CPUs: the kernel's own cmpxchg16b double-faults in 3 of 7 boots. Programs in
            # the guest still see the instruction, which x86-64-v2 images demand; "-cpu max,-cx16" would hide it.
            flags.insert(0, "cx16")
        words.append(f"clearcpuid={','.join(flags)}")
    if accel in {"tcg", "hvf"}:
        # The idle driver's polling costs host CPU time where the hypervisor cannot see it.
        words.append("cpuidle.off=1")
    return tuple(words)


def with_parameters(cmdline: str, arch: str, accel: str, version: tuple[int, int, int] | None = None) -> str:
    """A kernel command line with `kernel_parameters` added, each once."""
    present = cmdline.split()
    return " ".join([*present, *(word for word in kernel_parameters(arch, accel, version) if word not in present)])
