"""What Podman's service puts in order before Podman begins, at each of its starts."""

from __future__ import annotations

import pytest

PLACES = {place: f"$root{place}" for place in ("/run/", "/etc/", "/var/")}


@pytest.fixture
def begin(run_script, tmp_path):
    (tmp_path / "var/lib/hostvm").mkdir(parents=True)
    (tmp_path / "seed/engine").mkdir(parents=True)

    def run():
        return run_script("podman/usr/lib/hostvm/podman.sh", "seed=$root/seed", {}, PLACES, "podman_files; echo done")

    return run


def test_logins_lie_on_the_machines_disk_for_root_alone(begin, tmp_path):
    assert begin() == ["done"]
    place, kept = tmp_path / "run/containers/0", tmp_path / "var/lib/hostvm/logins"
    (place / "auth.json").write_text("{}")
    assert (kept / "auth.json").read_text() == "{}"
    assert kept.stat().st_mode & 0o777 == 0o700
    place.unlink()  # as a boot does
    for _ in range(2):
        assert begin() == ["done"]
        assert (place / "auth.json").read_text() == "{}"
        assert [path.name for path in kept.iterdir()] == ["auth.json"]


def test_machine_yamls_settings_count_over_the_images(begin, tmp_path):
    image = tmp_path / "etc/containers/registries.conf"
    image.parent.mkdir(parents=True)
    image.write_text("image's")
    begin()
    assert image.read_text() == "image's"
    for name in ("registries.conf", "containers.conf", "logins.conf"):
        (tmp_path / "seed/engine" / name).write_text(f"own {name}")
    begin()
    assert image.read_text() == "own registries.conf"
    assert (tmp_path / "etc/containers/containers.conf.d/90-machine.conf").read_text() == "own containers.conf"
    assert (tmp_path / "etc/containers/registries.conf.d/90-logins.conf").read_text() == "own logins.conf"
