"""What `--image` and `image:` mean."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from hostvm import guest_images
from hostvm.errors import ImageError, UsageError
from hostvm.paths import cache
from images.artefact.incoming import Received
from images.artefact.trust import Verdict
from images.errors import RecipeError, SignatureError
from images.progress import NullProgress
from images.records import add_record
from images.store import describe_parts, store_image

NONE = NullProgress()


@pytest.fixture
def image(tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    for part in ("vmlinuz", "initramfs", "root.erofs"):
        (folder / part).write_bytes(part.encode())
    manifest = {"format": 1, "name": "mine", "arch": "amd64", "suite": "trixie", "date": 1, "recipe": "x"}
    found = store_image(folder, manifest | {"files": describe_parts(folder)}, cache())
    shutil.rmtree(folder, ignore_errors=True)
    return found


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


def test_a_reference_that_came_before_needs_no_network(image, pulls):
    add_record(cache(), image.digest, references=("r.test/a:latest",))
    assert guest_images.ensure_image("r.test/a", NONE) == image
    assert pulls[1] == []


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
