"""What `--image` and `image:` mean."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from hostvm import guest_images
from hostvm.errors import DriverError, ImageError, UsageError
from hostvm.paths import cache
from images.artefact.incoming import Received
from images.artefact.trust import Verdict
from images.errors import OutOfDateError, RecipeError, RegistryError, SignatureError
from images.progress import NullProgress
from images.records import add_record
from images.store import describe_parts, store_image

NONE = NullProgress()


@pytest.fixture
def make_image(tmp_path):
    def make(**facts):
        folder = tmp_path / "new"
        folder.mkdir()
        for part in ("vmlinuz", "initramfs", "root.erofs"):
            (folder / part).write_bytes(part.encode())
        manifest = {"format": 1, "name": "mine", "arch": "amd64", "suite": "trixie", "date": 1, "recipe": "x", **facts}
        found = store_image(folder, manifest | {"files": describe_parts(folder)}, cache())
        shutil.rmtree(folder, ignore_errors=True)
        return found

    return make


@pytest.fixture
def image(make_image):
    return make_image()


@pytest.fixture
def pulls(monkeypatch, image):
    """References that were pulled; `answer` is raised or given."""
    asked: list[str] = []

    def pull(reference, *_, **options):
        assert not options.get("allow_unsigned")
        asked.append(str(reference))
        if isinstance(pull.answer, Exception):
            raise pull.answer
        return pull.answer

    pull.answer = Received(image, Verdict("team"), fresh=True)
    monkeypatch.setattr("images.registry.transfer.pull_image", pull)
    return pull, asked


def test_digests_and_names_of_stored_images(image):
    assert guest_images.ensure_image(image.digest[:12], NONE) == image
    assert guest_images.ensure_image(f"sha256:{image.digest}", NONE) == image
    assert guest_images.ensure_image("mine", NONE) == image
    with pytest.raises(RecipeError, match="no recipe 'other'"):
        guest_images.ensure_image("other", NONE)
    with pytest.raises(ImageError, match="no image"):
        guest_images.ensure_image(hashlib.sha256(b"none").hexdigest(), NONE)


@pytest.fixture
def both(make_image, image, monkeypatch):
    """Two images of one name, the newer one for arm64, on a computer that is amd64."""
    monkeypatch.setattr(guest_images, "host_arch", lambda: "amd64")
    return {"amd64": image, "arm64": make_image(arch="arm64", date=2)}


@pytest.mark.parametrize(("wanted", "arch"), [("auto", "amd64"), ("amd64", "amd64"), ("arm64", "arm64")])
def test_a_name_means_the_image_of_the_architecture_that_is_wanted(both, wanted, arch):
    assert guest_images.ensure_image("mine", NONE, wanted) == both[arch]
    assert guest_images.newest_image("mine", NONE, wanted) == both[arch]
    assert guest_images.newest_stored("mine", wanted) == both[arch]


def test_a_digest_is_of_the_architecture_that_it_is_of(both):
    digest = both["arm64"].digest
    assert guest_images.ensure_image(digest, NONE) == both["arm64"]
    assert guest_images.newest_stored(digest, "amd64") is None
    with pytest.raises(ImageError, match="is of arm64, not of amd64"):
        guest_images.ensure_image(digest, NONE, "amd64")


def test_a_digest_is_that_of_no_image_that_is_called_so(image, make_image):
    for word in (image.digest, f"sha256:{image.digest}", image.digest[:12]):
        make_image(name=word)
        assert guest_images.ensure_image(word, NONE) == image
        assert guest_images.newest_image(word, NONE) == image
        assert guest_images.newest_stored(word) == image


def test_a_recipe_is_built_for_the_architecture_that_is_wanted(monkeypatch, image):
    monkeypatch.setattr(guest_images, "host_arch", lambda: "amd64")
    built = []

    def build(_recipe, arch, *_, **__):
        built.append(arch)
        return image

    monkeypatch.setattr("images.build.build_image", build)
    monkeypatch.setattr(guest_images, "find_qemu", lambda _arch: None)
    notes = []
    progress = NullProgress()
    monkeypatch.setattr(progress, "note", notes.append)
    guest_images.ensure_image("docker", progress, "arm64")
    guest_images.ensure_image("docker", progress)
    guest_images.newest_image("docker", progress, "arm64")
    assert built == ["arm64", "amd64", "arm64"]
    assert ["for arm64" in note for note in notes] == [True, False]


def test_a_foreign_image_is_not_built_without_its_qemu(monkeypatch):
    monkeypatch.setattr(guest_images, "host_arch", lambda: "amd64")
    monkeypatch.setattr("hostvm.qemu_binary._find_program", lambda _name: None)
    with pytest.raises(DriverError, match="QEMU for arm64 guests was not found"):
        guest_images.ensure_image("docker", NONE, "arm64")


def test_a_mirror_that_stands_still_names_what_is_stored_and_does_not_take_it(monkeypatch, make_image):
    def build(*_, **__):
        raise OutOfDateError("InRelease is out of date", "it was valid until then", "check the clock: date -u")

    monkeypatch.setattr(guest_images, "host_arch", lambda: "amd64")
    monkeypatch.setattr("images.build.build_image", build)
    with pytest.raises(OutOfDateError) as error:
        guest_images.newest_image("docker", NONE)
    assert error.value.resolution == "check the clock: date -u"
    stored = make_image(name="docker")
    with pytest.raises(OutOfDateError) as error:
        guest_images.newest_image("docker", NONE)
    instead = f"Or take the newest image that is stored: `hostvm upgrade NAME --image {stored.digest[:12]}`"
    assert error.value.resolution == f"check the clock: date -u\n{instead}"


def test_a_reference_that_came_before_needs_no_network(image, pulls):
    add_record(cache(), image.digest, references=("r.test/a:latest",))
    assert guest_images.ensure_image("r.test/a", NONE) == image
    assert pulls[1] == []


def test_of_a_reference_that_is_a_list_another_architecture_is_pulled(both, monkeypatch):
    """It was refused once the one of this computer had come."""
    asked = []

    def pull(_reference, *_, arch, own):
        asked.append((arch, own))
        return Received(both[arch], Verdict("team"), fresh=True)

    monkeypatch.setattr("images.registry.transfer.pull_image", pull)
    add_record(cache(), both["amd64"].digest, references=("r.test/a:latest",))
    assert guest_images.ensure_image("r.test/a", NONE, "arm64") == both["arm64"]
    assert guest_images.ensure_image("r.test/a", NONE) == both["amd64"]
    assert guest_images.newest_image("r.test/a", NONE, "amd64") == both["amd64"]
    assert asked == [("arm64", "amd64"), ("amd64", "amd64")]


def test_without_a_network_what_is_stored_is_told_to_be_of_another_architecture(image, pulls):
    """The network's error alone looked as if the image that is there needed one."""
    add_record(cache(), image.digest, references=("r.test/a:latest",))
    pulls[0].answer = RegistryError("r.test does not answer", "no route to host", "check the network")
    with pytest.raises(RegistryError) as error:
        guest_images.ensure_image("r.test/a", NONE, "arm64")
    assert error.value.brief == "r.test/a:latest is stored for amd64, and could not be pulled for arm64"
    assert error.value.details == "r.test does not answer\nno route to host"
    assert error.value.resolution == "check the network\nor take the one that is stored: --arch amd64"
    with pytest.raises(RegistryError) as error:
        guest_images.ensure_image("r.test/b", NONE, "arm64")
    assert error.value == pulls[0].answer


def test_another_reference_is_pulled(image, pulls):
    assert guest_images.ensure_image("r.test/b:1", NONE) == image
    assert pulls[1] == ["r.test/b:1"]


def test_nobody_vouches_for_it(pulls):
    pulls[0].answer = SignatureError("the image is not signed", None, "add `--allow-unsigned`")
    with pytest.raises(SignatureError, match="not signed") as error:
        guest_images.ensure_image("r.test/b:1", NONE)
    assert "`hostvm image pull --allow-unsigned r.test/b:1`" in error.value.resolution


def test_what_is_no_reference(pulls):
    with pytest.raises(UsageError, match="is not an image in a registry"):
        guest_images.ensure_image("team/docker", NONE)


def test_what_a_machine_is_about_to_get_is_young(image):
    for find in (guest_images.ensure_image, guest_images.newest_image):
        os.utime(image.path, (1, 1))
        find("mine", NONE)
        assert image.path.stat().st_mtime > 1
