"""Guest images: a build, cold and warm; then export, import, push and pull, beside skopeo and the standard library.

    .venv/bin/python benchmarks/artefacts.py [ROUNDS]

The first build begins with an empty cache (every package comes from the mirror). The second is of a changed recipe
(`CHANGED`: a package and a link more than docker's), so that its image is made anew beside the first one's; one more,
in an empty cache and not shown, must make the same image. The third has the first one's recipe, and finds its image.
The rest is done with the first image, and once with one that is built beside those and holds a file of `LARGE` MiB
more, which no compression makes smaller. Needs Debian's docker-registry in .tools/bin, and skopeo for its row. Every
command is a process of its own; its peak memory is what the kernel says.
"""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from report import ROOT, describe, machine_facts, put_table, save

from hostvm.guest_images import guest_arch
from hostvm.qemu_binary import find_qemu
from images.store import MANIFEST, PARTS, list_images
from images.zstd import load_zstd

sys.path.insert(0, str(ROOT / "tests" / "registry"))
from registries import Registry

HOSTVM = ROOT / ".venv" / "bin" / "hostvm"
MIB = 1 << 20
LARGE = 900
CHANGED = """
name: changed
base: docker
packages: [htop]
links: {usr/bin/hi: busybox}
"""
RECIPE = """
name: large
base: docker
downloads: [{file: large.bin, sha256: %s, to: opt/large.bin}]
"""


class Taken(NamedTuple):
    """What a command took.

    :param peak: its own memory, MiB.
    :param processor: seconds of all processors together, which a busy computer hardly changes.
    """

    seconds: float
    peak: float | None
    processor: float


Rows = dict[str, Taken]


def run(*words: str | Path, home: Path) -> Taken:
    """Run a command."""
    env = {**os.environ, "HOSTVM_HOME": str(home / "home"), "HOSTVM_CACHE": str(home / "cache")}
    env.pop("RUST_BACKTRACE", None)  # with it pysequoia reads 50 MB of debug information
    told = home / "peak"
    home.mkdir(exist_ok=True)
    peak = (sys.executable, "-I", "-S", ROOT / "benchmarks" / "peak.py", told)
    began, before = time.monotonic(), processor_seconds()
    done = subprocess.run([str(word) for word in (*peak, *words)], env=env, stdout=subprocess.DEVNULL, check=False)
    seconds, processor = time.monotonic() - began, processor_seconds() - before
    if done.returncode:
        raise SystemExit(f"{words}: exit status {done.returncode}")
    return Taken(seconds, int(told.read_text()) / 1024, processor)


