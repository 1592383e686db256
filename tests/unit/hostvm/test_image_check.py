"""A guest image is read once per boot of this computer, and a damaged one is not booted."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hostvm.drivers.base import DomainState
from hostvm.errors import DriverError, ImageError, MachineError
from hostvm.machines import boot, image_check, wake
from hostvm.machines.image_check import CACHE_FILE, begin_check, machine_image
from hostvm.paths import MachinePaths, cache
from hostvm.spec import default_spec, render_spec
from hostvm.state import MachineState, save_state
from images.progress import NullProgress
from images.store import describe_parts, store_image, verify_image

SPEC = replace(default_spec(), mounts=(), image="docker")


@pytest.fixture
def image(tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    for part in ("vmlinuz", "initramfs", "root.erofs"):
        (folder / part).write_bytes(part.encode())
    facts = {"format": 1, "name": "docker", "arch": "amd64", "suite": "trixie", "date": 1, "recipe": "x"}
    return store_image(folder, facts | {"files": describe_parts(folder)}, cache())


@pytest.fixture
def read(monkeypatch):
    """Digests of the images that were read."""
    told: list[str] = []

    def verify(image):
        told.append(image.digest)
        verify_image(image)

    monkeypatch.setattr(image_check, "verify_image", verify)
    return told


def check(image, name="box", spec=SPEC):
    begin_check(MachinePaths.of(name), spec, image)()


def damage(image):
    """One bit, as a disk loses it: the file looks as before."""
    before = image.root.stat()
    image.root.write_bytes(b"Root.erofs")
    os.utime(image.root, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_sound_image_is_read_once_whichever_machine_boots_it(image, read):
    check(image)
    check(image, "crate")
    assert read == [image.digest]
    assert [path.name for path in cache().iterdir() if path.name != "images"] == [CACHE_FILE]


def test_it_is_read_again_in_another_boot_of_this_computer(image, read, monkeypatch):
    check(image)
    damage(image)
    check(image)
    monkeypatch.setattr(image_check, "host_boot", lambda: "next")
    with pytest.raises(ImageError):
        check(image)
    assert len(read) == 2


@pytest.mark.parametrize("how", ["time", "size", "another"])
def test_it_is_read_again_when_a_file_looks_changed(image, read, how):
    check(image)
    found = image.kernel.stat()
    if how == "time":
        os.utime(image.kernel, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    elif how == "size":
        image.kernel.write_bytes(b"vmlinuz and more")
    else:
        shutil.copy2(image.kernel, image.path / "copy")
        (image.path / "copy").replace(image.kernel)
    if how == "size":
        with pytest.raises(ImageError):
            check(image)
    else:
        check(image)
    assert len(read) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"DIGEST": 1}', '{"DIGEST": [null]}', "\xff"])
def test_a_damaged_memory_costs_one_look(image, read, text):
    (cache() / CACHE_FILE).write_text(text.replace("DIGEST", image.digest), encoding="latin-1")
    check(image)
    check(image)
    assert len(read) == 1


def test_one_that_cannot_be_written_costs_a_look_each_time(image, read):
    (cache() / CACHE_FILE).mkdir()
    check(image)
    check(image)
    assert len(read) == 2


def test_the_oldest_entries_go(image, monkeypatch):
    monkeypatch.setattr(image_check, "_KEPT", 2)
    (cache() / CACHE_FILE).write_text(json.dumps({"a": 1, "b": 2}))
    check(image)
    assert list(json.loads((cache() / CACHE_FILE).read_text())) == ["b", image.digest]


@pytest.mark.parametrize(
    ("word", "way"),
    [
        ("docker", "hostvm image rm {0} && hostvm upgrade box   # builds the image docker again"),
        ("r.io/os:1", "hostvm image rm {0} && hostvm upgrade box   # pulls r.io/os:1 again"),
        ("sha256:abcdef", "hostvm image rm {0}   # then bring it again: hostvm image import FILE, "),
    ],
)
def test_a_damaged_one_is_refused_each_time_with_what_mends_it(image, word, way):
    damage(image)
    for _ in range(2):
        with pytest.raises(ImageError) as caught:
            check(image, spec=replace(SPEC, image=word))
    assert caught.value.brief == f"image {image.digest[:12]} is damaged"
    assert "root.erofs was changed" in caught.value.details
    assert caught.value.resolution.startswith(way.format(image.digest[:12]))


def test_a_file_that_cannot_be_read_is_damage(image, monkeypatch):
    def refuse(_):
        raise OSError(5, "Input/output error", "root.erofs")

    monkeypatch.setattr("images.store.sha256_file", refuse)
    with pytest.raises(ImageError, match="is damaged") as caught:
        check(image)
    assert "Input/output error" in caught.value.details


def test_what_machines_begin_from_has_no_name_to_upgrade(image):
    damage(image)
    paths = MachinePaths("warm-1", MachinePaths.of("box").folder.parent / ".warm-1", MachinePaths.of("box").run_dir)
    with pytest.raises(ImageError) as caught:
        begin_check(paths, SPEC, image)()
    assert "upgrade" not in caught.value.resolution


@pytest.mark.parametrize("domain", [None, DriverError("accelerator kvm does not work here")])
def test_a_machine_is_not_powered_on_with_a_damaged_image(image, monkeypatch, domain):
    def make_domain(*_, **__):
        if domain:
            raise domain

    damage(image)
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(SPEC))
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", f"sha256:{image.digest}", "now"))
    driver = SimpleNamespace(
        state=lambda: DomainState.OFF,
        kill=lambda: None,
        has_crashed=lambda: False,
        features=SimpleNamespace(remote=False, saves_state=False),
        start=lambda _: pytest.fail("it was powered on"),
    )
    monkeypatch.setattr(boot, "machine_driver", lambda *_: driver)
    for name in ("grow_disk", "end_agent"):
        monkeypatch.setattr(boot, name, lambda *_, **__: None)
    monkeypatch.setattr(boot, "make_domain", make_domain)
    monkeypatch.setattr(boot, "spawn_agent", lambda *_: pytest.fail("an agent was started"))
    engine = SimpleNamespace(socket="", seed=lambda *_: {})
    with pytest.raises(ImageError, match="is damaged"):
        boot.start_machine(paths, NullProgress(), engine)


@pytest.mark.parametrize(
    ("word", "way"),
    [
        ("docker", "hostvm upgrade box   # builds the image docker\n"),
        ("r.io/os:1", "hostvm upgrade box   # pulls r.io/os:1\n"),
        ("sha256:abcdef", "take another one: hostvm upgrade box --image docker\n"),
    ],
)
def test_one_that_is_not_on_this_computer_is_not_called_damaged(word, way):
    """As in a HOSTVM_HOME that was copied to another one."""
    with pytest.raises(ImageError) as caught:
        machine_image(MachinePaths.of("box"), replace(SPEC, image=word), f"sha256:{'1' * 64}")
    assert caught.value.brief == "image 111111111111 of machine box is not on this computer"
    assert caught.value.resolution.startswith(way)
    assert "hostvm image export -o 111111111111.img 111111111111" in caught.value.resolution


def test_one_whose_manifest_is_damaged_is_told_with_what_mends_it(image):
    (image.path / "manifest.json").write_text("{}")
    with pytest.raises(ImageError, match="is damaged") as caught:
        machine_image(MachinePaths.of("box"), SPEC, f"sha256:{image.digest}")
    assert "manifest.json was changed" in caught.value.details
    assert caught.value.resolution.startswith(f"hostvm image rm {image.digest[:12]} && hostvm upgrade box")


@pytest.fixture
def suspended():
    """A machine that is, without its image: its places, and a driver for which it is off."""
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(SPEC))
    paths.suspended.write_text("{}")
    paths.suspended_ram.write_bytes(b"ram")
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", f"sha256:{'1' * 64}", "now"))
    return paths, SimpleNamespace(state=lambda: DomainState.OFF, kill=lambda: None)


def test_a_saved_memory_outlasts_a_start_without_it_that_cannot_be(suspended, monkeypatch):
    paths, driver = suspended
    monkeypatch.setattr(boot, "machine_driver", lambda *_: driver)
    engine = SimpleNamespace(socket="", seed=lambda *_: {})
    with pytest.raises(ImageError, match="is not on this computer"):
        boot.start_machine(paths, NullProgress(), engine, discard_state=True)
    assert (paths.suspended.read_text(), paths.suspended_ram.read_bytes()) == ("{}", b"ram")


def test_a_suspended_machine_without_its_image_has_two_ways(suspended, monkeypatch):
    """Neither an upgrade nor --discard-state alone would do."""
    paths, driver = suspended
    monkeypatch.setattr(wake, "load_saved", lambda _: None)
    with pytest.raises(MachineError) as caught:
        wake.wake_machine(paths, driver, NullProgress())
    assert caught.value.brief == "machine box cannot be resumed"
    assert "its image 111111111111 is not in" in caught.value.details
    assert "hostvm image import --allow-unsigned 111111111111.img" in caught.value.resolution
    assert "hostvm stop --force box && hostvm upgrade box" in caught.value.resolution
    assert paths.suspended.exists()
