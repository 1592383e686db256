"""`hostvm image` as typed, on small images; nothing is built."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
import threading
from dataclasses import asdict

import pytest

from cli.commands import bundle as bundles
from cli.commands import image as commands
from cli.main import main
from hostvm.errors import UsageError
from hostvm.machines.saved import Saved
from hostvm.machines.snapshots import snapshot_folder
from hostvm.paths import MachinePaths, cache, image_keys
from hostvm.state import MachineState, Trial, save_state
from images.archive import DEFAULT_MIRROR
from images.artefact import bundle as artefact
from images.artefact.bundle import load_bundle
from images.artefact.file import import_image
from images.artefact.trust import KeyRing
from images.disk import work_lock
from images.errors import MirrorError, OutOfDateError
from images.progress import NullProgress
from images.prune import remove_unneeded
from images.store import describe_parts, images_folder, list_images, remove_image, store_image


@pytest.fixture
def make_image(tmp_path):
    """Stores an image that did not come just now; each date another one."""

    def make(date=1):
        folder = tmp_path / "new"
        folder.mkdir()
        for part in ("vmlinuz", "initramfs", "root.erofs"):
            (folder / part).write_bytes(part.encode())
        manifest = {
            "format": 1, "name": "docker", "arch": "amd64", "suite": "trixie", "date": date, "recipe": "x",
            "kernel_release": "6.12", "console": "ttyS0", "cmdline": "", "cmdline_tcg": "", "packages": [],
        }  # fmt: skip
        found = store_image(folder, manifest | {"files": describe_parts(folder)}, cache())
        shutil.rmtree(folder, ignore_errors=True)
        os.utime(found.path, (1, 1))
        return found

    return make


def machine(image):
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", f"sha256:{image.digest}", "now"))
    return paths


SAVED = asdict(Saved("now", "QEMU 7.2.22", [], [1, 2], {"size": 1, "sum": ""}, {}, ""))


def snapshot(paths, name, image, saved):
    folder = snapshot_folder(paths, name)
    folder.mkdir(parents=True)
    facts = {"name": name, "created": "now", "layers": {}, "image": f"sha256:{image.digest}", "saved": saved}
    (folder / "snapshot.json").write_text(json.dumps({**facts, "version": 1}))


def test_prune_leaves_what_a_snapshots_memory_needs(make_image):
    cold, warm, now = make_image(1), make_image(2), make_image(3)
    box = machine(now)
    snapshot(box, "warm", warm, SAVED)
    snapshot(box, "cold", cold, None)
    assert main(["image", "prune", "--all"]) == 0
    assert {image.digest for image in list_images(cache())} == {warm.digest, now.digest}


def test_a_machine_that_goes_while_prune_asks_what_is_needed_does_not_stop_it(make_image, monkeypatch):
    """Machines that go with their process, of a test run beside it, say."""
    make_image(1)
    used = make_image(2)
    machine(used)
    monkeypatch.setattr(commands, "machine_names", lambda: ["box", "tmp-0123456789ab"])
    assert main(["image", "prune", "--all"]) == 0
    assert [image.digest for image in list_images(cache())] == [used.digest]


def test_one_that_cannot_be_read_does(make_image, capsys):
    make_image(1)
    MachinePaths.of("box").folder.mkdir(parents=True)
    assert main(["image", "prune", "--all"]) == 1
    assert "nothing is removed: which image machine box needs cannot be told" in capsys.readouterr().err
    assert len(list_images(cache())) == 1


def test_nor_is_that_removed_by_name(make_image, capsys):
    cold, warm, now = make_image(1), make_image(2), make_image(3)
    box = machine(now)
    snapshot(box, "warm", warm, SAVED)
    snapshot(box, "cold", cold, None)
    assert main(["image", "rm", warm.digest]) == 1
    told = capsys.readouterr().err
    assert f"image {warm.digest[:12]} is in use\n" in told
    assert "goes on with it: box's warm\n" in told
    assert "remove the snapshot: hostvm snapshot rm -m box warm\n" in told
    assert main(["image", "rm", cold.digest]) == 0
    assert {image.digest for image in list_images(cache())} == {warm.digest, now.digest}
    warm.root.write_bytes(b"")
    assert main(["image", "rm", warm.digest]) == 0, "so that it can be had again"


def test_prune_asks_what_is_needed_when_nobody_works_there_any_more(make_image, monkeypatch):
    image, waits = make_image(), threading.Event()

    class Telling(NullProgress):
        def note(self, text):
            waits.set()

    monkeypatch.setattr(commands, "make_progress", lambda **_: Telling())
    with work_lock(cache() / "images", NullProgress()):
        pruning = threading.Thread(target=main, args=(["-q", "image", "prune", "--all"],))
        pruning.start()
        assert waits.wait(10)
        machine(image)
    pruning.join()
    assert [one.digest for one in list_images(cache())] == [image.digest]


@pytest.mark.parametrize("spoil", ["manifest.json", "root.erofs"])
def test_a_damaged_image_is_removed_as_its_message_says(spoil, make_image, capsys):
    image = make_image()
    machine(image)
    (image.path / spoil).write_bytes(b"")
    assert main(["image", "ls"]) == 0
    command = capsys.readouterr().err.partition("remove it with: hostvm ")[2].split()
    assert main(command) == 0
    assert not image.path.exists()
    assert "box need it or another one" in capsys.readouterr().err
    assert main(command) == 1


def test_a_beginning_of_a_sound_and_a_damaged_image_is_neither(make_image, capsys):
    sound = make_image()
    damaged = images_folder(cache()) / (sound.digest[:12] + "0" * 52)
    damaged.mkdir()
    assert main(["image", "rm", sound.digest[:12]]) == 1
    assert "beginning of several images" in capsys.readouterr().err
    assert sound.path.exists()
    assert damaged.exists()
    assert main(["image", "rm", "docker"]) == 0, "the name is that of the sound one"
    assert not sound.path.exists()
    assert main(["image", "rm", f"sha256:{damaged.name}"]) == 0
    assert not damaged.exists()


def never(*_, **__):
    pytest.fail("minutes of work, for nothing")


@pytest.fixture
def nothing_is_made(monkeypatch):
    monkeypatch.setattr(commands, "build_base", never)
    monkeypatch.setattr(bundles, "ensure_image", never)


OUTPUTS = (["image", "base", "debian"], ["bundle", "create"], ["image", "export", "docker"])


@pytest.mark.parametrize("words", OUTPUTS)
def test_a_folder_is_refused_before_anything_is_made(words, nothing_is_made, make_image, tmp_path, capsys):
    make_image()
    assert main([*words, "-o", str(tmp_path)]) == UsageError.exit_status
    assert f"{tmp_path} is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("words", OUTPUTS)
def test_so_is_a_terminal(words, nothing_is_made, make_image, monkeypatch, capsys):
    make_image()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main([*words, "-o", "-"]) == UsageError.exit_status
    assert "is not for a terminal" in capsys.readouterr().err


@pytest.fixture
def stale(monkeypatch, tmp_path):
    """A mirror that stands still; `stored` is what was made before."""

    def build(*_, **__):
        raise OutOfDateError("InRelease is out of date", "it was valid until then", "check the clock: date -u")

    stored = tmp_path / "image.tar"
    stored.write_bytes(b"made before")
    monkeypatch.setattr(commands, "build_base", build)
    monkeypatch.setattr(commands, "find_base", lambda *_, **__: stored if stored.exists() else None)
    return stored


def test_a_mirror_that_stands_still_names_what_is_stored_and_does_not_take_it(stale, capsysbinary):
    command = ["image", "base", "debian:forky", "-o", "-"]
    assert main(command) == 1
    told = capsysbinary.readouterr()
    assert told.out == b""
    assert b"is out of date" in told.err
    assert b"check the clock: date -u" in told.err
    assert b"Or take debian:forky as it was made before: the same command with --stored" in told.err
    assert main([*command, "--stored"]) == 0
    assert capsysbinary.readouterr().out == b"made before"


def test_a_mirror_that_stands_still_and_nothing_stored(stale, capsys):
    stale.unlink()
    command = ["image", "base", "debian:forky", "-o", "-"]
    assert main(command) == 1
    assert "--stored" not in capsys.readouterr().err
    assert main([*command, "--stored"]) == 1
    told = capsys.readouterr().err
    assert "no debian:forky is stored that was made by these words" in told
    assert "hostvm image base debian:forky" in told


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_a_base_image_on_standard_output(form, tmp_path, monkeypatch, capsysbinary):
    made = tmp_path / "image.tar"
    with tarfile.open(made, "w") as tar:
        for name in ("index.json", "manifest.json"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    monkeypatch.setattr(commands, "build_base", lambda *_, **__: made)
    monkeypatch.chdir(tmp_path)
    assert main(["image", "base", "debian", "-o", "-", "--format", form]) == 0
    told = capsysbinary.readouterr()
    assert told.err.endswith(b"debian is written to standard output\n")
    with tarfile.open(fileobj=io.BytesIO(told.out)) as tar:
        assert ("manifest.json" in tar.getnames()) is (form == "docker")
    assert not (tmp_path / "-").exists()


def test_a_bundle_on_standard_output(make_image, monkeypatch, capsysbinary, tmp_path):
    image = make_image()
    monkeypatch.setattr(bundles, "ensure_image", lambda *_: image)
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", "create", "--no-wheels", "-o", "-"]) == 0
    told = capsysbinary.readouterr()
    assert b"1 guest image are written to standard output" in told.err
    assert load_bundle(
        io.BytesIO(told.out), "it", tmp_path / "other", KeyRing(tmp_path), NullProgress(), allow_unsigned=True
    )
    assert [one.digest for one in list_images(tmp_path / "other")] == [image.digest]


class Impatient(NullProgress):
    def note(self, text):
        raise AssertionError(text)


def test_a_bundle_is_loaded_into_its_own_cache_while_it_is_written(make_image, monkeypatch, tmp_path):
    """As by `bundle create -o - | bundle load -`: neither waits for the other's lock."""
    image, write, loaded = make_image(), bundles.write_bundle, []

    def write_and_load(bundle, sources, target, progress, key):
        pipe = io.BytesIO()
        write(bundle, sources, pipe, progress, key)
        pipe.seek(0)
        loaded.append(load_bundle(pipe, "it", cache(), KeyRing(tmp_path), Impatient(), allow_unsigned=True))

    monkeypatch.setattr(bundles, "ensure_image", lambda *_: image)
    monkeypatch.setattr(bundles, "write_bundle", write_and_load)
    assert main(["-q", "bundle", "create", "--no-wheels", "-o", str(tmp_path / "out")]) == 0
    assert [one.bundle.units("images") for one in loaded] == [[image.digest]]