def processor_seconds() -> float:
    """Of all commands that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def build(home: Path) -> Rows:
    """With an empty cache; of a changed recipe with what that left; of the first one again."""
    rows: Rows = {}
    words = (HOSTVM, "-q", "image", "build")
    rows["build, cold"] = run(*words, home=home)
    recipe, other = home / "changed.yaml", home.with_name("unlike")
    recipe.write_text(CHANGED)
    rows["build, recipe changed"] = run(*words, "--recipe", recipe, home=home)
    rows["build, nothing newer"] = run(*words, home=home)
    run(*words, "--recipe", recipe, home=other)
    if stored(home, "changed").name != stored(other, "changed").name:
        raise SystemExit("a build beside another image made other bytes than one in an empty cache")
    shutil.rmtree(other)
    return rows


def stored(home: Path, name: str) -> Path:
    """The folder of an image."""
    return next(image.path for image in list_images(home / "cache") if image.name == name)


def build_large(home: Path) -> Rows:
    """Its packages are there, and the image that it is based on."""
    generator, digest = random.Random(1), hashlib.sha256()
    with (home / "large.bin").open("wb") as file:
        for _ in range(LARGE):
            chunk = generator.randbytes(MIB)
            digest.update(chunk)
            file.write(chunk)
    (home / "large.yaml").write_text(RECIPE % digest.hexdigest())
    return {"build": run(HOSTVM, "-q", "image", "build", "--recipe", home / "large.yaml", home=home)}


def standard_library(packed: Path, folder: Path) -> Taken:
    """The same bytes decompressed, unpacked by tarfile and hashed by hashlib, in one pass."""
    zstd = load_zstd("the file")
    began, before = time.monotonic(), time.process_time()
    with zstd.ZstdFile(packed) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for number, member in enumerate(tar):
            source, digest = tar.extractfile(member), hashlib.sha256()
            assert source is not None
            with (folder / str(number)).open("wb") as file:
                while chunk := source.read(MIB):
                    digest.update(chunk)
                    file.write(chunk)
    return Taken(time.monotonic() - began, None, time.process_time() - before)


def one_round(image: Path, work: Path, registry: Registry, number: int) -> Rows:
    """Every row once, on fresh stores and a fresh repository."""
    first, second, third = work / "first", work / "second", work / "third"
    for home in (second, third, work / "plain", work / "skopeo"):
        shutil.rmtree(home, ignore_errors=True)
    (work / "plain").mkdir()
    if not first.exists():
        shutil.copytree(image, first / "cache" / "images" / "sha256" / image.name)
    packed, name = work / "image.hostvm", f"{registry.host}/bench{number}:1"
    rows: Rows = {}
    image_word = (HOSTVM, "-q", "image")
    rows["export"] = run(*image_word, "export", image.name, "-o", packed, home=first)
    rows["import"] = run(*image_word, "import", "--allow-unsigned", packed, home=second)
    rows["tarfile and hashlib, the same file"] = standard_library(packed, work / "plain")
    rows["push"] = run(*image_word, "push", image.name, name, home=first)
    rows["pull"] = run(*image_word, "pull", "--allow-unsigned", name, home=third)
    if skopeo := shutil.which("skopeo"):
        remote = f"docker://{registry.host}/bench{number}"
        words = (skopeo, "copy", "-q")
        source = ("--src-tls-verify=false", f"{remote}:1", f"oci:{work / 'skopeo'}:1")
        rows["skopeo copy, registry to folder"] = run(*words, *source, home=first)
        with Registry(work / f"other{number}") as other:  # an empty one, as push had
            target = ("--dest-tls-verify=false", f"oci:{work / 'skopeo'}:1", f"docker://{other.host}/bench:1")
            rows["skopeo copy, folder to registry"] = run(*words, *target, home=first)
    return rows


def table(rounds: list[Rows], size: int, *, head: bool = True) -> str:
    """Medians as a table; memory is the worst round's."""
    lines = ["| | seconds | of a processor | MiB/s | peak memory, MiB |", "|---|---|---|---|---|"] if head else []
    for name in rounds[0]:
        seconds = statistics.median(row[name].seconds for row in rounds)
        processor = statistics.median(row[name].processor for row in rounds)
        peaks = [peak for row in rounds if (peak := row[name].peak) is not None]
        peak = f"{max(peaks):.0f}" if peaks else "-"
        lines.append(f"| {name} | {seconds:.1f} | {processor:.1f} | {size / MIB / seconds:.0f} | {peak} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write the figures and the page."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    machine = machine_facts(find_qemu(guest_arch()).version_text, "auto")
    with tempfile.TemporaryDirectory(prefix="hv-bench-") as name:
        work = Path(name)
        home = work / "built"
        built = build(home)
        image = stored(home, "docker")
        rounds = all_rounds(image, work, count)
        shutil.rmtree(work / "first")
        built_large = build_large(home)
        large = stored(home, "large")
        once = {**built_large, **all_rounds(large, work, 1)[0]}
        size, large_size = bytes_of(image), bytes_of(large)
    facts: dict[str, Any] = {"machine": machine, "bytes": size, "build": built, "rounds": rounds}
    facts |= {"changed": CHANGED, "large": {"bytes": large_size, "rows": once}}
    save("images", facts)
    rates = f"One build of each kind; then {size / MIB:.0f} MiB, {count} rounds, medians."
    text = (
        f"{describe(machine)} {rates}\n\n{table([built], size)}\n{table(rounds, size, head=False)}\n\n"
        f"Once with an image of {large_size / MIB:.0f} MiB:\n\n{table([once], large_size)}"
    )
    put_table("images", text)
    print(text)


def all_rounds(image: Path, work: Path, count: int) -> list[Rows]:
    """Each with a registry of its own."""
    rounds = []
    for number in range(count):
        with Registry(work / f"registry{number}") as registry:
            rounds.append(one_round(image, work, registry, number))
        shutil.rmtree(work / f"registry{number}")
    return rounds


def bytes_of(image: Path) -> int:
    """Of an image's files together."""
    return sum((image / name).stat().st_size for name in (*PARTS, MANIFEST))


if __name__ == "__main__":
    main()
