"""Push and pull against a real registry: what arrives, what is refused, what goes on after an interruption."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests
from registries import Registry

from images.artefact.layout import INDEX_TYPE
from images.errors import ImageError, RegistryError, SignatureError, UsageError
from images.oci import MANIFEST_TYPE
from images.progress import NullProgress
from images.registry import upload
from images.registry.reference import parse_reference
from images.registry.transfer import pull_image, push_image
from images.store import inspect_image, list_images, verify_image

NONE = NullProgress()
HOSTVM = Path(sys.executable).with_name("hostvm")


def blobs(registry, digest: str) -> Path:
    return registry.folder / "data/docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"


def test_what_is_pushed_is_pulled(registry, make_image, cache, tmp_path, ring, access):
    image, target = make_image(cache), parse_reference(f"{registry.host}/team/docker:1")
    pushed = push_image(image, target, access, cache, NONE, ring.secret("team"))
    assert pushed.sent > image.size
    other = tmp_path / "other"
    got = pull_image(target, access, other, ring, NONE)
    assert (got.image.digest, got.fresh, got.verdict.signer.split()[0]) == (image.digest, True, "team")
    verify_image(got.image)
    assert inspect_image(other, str(target)) == inspect_image(other, str(pushed.reference)) == got.image
    assert sorted(path.name for path in (other / "images").iterdir()) == [".lock", "records", "sha256"]

    again = push_image(image, parse_reference(f"{registry.host}/team/docker:2"), access, cache, NONE, None)
    assert again.sent == 0
    before = len(registry.log)
    assert not pull_image(pushed.reference, access, other, ring, NONE).fresh
    assert not [line for line in registry.log[before:] if image.manifest["files"]["root.erofs"]["sha256"] in line]

    data = got.image.root.read_bytes()
    got.image.root.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert pull_image(target, access, other, ring, NONE).fresh
    verify_image(got.image)


def test_by_hand_without_hostvm(registry, make_image, cache, access):
    """Any OCI client sees a manifest of its own type whose config is the image's manifest."""
    image = make_image(cache)
    push_image(image, parse_reference(f"{registry.host}/plain:1"), access, cache, NONE, None)
    headers = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    manifest = requests.get(f"http://{registry.host}/v2/plain/manifests/1", headers=headers, timeout=10).json()
    assert manifest["artifactType"] == "application/vnd.hostvm.guest-image.v1"
    assert manifest["config"]["digest"] == f"sha256:{image.digest}"
    config = requests.get(f"http://{registry.host}/v2/plain/blobs/sha256:{image.digest}", timeout=10).content
    assert config == (image.path / "manifest.json").read_bytes()


def test_the_command(registry, make_image, tmp_path, no_docker_login):
    """As it is typed: exit status, facts, the machine's `--image`'s way of finding it, and what unsigned means."""
    image = make_image(tmp_path / "a")
    name = f"{registry.host}/typed/docker:1"

    def hostvm(*words: str, home: str) -> subprocess.CompletedProcess[str]:
        env = {"HOSTVM_HOME": str(tmp_path / home / "home"), "HOSTVM_CACHE": str(tmp_path / home)}
        env |= {"HOSTVM_RUN": str(tmp_path / "run"), "DOCKER_CONFIG": str(no_docker_login), "PATH": "/usr/bin:/bin"}
        return subprocess.run([HOSTVM, *words], env=env, capture_output=True, text=True, timeout=60, check=False)

    pushed = hostvm("image", "push", image.digest[:12], name, "--json", home="a")
    assert pushed.returncode == 0, pushed.stderr
    assert json.loads(pushed.stdout)["digest"] == f"sha256:{image.digest}"
    refused = hostvm("image", "pull", name, home="b")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is not signed" in refused.stderr
    assert "--allow-unsigned" in refused.stderr
    pulled = hostvm("image", "pull", "--allow-unsigned", "--json", name, home="b")
    assert json.loads(pulled.stdout)["signed_by"] is None
    shown = hostvm("image", "inspect", name, "--sbom", "cyclonedx", home="b")
    assert json.loads(shown.stdout)["specVersion"] == "1.6"


def test_keys_decide_before_the_parts_come(registry, make_image, cache, tmp_path, ring, access):
    image, target = make_image(cache), parse_reference(f"{registry.host}/strangers:1")
    push_image(image, target, access, cache, NONE, ring.secret("team"))
    ring.remove("team")
    before = len(registry.log)
    with pytest.raises(SignatureError, match="not trusted here"):
        pull_image(target, access, tmp_path / "other", ring, NONE, allow_unsigned=True)
    assert not [line for line in registry.log[before:] if image.manifest["files"]["root.erofs"]["sha256"] in line]


@pytest.mark.parametrize("damage", ["a part", "the manifest of the image"])
def test_a_registry_with_damaged_bytes(registry, make_image, cache, tmp_path, ring, access, damage):
    image, target = make_image(cache, seed=damage), parse_reference(f"{registry.host}/damaged:1")
    push_image(image, target, access, cache, NONE, None)
    digest = image.digest if damage != "a part" else image.manifest["files"]["root.erofs"]["sha256"]
    path = blobs(registry, digest)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ImageError, match="is not what"):
        pull_image(target, access, tmp_path / "other", ring, NONE, allow_unsigned=True)
    assert list_images(tmp_path / "other") == []


def test_a_damaged_image_is_not_accepted_by_the_registry(registry, make_image, cache, access):
    image = make_image(cache)
    image.root.write_bytes(image.root.read_bytes()[:-1] + b"!")
    with pytest.raises(RegistryError, match="refuses") as error:
        push_image(image, parse_reference(f"{registry.host}/bad:1"), access, cache, NONE, None)
    assert "DIGEST_INVALID" in error.value.details


