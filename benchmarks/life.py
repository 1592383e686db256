"""The frame of the benchmarks of one machine's life: hardware from the command line, the table at the end."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ours
import reference
import report

from hostvm.accel import select_accel
from hostvm.guest_images import ensure_image, guest_arch
from hostvm.qemu_binary import find_qemu
from images.progress import NullProgress

if TYPE_CHECKING:
    from collections.abc import Callable


def parser(text: str | None) -> argparse.ArgumentParser:
    """A command line that chooses the hardware."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--accel", default="auto")
    made.add_argument("--cpus", type=int, default=2)
    made.add_argument("--memory", type=int, default=2048, help="MiB")
    return made


def benchmark(
    name: str,
    options: argparse.Namespace,
    guest: dict[str, Any],
    run: Callable[[reference.Host], Any],
    render: Callable[[dict[str, Any]], str],
) -> None:
    """Measure in a scratch HOSTVM_HOME, write the figures and the table NAME, print.

    :param guest: facts beside its hardware.
    """
    qemu = find_qemu(guest_arch())
    image = ensure_image("docker", NullProgress())
    os.environ["HOSTVM_CLIENT"] = "guest"
    with tempfile.TemporaryDirectory(prefix="hvb-") as scratch:
        folder = Path(scratch)
        accel = select_accel(options.accel, qemu=qemu, kernel=image.kernel, cache_dir=folder, progress=NullProgress())
        facts: dict[str, Any] = {"machine": report.machine_facts(qemu.version_text, accel)}
        facts["guest"] = {"cpus": options.cpus, "memory_mib": options.memory, **guest}
        ours.use_scratch(folder)
        facts[name] = run(
            reference.Host(qemu.arch, accel, qemu.path, qemu.version, options.cpus, options.memory * 2**20)
        )
    print(f"wrote {report.save(name, facts)}")
    text = render(facts)
    report.put_table(name, text)
    print(text)
