"""What each system can tell about its accelerator before anything is booted, and the command that mends it."""

from __future__ import annotations

import os
import plistlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.parsers.expat import ExpatError

from hostvm import process
from hostvm.errors import HostvmError

if TYPE_CHECKING:
    from hostvm.qemu_binary import QemuBinary

ENTITLEMENT = "com.apple.security.hypervisor"
ENABLE_WHPX = "Enable-WindowsOptionalFeature -Online -FeatureName HypervisorPlatform"

HVF_ON_ARM64 = (7, 0, 0)
"""Older ones place devices beyond the 36 address bits of Apple's first processors, or, with highmem=off, give no more
than 3 GiB of memory: https://github.com/lima-vm/lima/pull/703."""

_USAGE = 2
"""Status of codesign for words that it does not know."""

_HYPERVISOR_PRESENT = 0  # WHvCapabilityCodeHypervisorPresent


def kvm_obstacle() -> str:
    """What keeps KVM from working; "" when nothing is seen."""
    if not Path("/dev/kvm").exists():
        return "there is no /dev/kvm (virtualisation is off in the firmware, or not offered to this VM)"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "no right to open /dev/kvm (mend it: sudo usermod -aG kvm $USER, then log in again)"
    return ""


def hvf_obstacle(qemu: QemuBinary) -> str:
    """What keeps Apple's Hypervisor framework from working: no support, an old QEMU, or one without the entitlement."""
    supported = _ask("sysctl", "-n", "kern.hv_support")
    if supported is not None and supported.stdout.strip() == b"0":
        return "this Mac, or the virtual machine it is, has no Hypervisor framework (sysctl kern.hv_support is 0)"
    if qemu.arch == "arm64" and qemu.version < HVF_ON_ARM64:
        return f"QEMU {qemu.version_text} needs more address bits than Apple silicon has (mend it: brew upgrade qemu)"
    # A script that wraps QEMU cannot be signed; what it starts may be.
    signature = _ask("codesign", "-d", "--entitlements", "-", "--xml", str(qemu.path.resolve()))
    # One that does not know --xml (macOS 11) tells nothing of QEMU: the tiny boot decides.
    if signature is None or signature.status == _USAGE or (not signature.status and has_entitlement(signature.stdout)):
        return ""
    return f"{qemu.path} may not use the hypervisor (mend it: {sign_command(qemu.path)})"


def has_entitlement(told: bytes) -> bool:
    """Whether `codesign -d --entitlements - --xml` names the hypervisor's entitlement."""
    start = told.find(b"<?xml")
    if start < 0:
        return False
    try:
        found = plistlib.loads(told[start:].rstrip(b"\0\n "), fmt=plistlib.FMT_XML)
    except (ValueError, ExpatError):
        return False
    return isinstance(found, dict) and found.get(ENTITLEMENT) is True


def sign_command(qemu: Path) -> str:
    """The commands that give a QEMU of the user's own the entitlement; the signature is for this Mac only."""
    plist = f"<plist version='1.0'><dict><key>{ENTITLEMENT}</key><true/></dict></plist>"
    return (
        f'echo "{plist}" > /tmp/qemu.entitlements && '
        f"codesign --sign - --force --entitlements /tmp/qemu.entitlements {shlex.quote(str(qemu.resolve()))}"
    )


def whpx_obstacle() -> str:
    """What keeps the Windows Hypervisor Platform from working: the feature is off, or no hypervisor runs."""
    if sys.platform == "win32":
        import ctypes

        try:
            library = ctypes.WinDLL("WinHvPlatform.dll")
        except OSError:
            return f"the Windows feature HypervisorPlatform is off (mend it, as administrator: {ENABLE_WHPX}; restart)"
        present = ctypes.c_uint32()
        failed = library.WHvGetCapability(_HYPERVISOR_PRESENT, ctypes.byref(present), 4, None)
        if failed or not present.value:
            return (
                "no hypervisor runs (is virtualisation on in the firmware? mend it, as administrator: "
                "bcdedit /set hypervisorlaunchtype auto; restart)"
            )
    return ""


def _ask(*argv: str) -> process.Result | None:
    try:
        return process.run(argv, timeout=10, check=False)
    except HostvmError:
        return None  # not there: the tiny boot decides
