"""Shared folders: every kind of ours, the guest's own ext4, and plain sshfs by OpenSSH on both ends.

    .venv/bin/python benchmarks/shares.py [--rounds 3] [--files 1000] [--mib 64]

Measured on one running machine, all in turn within each round so that they see the same load. The last is what Lima
does where it mounts by sshfs: `sshfs -o passive` in the guest on an ssh session that is joined to a local sftp-server.
Work is done by the guest's shell, timed by the guest's clock; "cold" is after its caches were dropped.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ours
import report

from hostvm.guest_images import guest_arch
from hostvm.paths import MachinePaths
from hostvm.qemu_binary import find_qemu
from hostvm.ssh.keys import load_keys
from hostvm.state import load_state

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "bench"
KINDS = ("9p", "virtiofs", "sftp", "nfs")
STEPS = ("create", "stat", "read", "remove", "write", "readback", "status")
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/lib/ssh/sftp-server")

# FOLDER FILES MIB TRACKED; prints the seconds of each of STEPS.
WORK = r"""
set -e
cd "$1"; rm -rf work; mkdir work; cd work
now() { read -r up _ < /proc/uptime; echo "$up"; }
cold() { sync; echo 3 > /proc/sys/vm/drop_caches; }
times=$(now)
step() { times="$times $(now)"; }
i=0; while [ $i -lt $2 ]; do echo "content $i" > f$i; i=$((i+1)); done; step
cold; times="$times $(now)"; stat -c %s f* > /dev/null; step
cold; times="$times $(now)"; cat f* > /dev/null; step
times="$times $(now)"; rm f*; step
times="$times $(now)"; dd if=/dev/zero of=big bs=1M count=$3 conv=fsync 2> /dev/null; step
cold; times="$times $(now)"; dd if=big of=/dev/null bs=1M 2> /dev/null; step
mkdir tree; cd tree; git init -q .; mkdir -p 0 1 2 3 4 5 6 7 8 9
i=0; while [ $i -lt $4 ]; do echo "content $i" > $((i % 10))/f$i; i=$((i+1)); done
git add .; git -c user.name=n -c user.email=e commit -qm all
cold; times="$times $(now)"; git status --porcelain; step
cd ../..; rm -r work
echo "$times" | awk '{ for (i = 1; i < NF; i += 2) printf "%.2f ", $(i + 1) - $i }'
"""


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--tracked", type=int, default=5000, help="files of the git repository")
    options = parser.parse_args()
    qemu = find_qemu(guest_arch())
    with tempfile.TemporaryDirectory(prefix="hvb-") as scratch:
        ours.use_scratch(Path(scratch))
        folders = {kind: Path(scratch) / "shared" / kind for kind in (*KINDS, "openssh")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        with machine(folders), openssh_sshfs(folders["openssh"]) as peer:
            places = {"ext4": "/var/tmp", **{kind: str(folders[kind]) for kind in KINDS}, "openssh": peer}
            facts: dict[str, Any] = {"machine": report.machine_facts(qemu.version_text, ours.accelerator(NAME))}
            facts |= {key: getattr(options, key) for key in ("rounds", "files", "mib", "tracked")}
            facts["seconds"] = measure(places, options)
    print(f"wrote {report.save('shares', facts)}")
    text = render(facts)
    report.put_table("shares", text)
    print(text)


@contextlib.contextmanager
def machine(folders: dict[str, Path]) -> Iterator[None]:
    """One with a folder of each kind, gone at the end."""
    ours.hostvm("image", "build", "--package", "git")  # is not in the guest otherwise
    size = ("--driver", "qemu", "--cpus", "2", "--memory", "2GiB", "--mount", "none")
    ours.hostvm("create", NAME, "--image", "docker-custom", *size)
    try:
        for kind in KINDS:
            ours.hostvm("mount", "add", "-m", NAME, "--kind", kind, str(folders[kind]))
        ours.hostvm("start", NAME)
        yield
    finally:
        ours.hostvm("rm", "--force", NAME)


@contextlib.contextmanager
def openssh_sshfs(folder: Path) -> Iterator[str]:
    """The peer's mount: its place in the guest."""
    paths = MachinePaths.of(NAME)
    server = next(path for path in SFTP_SERVERS if Path(path).exists())
    place = "/mnt/openssh"
    options = ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
    words = ["ssh", "-F", "/dev/null", "-i", str(load_keys(paths.keys).client_key)]
    words += ["-p", str(load_state(paths).ssh_port), *(word for option in options for word in ("-o", option))]
    words += ["root@127.0.0.1", f"mkdir -p {place}; sshfs :{folder} {place} -o passive,allow_other"]
    to_ssh, to_server = os.pipe(), os.pipe()
    ssh = subprocess.Popen(words, stdin=to_ssh[0], stdout=to_server[1], stderr=subprocess.DEVNULL)
    sftp = subprocess.Popen([server], stdin=to_server[0], stdout=to_ssh[1], stderr=subprocess.DEVNULL)
    for descriptor in (*to_ssh, *to_server):
        os.close(descriptor)
    try:
        deadline = time.monotonic() + 30
        while f" {place} fuse.sshfs" not in ours.hostvm("-m", NAME, "shell", "--", "cat", "/proc/mounts").stdout:
            if time.monotonic() > deadline:
                raise SystemExit("sshfs by OpenSSH did not mount")
            time.sleep(0.1)
        yield place
    finally:
        for process in (ssh, sftp):
            process.terminate()
            process.wait()


