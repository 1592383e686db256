"""`disks:`: what may be written, and what is refused before anything is touched. Real ones: tests/e2e."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hostvm import more_disks
from hostvm.errors import MachineError, SpecError
from hostvm.machines import boot
from hostvm.more_disks import Disk, check_disks, check_places, disk_file, disk_table, prepare_disks
from hostvm.shares.model import Mount
from hostvm.sizes import GIB
from hostvm.spec import parse_text, render_spec


def header(size: int) -> bytes:
    return b"QFI\xfb" + bytes(20) + size.to_bytes(8, "big")


def test_what_is_wrong_is_told_with_its_path():
    text = """
disks:
- {name: Data, size: 1GiB}
- {name: data, size: 1GiB}
- {name: abcdefghijklmnopqrstu, size: 10}
- {name: a, size: 1MiB, mount: usr}
- {name: b, size: 1GiB, mount: /usr/lib}
- {size: 1GiB, mount: /a b}
"""
    with pytest.raises(SpecError) as caught:
        parse_text(text, "machine.yaml")
    for part in (
        "line 3: disks[0].name: Data must be",
        "line 4: disks[1].name: data must be",
        "line 5: disks[2].name: abcdefghijklmnopqrstu must be",
        "line 5: disks[2].size: 10 needs a unit",
        "line 6: disks[3].size: 1MiB is too little for a file system",
        "line 6: disks[3].mount: usr must be an absolute path",
        "line 7: disks[4].mount: /usr/lib would cover /usr/lib",
        "line 8: disks[5].name: is missing",
        "line 8: disks[5].mount: /a b must be an absolute path without spaces",
    ):
        assert part in caught.value.details
    with pytest.raises(SpecError, match="has the name a, as another one"):
        parse_text("disks: [{name: a, size: 1GiB}, {name: a, size: 1GiB, mount: /x}]", "x")


def test_outer_mounts_come_first_and_what_is_written_is_read_back():
    spec = parse_text("disks: [{name: in, size: 1GiB, mount: /srv/a/b/}, {name: out, size: 2GiB, mount: /srv/a}]", "x")
    assert spec.disks == (Disk("out", 2 * GIB, "/srv/a"), Disk("in", GIB, "/srv/a/b"))
    assert parse_text(render_spec(spec), "again") == spec
    assert disk_table(spec.disks) == b"out /srv/a\nin /srv/a/b\n"


def test_a_disk_that_was_made_is_never_made_anew_nor_shrunk(tmp_path):
    disk = Disk("a", GIB, "/mnt/a")
    check_disks(tmp_path, [disk], [])
    with pytest.raises(MachineError, match="is gone"):
        check_disks(tmp_path, [disk], ["a"])
    disk_file(tmp_path, "a").write_bytes(header(2 * GIB))
    with pytest.raises(SpecError, match=r"disks\[0\].size: 1GiB is less than the 2GiB it has"):
        check_disks(tmp_path, [disk], ["a"])
    disk_file(tmp_path, "a").write_bytes(b"something else, and long enough to be a header")
    with pytest.raises(MachineError, match="not a qcow2"):
        check_disks(tmp_path, [disk], ["a"])


def test_what_is_missing_is_made_and_what_is_there_grows(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(more_disks, "create_disk", lambda path, size: done.append(("make", path.name, size)))
    monkeypatch.setattr(more_disks, "grow_disk", lambda path, size: done.append(("grow", path.name, size)))
    disk_file(tmp_path, "b").write_bytes(header(GIB))
    prepare_disks(tmp_path, [Disk("a", GIB, "/a"), Disk("b", 3 * GIB, "/b")])
    assert done == [("make", "disk-a.qcow2", GIB), ("grow", "disk-b.qcow2", 3 * GIB)]


@pytest.mark.parametrize(
    ("mount", "refused"),
    [("/mnt/a", True), ("/mnt/a/b", True), ("/mnt", False), ("/mnt/ab", False), ("/srv", False)],
)
def test_a_disk_that_a_share_would_hide_is_refused_with_both_places(mount, refused):
    shares, disks = (Mount("/here", "/mnt/a"),), [Disk("z", GIB, "/z"), Disk("a", GIB, mount)]
    if not refused:
        check_places(disks, shares)
        return
    with pytest.raises(SpecError) as caught:
        check_places(disks, shares)
    told = f"disks[1].mount: {mount} would be hidden by the shared folder /here, which the guest has at /mnt/a"
    assert caught.value.details == told


def test_a_start_looks_at_the_places(tmp_path, monkeypatch):
    spec = parse_text("{mounts: ['/here:/mnt/a'], disks: [{name: a, size: 1GiB}]}", "x")
    paths, engine = SimpleNamespace(folder=tmp_path), SimpleNamespace(seed=lambda *_: {})
    with pytest.raises(SpecError, match="could not be seen"):
        boot._prepare_disks(paths, spec, SimpleNamespace(disks=[]))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("hostvm.net.plan.plan_network", lambda *_: None)
    with pytest.raises(SpecError, match="could not be seen"):
        boot.check_startable(paths, spec, engine)
