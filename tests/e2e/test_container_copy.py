"""`docker cp` with the guest's client: the same words by docker's own client of this computer do the same."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest
from machines import Done, Machine, hostvm, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.vm

BOX = "copied"
# Each case has its own folder T in the container and H here, both holding: dir/inner/file, file, link -> dir, wild ->
# nowhere, script (0755, of user 1000 in the container and of this user here).
IN = (
    ("H/file", "T/dir"),
    ("H/file", "T/dir/"),
    ("H/file", "T/new"),
    ("H/file", "T/file"),
    ("H/file", "T/link"),
    ("H/file", "T/none/"),
    ("H/file", "T/none/below"),
    ("H/script", "T/script"),
    ("H/dir", "T/dir"),
    ("H/dir", "T/new"),
    ("H/dir/.", "T/dir"),
    ("H/dir/.", "T/new"),
    ("H/dir/", "T/new"),
    ("H/dir", "T/file"),
    ("H/file/", "T/dir"),
    ("H/link", "T/dir"),
    ("H/link/", "T/new"),
    ("-L", "H/link", "T/dir"),
    ("H/wild", "T/new"),
    ("-aL", "H/link/.", "T/new"),
    ("-a", "H/script", "T/owned"),
    ("H/script", "T/not owned", "--quiet"),
    ("H/none", "T/dir"),
    ("-", "T/dir"),
    ("-", "T/file"),
    ("H/file", "none:/x"),
    ("H/file", "T/dir/inner"),
    ("H/a:b", "T/dir"),
    ("T/file", "T/new"),  # docker refuses copies between containers
)
OUT = (
    ("T/file", "H/dir"),
    ("T/file", "H/new"),
    ("T/file", "H/file"),
    ("T/file", "H/link"),
    ("T/file", "H/none/"),
    ("T/file", "H/none/below"),
    ("T/script", "H/script"),
    ("T/dir", "H/dir"),
    ("T/dir", "H/new"),
    ("T/dir/.", "H/dir"),
    ("T/dir/.", "H/new"),
    ("T/dir", "H/file"),
    ("T/link", "H/new"),
    ("T/link/", "H/new"),
    ("-L", "T/link", "H/new"),
    ("-L", "T/link", "H/dir"),
    ("T/wild", "H/new"),
    ("T/none", "H/dir"),
    ("none:/x", "H/dir"),
    ("T/dir/inner", "H/file"),
    ("T/file", "H/dir/inner"),
    ("T/file", "-"),
)
MAKE = """
for place in "$@"; do
    mkdir -p $place/dir/inner && cd $place
    echo there > dir/inner/file; echo file > file; echo '#!/bin/sh' > script
    chmod 755 script; chown 1000:1000 script; ln -s dir link; ln -s nowhere wild
    touch -d @1000000000 dir/inner/file file script
