"""Links in shared folders and in their way: what a container lays there leads no one out, and covers nothing."""

from __future__ import annotations

import json

import pytest
from machines import Machine, hostvm, kill_agent

from hostvm.engines import AS_ENGINE
from hostvm.shares.events import HELPER, escaped, helper_prefix

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def machine(_sharing_made):
    """That of test_shares.py."""
    return _sharing_made


def test_acting_it_out_changes_nothing_of_the_guest_itself(machine: Machine, shared_folders):
    """A container has swapped a folder for a link since then; whoever had root's rights would follow it."""
    (shared_folders["nfs"] / "swapped").symlink_to("/run/victim")
    machine.shell("sh", "-c", "mkdir /run/victim && touch -d @1000 /run/victim/file")
    file, own = escaped(f"{shared_folders['nfs']}/swapped/file"), escaped("/run/victim/file")
    for prefix, left in ((helper_prefix(), "1000\n"), (helper_prefix(AS_ENGINE), "1000\n"), ((), "")):
        # By the link nobody takes it away; by its own name only who may.
        for told, seen in ((f"C {file}\nD {file}\n", "1000\n"), (f"C {own}\nD {own}\n", left)):
            machine.shell(*prefix, "/bin/sh", "-c", HELPER, stdin=told)
            found = machine.shell("sh", "-c", "[ ! -e /run/victim/file ] || stat -c %Y /run/victim/file")
            assert found.strip() == seen.strip(), (prefix, told)
    (shared_folders["nfs"] / "swapped").unlink()


@pytest.mark.parametrize("kind", ["nfs", "sftp"])
def test_a_link_in_the_place_of_a_shared_folder_leads_nowhere(machine: Machine, shared_folders, tmp_path, kind):
    """A container puts it there; the next agent would follow it."""
    outer = shared_folders["nfs"]
    inner = outer / f"inner-{kind}"
    inner.mkdir()
    (inner / "word").write_text("shared")
    (tmp_path / "word").write_text("not for the guest")
    machine.hostvm("mount", "add", "--kind", kind, f"{inner}:/inner")
    try:
        assert machine.shell("cat", "/inner/word") == "shared"
        swap = f"mv /w/{inner.name} /w/moved-{kind} && ln -s {tmp_path} /w/{inner.name}"
        machine.docker("run", "--rm", "-v", f"{outer}:/w", "busybox:latest", "sh", "-c", swap)
        assert inner.readlink() == tmp_path
        kill_agent(machine)
        machine.docker("ps")
        assert "not for the guest" not in str(hostvm("-m", machine.name, "shell", "--", "cat", "/inner/word"))
        row = next(row for row in json.loads(machine.hostvm("mount", "ls", "--json")) if row["target"] == "/inner")
        assert (row["state"], f"a link in {outer}" in row["why"]) == ("failed", True), row
    finally:
        inner.unlink()
        machine.hostvm("mount", "rm", "/inner")


def test_a_link_that_is_typed_is_shared_as_what_it_leads_to(machine: Machine, shared_folders, tmp_path):
    (tmp_path / "word").write_text("led to")
    link = shared_folders["nfs"] / "typed"
    link.symlink_to(tmp_path)
    for target in ("", ":/typed"):
        machine.hostvm("mount", "add", f"{link}{target}")
        try:
            assert machine.docker("run", "--rm", "-v", f"{link}:/w", "busybox:latest", "cat", "/w/word") == "led to"
        finally:
            machine.hostvm("mount", "rm", str(link))


def test_a_link_in_the_guest_is_not_covered(machine: Machine, shared_folders, tmp_path):
    """A container lays it where an inner share is to be mounted: it would lie over the guest's own folder."""
    place = shared_folders["nfs"] / "laid"
    machine.docker("run", "--rm", "-v", f"{place.parent}:/w", "busybox:latest", "ln", "-s", "/usr/lib", "/w/laid")
    said = hostvm("-m", machine.name, "mount", "add", f"{tmp_path}:{place}")
    assert (said.status, "a link leads from there to elsewhere in the guest" in said.err) == (1, True), str(said)
    assert str(place) not in machine.hostvm("mount", "ls")
    assert machine.shell("ls", "/usr/lib/hostvm")
    place.unlink()
