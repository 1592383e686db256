"""What of its engine a machine has as its own."""

from __future__ import annotations

import pytest

PRELUDE = """\
mount_disk() { :; }
mount() { :; }
chmod() { :; }
ln() { :; }
"""
PLACES = {
    ". /usr/lib/hostvm/lib.sh": "seed=$root/seed",
    ". /usr/lib/hostvm/disk.sh": "",
    "/var": "$root/var",
}


@pytest.mark.parametrize("place", ["", "165536.165536/"], ids=["as usual", "userns-remap"])
def test_the_engine_of_a_clone_makes_an_id_of_its_own(run_script, tmp_path, place):
    (tmp_path / "seed").mkdir()
    kept = tmp_path / f"var/lib/docker/{place}engine-id"
    kept.parent.mkdir(parents=True)
    for machine, is_kept in (("first", False), ("first", True), ("clone", False), ("clone", True)):
        (tmp_path / "seed/machine_id").write_text(f"{machine}\n")
        kept.write_text("an id")
        (tmp_path / "var/lib/hostvm").mkdir(exist_ok=True)
        assert run_script("guest/usr/lib/hostvm/data-disk", PRELUDE, {}, PLACES) == []
        assert kept.exists() == is_kept
