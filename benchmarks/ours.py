"""hostvm's own machine for the benchmarks: booted bare like the reference guest, and by `hostvm start`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from measure import BootTimes, measure, power_off, powered_on

from hostvm.drivers.qemu.argv import PID_FILE, QUICK_BIOS, HostFacts, build_argv
from hostvm.files import private_folder
from hostvm.machines.domain import make_domain
from hostvm.net.plan import plan_network
from hostvm.paths import MachinePaths
from hostvm.qemu_binary import has_firmware
from hostvm.spec import load_spec
from hostvm.ssh.keys import load_keys
from hostvm.state import load_state
from images.progress import NullProgress
from runtime.engine import find_engine

if TYPE_CHECKING:
    from reference import Host

HOSTVM = Path(sys.executable).parent / "hostvm"


def hostvm(*words: str, timeout: float = 900.0) -> subprocess.CompletedProcess[str]:
    """Run the installed command.

    :raises SystemExit: it failed; with its words.
    """
    result = subprocess.run(
        [HOSTVM, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    if result.returncode != 0:
        raise SystemExit(f"hostvm {' '.join(words)} ended with {result.returncode}:\n{result.stderr}{result.stdout}")
    return result


def create(name: str, host: Host) -> None:
    """A machine of the run's size, without folders: its engine would wait for an agent that brings them."""
    size = ("--cpus", str(host.cpus), "--memory", f"{host.memory // 2**20}MiB")
    hostvm("create", name, "--driver", "qemu", *size, "--accel", host.accel, "--mount", "none")


def argv(name: str, host: Host) -> list[str]:
    """The very command line that the QEMU driver would run, for a boot watched by the benchmark alone."""
    paths = MachinePaths.of(name)
    spec, plan = load_spec(paths.spec), plan_network(load_spec(paths.spec), {})
    state = replace(load_state(paths), subnet=str(plan.network.subnet))
    private_folder(paths.run_dir)
    files = {**plan.seed(), **find_engine(spec.engine).seed(spec, plan)}
    domain = make_domain(paths, spec, state, files, NullProgress(), remote=False, saves_state=True)
    return build_argv(
        domain, HostFacts(host.version, quick_bios=has_firmware(domain.qemu, domain.firmware, QUICK_BIOS))
    )


def boot_bare(name: str, host: Host) -> BootTimes:
    """One boot without agent or `hostvm start`, powered off through the guest."""
    paths = MachinePaths.of(name)
    words = argv(name, host)
    paths.console.unlink(missing_ok=True)
    with powered_on(words, paths.run_dir / "bench.log") as started:
        times, connection = measure(started, load_state(paths).ssh_port, load_keys(paths.keys), paths.console)
        power_off(connection, ["hostvm-poweroff"])
    for leftover in paths.run_dir.iterdir():
        leftover.unlink()
    return times


def start(name: str) -> dict[str, float]:
    """`hostvm start` as a user types it, in seconds: `before` power-on, `guest` from there to its return."""
    paths = MachinePaths.of(name)
    began, clock = time.time(), time.monotonic()
    hostvm("start", name)
    total = time.monotonic() - clock
    pid = int((paths.run_dir / PID_FILE).read_text())
    before = psutil.Process(pid).create_time() - began
    return {"before": round(before, 2), "guest": round(total - before, 2), "total": round(total, 2)}


def accelerator(name: str) -> str:
    """Under which it runs, as QEMU was told."""
    pid = int((MachinePaths.of(name).run_dir / PID_FILE).read_text())
    words = psutil.Process(pid).cmdline()
    return words[words.index("-accel") + 1].partition(",")[0]


def use_scratch(folder: Path) -> None:
    """Machines and sockets of the benchmark's own; the cache is the user's unless HOSTVM_CACHE says otherwise.

    hostvm's modules stay compiled, as pip leaves them where it is installed: a checkout's would be compiled by each
    command where PYTHONDONTWRITEBYTECODE is set, 14 ms of a forwarded one.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["DOCKER_CONFIG"] = str(folder / "docker")
    os.environ["HOSTVM_HOME"], os.environ["HOSTVM_RUN"] = str(folder / "home"), str(folder / "run")