done
"""
LIST = (
    "cd $1 && find . -printf '%p %y %m %U:%G %l ' \\( -type f -printf '%Ts ' -o -true \\) "
    '-exec sh -c \'[ -f "$0" ] && cat "$0" || echo\' {} \\; | sort'
)


class Clients:
    """The same copy by both clients, each in its own places."""

    def __init__(self, machine: Machine, client: tuple[str, dict[str, str]], here: Path) -> None:
        self.machine, self.client, self.here = machine, client, here

    def both(self, number: int, words: tuple[str, ...], stdin: bytes) -> tuple[Done, Done]:
        return self._one("real", number, words, stdin), self._one("ours", number, words, stdin)

    def _one(self, who: str, number: int, words: tuple[str, ...], stdin: bytes) -> Done:
        here = self.here / who / str(number)
        said = [
            f"{here}{word[1:]}"
            if word.startswith("H/")
            else f"{BOX}:/{who}/{number}{word[1:]}"
            if word[:2] == "T/"
            else word
            for word in words
        ]
        if who == "real":
            done = run(self.client[0], "cp", *said, stdin=stdin, env=self.client[1])
        else:
            done = hostvm("-m", self.machine.name, "docker", "cp", *said, stdin=stdin)
        return Done(words, done.status, done.out.replace(who, "WHO"), done.err.replace(who, "WHO"))


def make_here(place: Path) -> None:
    inner = place / "dir" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").write_text("here\n")
    (place / "file").write_text("file of here\n")
    (place / "script").write_text("#!/bin/sh\n")
    (place / "script").chmod(0o755)
    (place / "link").symlink_to("dir")
    (place / "wild").symlink_to("nowhere")
    (place / "a:b").write_text("odd\n")
    for file in (inner / "file", place / "file", place / "script", place / "a:b"):
        os.utime(file, (900_000_000, 900_000_000))


def tree(place: Path) -> list[tuple[str, int, str, int]]:
    """Every name below with its mode, what it holds, and of a file its time."""
    found = []
    for path in sorted(place.rglob("*")):
        holds = str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else "folder"
        time = int(path.stat().st_mtime) if path.is_file() and not path.is_symlink() else 0
        found.append((str(path.relative_to(place)), path.lstat().st_mode, holds, time))
    return found


@pytest.fixture(scope="module")
def clients(machine: Machine, current_client, tmp_path_factory):
    here = tmp_path_factory.mktemp("copies")
    numbers = range(max(len(IN), len(OUT)))
    places = [(who, number) for who in ("real", "ours") for number in numbers]
    machine.docker("run", "-d", "--name", BOX, "debian:trixie", "sleep", "3600")
    machine.docker("exec", BOX, "sh", "-c", MAKE, "make", *(f"/{who}/{number}" for who, number in places))
    for who, number in places:
        make_here(here / who / str(number))
    yield Clients(machine, current_client, here)
    machine.docker("rm", "-f", BOX)


def test_into_a_container(clients: Clients, machine: Machine):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(clients.here / "real" / "0" / "dir", "streamed")
    for number, words in enumerate(IN):
        real, ours = clients.both(number, words, archive.getvalue())
        assert (ours.status, ours.out, ours.err) == (real.status, real.out, real.err), f"{real}\n{ours}"
    listed = [machine.docker("exec", BOX, "sh", "-c", LIST, "list", f"/{who}") for who in ("real", "ours")]
    assert listed[1].splitlines() == listed[0].splitlines()
    assert "streamed/inner/file" in listed[1]


def test_out_of_a_container(clients: Clients):
    for who in ("real", "ours"):
        shutil.rmtree(clients.here / who)
        for number in range(len(OUT)):
            make_here(clients.here / who / str(number))
    for number, words in enumerate(OUT):
        real, ours = clients.both(number, words, b"")
        same_out = ours.out == real.out or words[-1] == "-"  # a tar stream holds times
        assert (ours.status, same_out, ours.err) == (real.status, True, real.err), f"{real}\n{ours}"
    assert tree(clients.here / "ours") == tree(clients.here / "real")
    made = (clients.here / "ours" / "1" / "new").stat()
    assert (made.st_uid, made.st_mtime) == (os.geteuid(), 1_000_000_000)


def test_nothing_lands_outside(clients: Clients, machine: Machine, tmp_path):
    """A container may hold links that lead anywhere; what is copied over them stays in the target."""
    machine.docker(
        "exec", BOX, "sh", "-c", f"mkdir -p /evil/a && ln -s {tmp_path}/outside /evil/a/out && echo x > /evil/f"
    )
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    assert machine.try_docker("cp", f"{BOX}:/evil/a", str(target)).status == 0
    assert (target / "out").is_symlink()
    machine.docker("exec", BOX, "sh", "-c", "rm /evil/a/out && mkdir /evil/a/out && echo x > /evil/a/out/f")
    done = machine.try_docker("cp", f"{BOX}:/evil/a/.", str(target))
    assert (done.status, "cannot overwrite non-directory" in done.err) == (1, True), str(done)
    assert not list(outside.iterdir())
