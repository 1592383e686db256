"""What a machine boots, put together from what was wanted and made: its initramfs with this boot's seed, its domain."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostvm import paths as places
from hostvm.accel import select_accel
from hostvm.drivers.base import DiskDevice, DomainSpec
from hostvm.files import write_atomic
from hostvm.guest_images import kernel_cmdline, stored_image
from hostvm.machines.seed import boot_initramfs, seed_entries
from hostvm.more_disks import disk_file
from hostvm.qemu_binary import complete_qemu
from hostvm.shares.choose import device_shares, forget_places, share_facts, share_seed, shares_of, store_devices

_PATHS = ("qemu", "kernel", "initramfs", "root_image", "data_disk", "console", "run_dir")

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec
    from hostvm.state import MachineState
    from images.progress import Progress


def make_domain(
    paths: MachinePaths,
    spec: MachineSpec,
    state: MachineState,
    files: Mapping[str, bytes],
    progress: Progress,
    *,
    remote: bool,
    saves_state: bool,
) -> DomainSpec:
    """Write the machine's initramfs, list of shares and domain.json, and give the domain that boots from them.

    :param files: of the seed, beside the machine's identity and shares.
    :param remote: whether the hypervisor is on another computer, which sees no folder of this one.
    :param saves_state: whether the machine may be suspended, and go on more than once from what was saved.
    :raises HostvmError: no usable QEMU or accelerator, or the image is gone.
    """
    image = stored_image(state.image)
    qemu = complete_qemu(state.arch, places.cache(), progress)
    accel = select_accel(spec.accel, qemu=qemu, kernel=image.kernel, cache_dir=places.cache(), progress=progress)
    shares = device_shares(spec.mounts, paths.run_dir, remote=remote, disks=len(spec.disks))
    store_devices(shares, paths.run_dir)
    forget_places(paths.folder)
    files = {**files, **share_seed(spec.mounts, shares)}
    seed = seed_entries(paths, str(uuid.uuid4()), state.uuid, files)
    write_atomic(paths.initramfs, boot_initramfs(image.initramfs.read_bytes(), seed))
    domain = DomainSpec(
        name=paths.name,
        uuid=state.uuid,
        arch=state.arch,
        cpus=spec.cpus,
        memory=spec.memory,
        accel=accel,
        qemu=qemu.path,
        kernel=image.kernel,
        initramfs=paths.initramfs,
        cmdline=kernel_cmdline(image.manifest, accel),
        root_image=image.root,
        data_disk=paths.data_disk,
        mac=state.mac,
        ssh_port=state.ssh_port,
        console=paths.console,
        run_dir=paths.run_dir,
        firmware=qemu.firmware,
        shares=shares,
        subnet=state.subnet,
        disks=tuple(DiskDevice(one.name, disk_file(paths.folder, one.name)) for one in spec.disks),
        # arm64's kernel, booted directly, has a device tree and no ACPI, by which it would be told.
        generation=saves_state and state.arch == "amd64",
        reboots=spec.on_panic == "restart",
    )
    store_domain(domain, paths.domain)
    return domain


def store_domain(domain: DomainSpec, path: Path) -> None:
    """Write down what the machine is powered on with, for whoever suspends it."""
    write_atomic(path, json.dumps(domain_facts(domain), indent=1).encode())


def domain_facts(domain: DomainSpec) -> dict[str, Any]:
    """A domain as plain facts, for a file."""
    facts = asdict(domain)
    return {
        **{key: str(value) if isinstance(value, Path) else value for key, value in facts.items()},
        "firmware": [str(folder) for folder in domain.firmware],
        "shares": share_facts(domain.shares),
        "disks": [[disk.name, str(disk.path)] for disk in domain.disks],
    }


def domain_of(facts: Mapping[str, Any]) -> DomainSpec:
    """The domain of such facts.

    :raises KeyError, TypeError: they are not a domain's, or not this version's.
    """
    paths = {key: Path(facts[key]) for key in _PATHS}
    firmware = tuple(Path(folder) for folder in facts["firmware"])
    disks = tuple(DiskDevice(name, Path(path)) for name, path in facts.get("disks", []))
    more = {"firmware": firmware, "shares": shares_of(facts["shares"]), "disks": disks}
    return DomainSpec(**{**facts, **paths, **more})


def same_domain(paths: MachinePaths, state: MachineState, domain: DomainSpec, progress: Progress) -> DomainSpec:
    """The domain of a machine that was suspended, with the places that things have now.

    :raises HostvmError: its image or QEMU is gone.
    """
    image = stored_image(state.image)
    qemu = complete_qemu(domain.arch, places.cache(), progress)
    return replace(
        domain,
        qemu=qemu.path,
        firmware=qemu.firmware,
        kernel=image.kernel,
        root_image=image.root,
        initramfs=paths.initramfs,
        data_disk=paths.data_disk,
        console=paths.console,
        run_dir=paths.run_dir,
        ssh_port=state.ssh_port,
        disks=tuple(replace(disk, path=disk_file(paths.folder, disk.name)) for disk in domain.disks),
    )
