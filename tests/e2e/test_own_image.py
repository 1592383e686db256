"""A guest image of one's own, as typed: built, compared, sent as a file and by a registry, and booted elsewhere."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from machines import hostvm, running_machine, succeed

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))

from registries import Registry  # of the tests of registries

pytestmark = pytest.mark.vm

RECIPE = """\
name: mine
base: docker
packages: [tree]
overlay: files
links: {usr/local/bin/greet: hello}
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The digest of an image with one more package and a program, and the name of the key that signs it."""
    folder = tmp_path_factory.mktemp("recipe")
    program = folder / "files" / "usr" / "local" / "bin" / "hello"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho hello from the overlay\n")
    (folder / "mine.yaml").write_text(RECIPE)
    succeed(hostvm("image", "build"))  # what it is compared with, of the same archive
    built = json.loads(succeed(hostvm("image", "build", "--recipe", str(folder / "mine.yaml"), "--json")))
    assert built["name"] == "mine"
    key = f"team-{os.getpid()}"
    succeed(hostvm("image", "key", "new", key))
    yield built["digest"], key
    succeed(hostvm("image", "rm", built["digest"]))
    succeed(hostvm("image", "key", "rm", key))


def test_what_it_has_more_than_the_shipped_one_is_told(own):
    told = json.loads(succeed(hostvm("image", "diff", "docker", own[0], "--json")))
    assert (told["after"], [one["name"] for one in told["added"]]) == (own[0], ["tree"])
    assert (told["removed"], told["changed"]) == ([], [])
    assert "tree" in succeed(hostvm("image", "diff", "docker", "mine"))


def test_the_archive_has_nothing_newer_than_what_was_built_now(own):
    assert json.loads(succeed(hostvm("image", "outdated", own[0], "--json"))) == {"digest": own[0], "outdated": []}


def test_it_goes_as_a_file(own, tmp_path):
    file, there = tmp_path / "mine.hostvm", {"HOSTVM_CACHE": str(tmp_path / "cache")}
    succeed(hostvm("image", "export", own[0], "-o", str(file), "--sign", own[1]))
    taken = json.loads(succeed(hostvm("image", "import", "--json", str(file), env=there)))
    assert (taken["digest"], taken["fresh"], taken["signed_by"].split()[0]) == (own[0], True, own[1])
    assert [one["digest"] for one in json.loads(succeed(hostvm("image", "ls", "--json", env=there)))] == [own[0]]


@pytest.fixture(scope="module")
def booted(own, names_port):
    """A small machine of it."""
    words = ("--image", "mine", "--template", "low-memory", "--mount", "none", "--names", names_port)
    with running_machine(f"own-{os.getpid()}", *words) as made:
        yield made


def is_mine(machine, digest):
    assert json.loads(machine.hostvm("inspect", machine.name))["made"]["image"] == digest
    assert machine.shell("greet") == "hello from the overlay"
    assert machine.shell("tree", "--version").startswith("tree v")
    assert machine.sdk.info()["Driver"] == "overlay2"


def test_a_small_machine_boots_it_by_its_name(own, booted):
    is_mine(booted, own[0])
    facts = dict(line.split(":") for line in booted.shell("cat", "/proc/meminfo").splitlines())
    assert 600 * 1024 < int(facts["MemTotal"].split()[0]) < 768 * 1024, "kB, as the template says"


def test_what_is_read_of_the_image_is_in_memory_once(booted):
    program = "/usr/libexec/docker/cli-plugins/docker-compose"
    look = f"""sed -n 's/^Cached: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; stat -c %s {program}"""
    words = f"echo 3 > /proc/sys/vm/drop_caches; {look}; cat {program} > /dev/null; {look}"
    before, size, after, _ = map(int, booted.shell("sh", "-c", words).split())
    assert size > 20 << 20
    assert 0.9 * size < (after - before) * 1024 < 1.15 * size


@pytest.fixture
def registry(tmp_path):
    """Of this computer: one in an emulated guest takes a minute for this image."""
    with Registry(tmp_path / "registry") as found:
        yield found.host


def test_a_machine_boots_what_a_registry_has_by_its_digest(own, registry, tmp_path, names_port, monkeypatch):
    words = ("image", "push", own[0], f"{registry}/team/mine:1", "--sign", own[1], "--json")
    told = json.loads(succeed(hostvm(*words)))
    assert told["reference"].startswith(f"{registry}/team/mine@sha256:")
    monkeypatch.setenv("HOSTVM_CACHE", str(tmp_path / "cache"))  # another computer's: nothing is there
    words = ("--image", told["reference"], "--memory", "1GiB", "--mount", "none", "--names", names_port)
    with running_machine(f"own-{os.getpid()}-b", *words) as made:
        is_mine(made, own[0])