def test_a_container_image_is_no_guest_image(registry, cache, ring, access, make_image):
    target = parse_reference(f"{registry.host}/team/busybox:1")
    data = b"{}"
    start = requests.post(f"http://{registry.host}/v2/team/busybox/blobs/uploads/", timeout=10)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    requests.put(f"{start.headers['Location']}&digest={digest}", data=data, timeout=10).raise_for_status()
    kind = "application/vnd.oci.image.manifest.v1+json"
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(data)}
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}
    address = f"http://{registry.host}/v2/team/busybox/manifests/1"
    headers = {"Content-Type": kind}
    requests.put(address, data=json.dumps(manifest), headers=headers, timeout=10).raise_for_status()
    with pytest.raises(ImageError, match="is not a guest image"):
        pull_image(target, access, cache, ring, NONE, allow_unsigned=True)


def test_a_list_of_images_gives_the_one_of_this_computers_architecture(registry, cache, ring, access, make_image):
    """The registry answers only whoever says that it reads lists. This list tells nothing of its images, as oras'."""
    image = make_image(cache, root=5 << 20)
    made = push_image(image, parse_reference(f"{registry.host}/list:amd64"), access, cache, NONE, None)
    data = made.artefact.manifest
    listed = {"mediaType": MANIFEST_TYPE, "digest": made.reference.digest, "size": len(data)}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [listed]})
    address = f"http://{registry.host}/v2/list/manifests/1"
    requests.put(address, data=index, headers={"Content-Type": INDEX_TYPE}, timeout=10).raise_for_status()
    target, other = parse_reference(f"{registry.host}/list:1"), cache.parent / "other"
    with pytest.raises(ImageError, match="is a list of 1 guest images, none of arm64"):
        pull_image(target, access, other, ring, NONE, allow_unsigned=True, own="arm64")
    got = pull_image(target, access, other, ring, NONE, allow_unsigned=True, own="amd64")
    assert got.image.digest == image.digest


def test_what_is_not_there(registry, make_image, cache, ring, access):
    with pytest.raises(RegistryError, match="there is no") as error:
        pull_image(parse_reference(f"{registry.host}/team/none:1"), access, cache, ring, NONE)
    assert "MANIFEST_UNKNOWN" in error.value.details
    with pytest.raises(RegistryError, match="cannot reach the registry localhost:1"):
        pull_image(parse_reference("localhost:1/team/none:1"), access, cache, ring, NONE)
    digest = "sha256:" + "0" * 64
    with pytest.raises(UsageError, match="to a tag"):
        push_image(make_image(cache), parse_reference(f"{registry.host}/x@{digest}"), access, cache, NONE, None)


class Interrupting(NullProgress):
    """Progress that does something once, when half of the bytes are there."""

    def __init__(self, total: int, act) -> None:
        self.half, self.done, self.act, self.lock = total // 2, 0, act, threading.Lock()

    def task(self, name, total, unit=""):
        outer = self

        class Context:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def advance(self, amount):
                with outer.lock:
                    outer.done += amount
                    act, outer.act = (outer.act, None) if outer.done > outer.half and outer.act else (None, outer.act)
                if act:
                    act()

        return Context()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_push_goes_on(registry, make_image, cache, access, monkeypatch):
    monkeypatch.setattr(upload, "PIECE", 1 << 20)
    image, target = make_image(cache), parse_reference(f"{registry.host}/interrupted:1")
    with pytest.raises(KeyboardInterrupt):
        push_image(image, target, access, cache, Interrupting(image.size, interrupt), None)
    assert list((cache / "images" / "uploads").iterdir())
    before = len(registry.log)
    push_image(image, target, access, cache, NONE, None)
    again = [line for line in registry.log[before:] if "/interrupted/blobs/uploads/" in line]
    assert any(line.startswith("GET") and line.endswith(" 204") for line in again), "it asked how far it had come"
    assert list((cache / "images" / "uploads").iterdir()) == []


def test_a_registry_that_restarts_in_the_middle(tmp_path, make_image, cache, ring, access):
    with Registry(tmp_path / "registry", http={"secret": "the same after a restart"}) as registry:
        image, target = make_image(cache), parse_reference(f"{registry.host}/restarted:1")

        def restart() -> None:
            registry.stop()
            registry.start()

        push_image(image, target, access, cache, Interrupting(image.size, restart), None)
        got = pull_image(
            target, access, tmp_path / "other", ring, Interrupting(image.size, restart), allow_unsigned=True
        )
        verify_image(got.image)


def test_an_interrupted_pull_goes_on(registry, make_image, cache, tmp_path, ring, access):
    image, target = make_image(cache), parse_reference(f"{registry.host}/halfway:1")
    push_image(image, target, access, cache, NONE, None)
    other = tmp_path / "other"
    with pytest.raises(KeyboardInterrupt):
        pull_image(target, access, other, ring, Interrupting(image.size, interrupt), allow_unsigned=True)
    assert list_images(other) == []
    # Whatever it still says of the request that was broken off, it says before it is counted.
    registry.stop()
    registry.start()
    before = len(registry.log)
    got = pull_image(target, access, other, ring, NONE, allow_unsigned=True)
    verify_image(got.image)
    root = image.manifest["files"]["root.erofs"]["sha256"]
    gets = [line for line in registry.log[before:] if line.startswith("GET") and root in line]
    assert [line[-3:] for line in gets] in ([], ["206"]), "only the rest was fetched"
