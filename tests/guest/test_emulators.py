"""Emulators on the data disk, registered by a folder that stands for the kernel's binfmt_misc."""

from __future__ import annotations

import gzip
import hashlib

import pytest

TEXT = b"an emulator"
SUM = hashlib.sha256(TEXT).hexdigest()
PATTERN = r"0:\x7fELF:\xff\xff"
PLACES = {
    "/var/lib/hostvm/emulators": "$root/kept",
    "/proc/sys/fs/binfmt_misc": "$root/formats",
    ". /usr/lib/hostvm/lib.sh": "seed=$root/seed",
}


@pytest.fixture
def emulators(run_script, tmp_path):
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats/register").touch()

    def run(*words, prelude=""):
        quoted = " ".join(f"'{word}'" for word in words)
        return run_script("guest/usr/lib/hostvm/emulators", f"{prelude}\nset -- {quoted}", {}, PLACES)

    return run


def add(emulators, tmp_path):
    (tmp_path / "packed").write_bytes(gzip.compress(TEXT))
    told = """
sync() { echo "sync $(cat "$1")"; }
mv() { echo "mv ${2##*/}"; command mv "$@"; }
exec < $root/packed
"""
    return emulators("--add", "arm64", SUM, PATTERN, prelude=told)


def test_one_is_on_the_disk_before_it_has_its_name(emulators, tmp_path):
    assert add(emulators, tmp_path) == ["sync an emulator", f"mv {SUM}", "mv table"]
    assert (tmp_path / "kept" / SUM).read_bytes() == TEXT
    assert (tmp_path / "formats/register").read_text() == f":qemu-arm64:M:{PATTERN}:{tmp_path}/kept/{SUM}:OCPF"


def test_what_is_kept_is_registered_and_what_is_not_is_asked_for(emulators, tmp_path):
    add(emulators, tmp_path)
    (tmp_path / "formats/register").write_text("")
    assert emulators("arm", "arm64") == ["arm"]
    assert (tmp_path / "formats/register").read_text().startswith(":qemu-arm64:")


def test_one_that_a_power_cut_left_empty_is_asked_for(emulators, tmp_path):
    add(emulators, tmp_path)
    (tmp_path / "formats/register").write_text("")
    (tmp_path / "kept" / SUM).write_bytes(b"")
    assert emulators("arm64") == ["arm64"]
    assert (tmp_path / "formats/register").read_text() == ""
    add(emulators, tmp_path)
    assert (tmp_path / "kept" / SUM).read_bytes() == TEXT
