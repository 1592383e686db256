"""A tiny recipe, and what stands in for the builder guest of its `finish`."""

from __future__ import annotations

import io
import tarfile

RECIPE = """
name: tiny
suite: trixie
pockets: []
arches:
  amd64: {kernel: linux-image-amd64, console: ttyS0}
packages: [base-files, base-passwd, hello]
drop: [usr/share/doc]
modules: {keep: [overlay], initramfs: [erofs]}
initramfs: initramfs
links: {etc/mtab: ../proc/self/mounts}
dirs: {tmp: "01777"}
users: [{name: anna, uid: 1000, gid: 0, home: /home/anna, shell: /bin/sh}]
"""
FINISH = RECIPE + "finish: [[/usr/bin/tool, -a, KVER]]\n"


class FinishingBuilder:
    """Keeps what the guest would have seen, and gives the tree back with a file more."""

    def __init__(self):
        self.tar, self.initramfs, self.jobs = b"", b"", 0

    def run(self, job, progress):
        self.jobs += 1
        self.tar = job.disks[0].path.read_bytes()
        self.initramfs = job.initramfs.read_bytes()
        with (
            tarfile.open(fileobj=io.BytesIO(self.tar)) as tree,
            job.disks[1].path.open("r+b") as disk,
            tarfile.open(fileobj=disk, mode="w", format=tarfile.GNU_FORMAT) as out,
        ):
            for member in tree:
                out.addfile(member, tree.extractfile(member) if member.isreg() else None)
            made = tarfile.TarInfo("./etc/finished")
            made.size, made.mtime = 4, 2_000_000_000
            out.addfile(made, io.BytesIO(b"yes\n"))
        return job.success


class NoBuilder:
    def run(self, job, progress):
        raise AssertionError("no guest is needed")