class WhileOthersWork(io.BytesIO):
    """What comes from a process that makes an image before its first byte."""

    def read(self, size=-1):
        if not self.tell():
            with work_lock(cache() / "images", Impatient()):
                pass
        return super().read(size)


def test_what_is_read_may_have_to_be_made_first(make_image, monkeypatch, tmp_path):
    image, ring, made = make_image(), KeyRing(tmp_path), tmp_path / "out"
    monkeypatch.setattr(bundles, "ensure_image", lambda *_: image)
    assert main(["-q", "bundle", "create", "--no-wheels", "-o", str(made)]) == 0
    load_bundle(WhileOthersWork(made.read_bytes()), "it", cache(), ring, NullProgress(), allow_unsigned=True)
    assert main(["-q", "image", "export", image.digest, "-o", str(made)]) == 0
    got = import_image(WhileOthersWork(made.read_bytes()), "it", cache(), ring, NullProgress(), allow_unsigned=True)
    assert got.image.digest == image.digest


def test_a_prune_waits_for_a_bundle(make_image, monkeypatch, tmp_path):
    image, write, target = make_image(), bundles.write_bundle, tmp_path / "site.hostvm"
    waits, done = threading.Event(), threading.Event()

    class Telling(NullProgress):
        def note(self, text):
            waits.set()

    def prune():
        remove_unneeded(cache(), set, Telling(), everything=True)
        done.set()

    def write_meanwhile(*words):
        threading.Thread(target=prune, daemon=True).start()
        assert waits.wait(10)
        write(*words)

    monkeypatch.setattr(bundles, "ensure_image", lambda *_: image)
    monkeypatch.setattr(bundles, "write_bundle", write_meanwhile)
    assert main(["-q", "bundle", "create", "--no-wheels", "-o", str(target)]) == 0
    assert done.wait(10)
    assert not image.path.exists()
    with target.open("rb") as file:
        load_bundle(file, "it", tmp_path / "other", KeyRing(tmp_path), NullProgress(), allow_unsigned=True)