def measure(places: dict[str, str], options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Seconds of each step at each place, one figure a round."""
    found: dict[str, dict[str, list[float]]] = {place: {step: [] for step in STEPS} for place in places}
    for _ in range(options.rounds):
        for name, place in places.items():
            words = ["sh", "-c", WORK, "work", place, str(options.files), str(options.mib), str(options.tracked)]
            seconds = ours.hostvm("-m", NAME, "shell", "--", *words).stdout.split()
            for step, value in zip(STEPS, seconds, strict=True):
                found[name][step].append(float(value))
            print(f"{name}: {' '.join(seconds)}", file=sys.stderr, flush=True)
    return found


def render(facts: dict[str, Any]) -> str:
    """The table for docs/benchmarks.md: medians, and how many times as fast as sshfs by OpenSSH."""
    medians = {
        place: {step: report.median(values) for step, values in steps.items()}
        for place, steps in facts["seconds"].items()
    }

    def small(place: str) -> float:
        return sum(medians[place][step] for step in ("create", "read", "remove"))

    def times(place: str) -> str:
        if place in ("ext4", "openssh"):
            return ""
        ratios = [small("openssh") / small(place)]
        ratios += [medians["openssh"][step] / max(medians[place][step], 0.01) for step in ("write", "readback")]
        return " / ".join(f"{ratio:.1f}" for ratio in ratios)

    names = {"ext4": "the guest's ext4", "openssh": "plain sshfs, OpenSSH"}
    rows = [
        [names.get(place, place), *(f"{steps[step]:.2f}" for step in STEPS), f"{small(place):.2f}", times(place)]
        for place, steps in medians.items()
    ]
    header = ["seconds", f"create {facts['files']}", "stat cold", "read cold", "remove", f"write {facts['mib']} MiB"]
    header += ["read it cold", f"`git status`, {facts['tracked']} files cold"]
    header += ["create+read+remove", "times sshfs: small files / write / read"]
    wanted = "Wanted: on Linux ≥ 3.5 / 6 / 2, the kind that Windows gets ≥ 1.3 / 1.3 / 1.3.\n"
    head = report.describe(facts["machine"]) + f" Median of {facts['rounds']} rounds, all taken in turn.\n"
    return "\n".join([head, report.table(header, rows), wanted])


if __name__ == "__main__":
    sys.exit(main())