@pytest.mark.parametrize(
    ("module", "step", "told"),
    [
        (bundles, "_wheels", "was removed meanwhile"),
        (artefact, "read_record", "was changed"),
        (bundles, "write_bundle", "was changed"),
    ],
)
def test_an_image_that_is_deleted_under_a_bundle(make_image, monkeypatch, tmp_path, capsys, module, step, told):
    image, usual, folder = make_image(), getattr(module, step), tmp_path / "out"
    folder.mkdir()

    def deleting(*words):
        remove_image(cache(), image.digest)
        return usual(*words)

    monkeypatch.setattr(bundles, "ensure_image", lambda *_: image)
    monkeypatch.setattr(module, step, deleting)
    assert main(["-q", "bundle", "create", "--no-wheels", "-o", str(folder / "site.hostvm")]) == 1
    said = capsys.readouterr().err
    assert told in said
    assert "hostvm bundle create" in said
    assert list(folder.iterdir()) == []


def test_a_bundle_takes_no_base_image_of_a_mirror_that_was_not_named(monkeypatch, make_image, tmp_path):
    asked = []

    def build(*request, **_):
        asked.append(request[4])
        raise MirrorError("no network")

    monkeypatch.setattr(bundles, "ensure_image", lambda *_: make_image())
    monkeypatch.setattr(bundles, "find_base", lambda *request: asked.append(request[4]))
    monkeypatch.setattr(bundles, "build_base", build)
    assert main(["bundle", "create", "--no-wheels", "--base", "debian", "-o", str(tmp_path / "out")]) == 1
    assert asked == [DEFAULT_MIRROR] * 2


@pytest.mark.parametrize("rest", ["team.key", "team.pub"])
def test_a_key_of_which_a_killed_command_left_half_is_removed_as_the_message_says(rest, capsys):
    assert main(["-q", "image", "key", "new", "team"]) == 0
    for path in image_keys().iterdir():
        path.write_bytes(b"") if path.name == rest else path.unlink()
    assert main(["-q", "image", "key", "new", "team"]) == 1
    assert "hostvm image key rm team" in capsys.readouterr().err
    assert main(["-q", "image", "key", "rm", "--force", "team"]) == 0
    assert main(["-q", "image", "key", "new", "team"]) == 0


def test_what_a_machine_would_go_back_to_after_a_trial_is_needed():
    paths = MachinePaths.of("ci")
    paths.folder.mkdir(parents=True)
    tried, before, older, other = ("sha256:" + letter * 64 for letter in "abcd")
    trial = Trial([1, 2.0, ""], before, older, wanted_off=False)
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", tried, "now", former_image=before, trial=trial))
    assert commands._needed() == {digest[7:] for digest in (tried, before, older)}
    assert [commands._users(digest[7:]) for digest in (tried, before, other)] == [["ci"], ["ci"], []]
