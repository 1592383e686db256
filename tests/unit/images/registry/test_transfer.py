"""Push and pull, whose registry is a dictionary; tests/registry has a real one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from requests.adapters import BaseAdapter

from images.artefact import layout
from images.artefact.layout import make_artefact
from images.artefact.trust import KeyRing
from images.errors import DiskFullError, ImageError
from images.oci import MANIFEST_TYPE
from images.patience import Patience
from images.progress import NullProgress
from images.prune import remove_unneeded
from images.registry import client, transfer
from images.registry.client import Access
from images.registry.reference import parse_reference
from images.registry.transfer import pull_image, push_image
from images.store import find_referenced, find_sound, list_images

NONE = NullProgress()
TARGET = parse_reference("r.test/a:1")


class Registry(BaseAdapter):
    """Holds blobs by digest and manifests by tag; `got` is which blobs were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.got: list[str] = []
        self.gates = {}
        """What requests have to pass whose method or path holds a word."""
        self.lock = threading.Lock()

    def send(self, request, **kwargs):
        path, query = urlsplit(request.url).path, parse_qs(urlsplit(request.url).query)
        gate = next((gate for word, gate in self.gates.items() if word in f"{request.method} {path}"), None)
        sent = request.body.read() if isinstance(request.body, io.IOBase) else request.body or b""
        with gate.passing() if gate else nullcontext(), self.lock:
            status, headers, body = getattr(self, f"_{request.method.lower()}")(path, query, sent)
        response = requests.Response()
        response.status_code, response.url, response.request = status, request.url, request
        response.headers.update({"Content-Length": str(len(body)), **headers})
        response.raw = io.BytesIO(body)
        return response

    def _head(self, path, _query, _body):
        return (200 if path.rpartition(":")[2] in self.blobs else 404), {}, b""

    def _get(self, path, _query, _body):
        if path == "/v2/":
            return 200, {}, b""
        if "/manifests/" in path:
            return 200, {}, self.manifests[path.rpartition("/")[2]]
        if path in self.uploads:
            return 204, {"Location": path, "Range": f"0-{len(self.uploads[path]) - 1}"}, b""
        self.got.append(path.rpartition(":")[2])
        return 200, {}, self.blobs[self.got[-1]]

    def _post(self, path, _query, _body):
        name = f"{path}{len(self.uploads)}"
        self.uploads[name] = b""
        return 202, {"Location": name, "Range": "0-0"}, b""

    def _patch(self, path, _query, body):
        self.uploads[path] += body
        return 202, {"Location": path, "Range": f"0-{len(self.uploads[path]) - 1}"}, b""

    def _put(self, path, query, body):
        if "/manifests/" in path:
            self.manifests[path.rpartition("/")[2]] = body
        else:
            data = self.uploads[path]
            assert query["digest"] == [f"sha256:{hashlib.sha256(data).hexdigest()}"]
            self.blobs[hashlib.sha256(data).hexdigest()] = data
        return 201, {}, b""

    def close(self) -> None:
        pass


@pytest.fixture
def registry(monkeypatch):
    registry, session = Registry(), requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, registry)
    monkeypatch.setattr(client, "_new_session", lambda *_: session)
    return registry


@pytest.fixture
def access():
    return Access(lambda: None, patience=Patience(2, sleep=lambda _: None))


@pytest.fixture
def pushed(make_image, registry, access, cache):
    image = make_image()
    push_image(image, TARGET, access, cache, NONE, None)
    return image


def test_a_pull_heals_a_stored_image_and_fetches_no_sound_one(pushed, registry, access, cache, tmp_path):
    def pull():
        registry.got.clear()
        return pull_image(TARGET, access, cache, KeyRing(tmp_path / "keys"), NONE, allow_unsigned=True)

    part = pushed.manifest["files"]["root.erofs"]["sha256"]
    assert (pull().fresh, part in registry.got) == (False, False)
    pushed.root.write_bytes(b"toor" * 1000)  # of the right size
    assert (pull().fresh, part in registry.got) == (True, True)
    assert find_sound(cache, pushed.digest) == pushed


def test_a_list_of_images_names_each_with_the_command_for_it(registry, access, cache):
    """It was told to be a container image, or damaged."""
    one, two = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
    kind = {"artifactType": layout.ARTIFACT_TYPE}
    manifests = [
        {**kind, "digest": one, "platform": {"architecture": "arm64"}},
        {**kind, "digest": two, "platform": {"architecture": "a\nb"}},
        {"digest": two, "artifactType": "another"},
        {**kind, "digest": "sha256:../x"},
        [],
    ]
    index = {"schemaVersion": 2, "mediaType": layout.INDEX_TYPE, "manifests": manifests}
    registry.manifests["1"] = json.dumps(index).encode()
    with pytest.raises(ImageError, match=r"r\.test/a:1 is a list of 2 guest images") as error:
        pull_image(TARGET, access, cache, KeyRing(cache / "keys"), NONE)
    assert error.value.details == "A reference is one image here; those are of: arm64, ?"
    assert error.value.resolution.splitlines() == [
        f"hostvm image pull r.test/a@{one}   # arm64",
        f"hostvm image pull r.test/a@{two}   # ?",
    ]
    index["manifests"] = [{"digest": one, "artifactType": "another"}]
    registry.manifests["1"] = json.dumps(index).encode()
    with pytest.raises(ImageError, match="is not a guest image"):
        pull_image(TARGET, access, cache, KeyRing(cache / "keys"), NONE)


@pytest.fixture
def listed(make_image, registry, access, cache):
    """The images of both architectures, each under a tag, and a way to put a list of them at `TARGET`."""
    images = {arch: make_image(arch=arch) for arch in ("amd64", "arm64")}
    digests = {}
    for arch, image in images.items():
        push_image(image, parse_reference(f"r.test/a:{arch}"), access, cache, NONE, None)
        data = registry.manifests[arch]
        digests[arch] = f"sha256:{hashlib.sha256(data).hexdigest()}"
        registry.manifests[digests[arch]] = data

    def put(told, arches=("amd64", "arm64")):
        manifests = [{"mediaType": MANIFEST_TYPE, "digest": digests[arch], **told} for arch in arches]
        if "artifactType" in told:
            for one, arch in zip(manifests, arches, strict=True):
                one["platform"] = {"architecture": arch}
        index = {"schemaVersion": 2, "mediaType": layout.INDEX_TYPE, "manifests": manifests}
        registry.manifests["1"] = json.dumps(index).encode()

    put.images, put.digests = images, digests
    return put


TOLD = {"artifactType": layout.ARTIFACT_TYPE}


@pytest.mark.parametrize("told", [TOLD, {}], ids=["told", "as `oras manifest index create` makes it"])
def test_of_a_list_the_image_of_the_wanted_architecture_comes(listed, registry, access, tmp_path, told):
    listed(told)
    other = tmp_path / "other"

    def pull(**wanted):
        return pull_image(TARGET, access, other, KeyRing(tmp_path / "keys"), NONE, allow_unsigned=True, **wanted)

    assert pull(own="amd64").image.digest == listed.images["amd64"].digest
    assert pull(own="amd64", arch="arm64").image.digest == listed.images["arm64"].digest
    assert find_referenced(other, str(TARGET)).arch == "amd64"  # what a machine without an architecture is to get
    assert pull(own="arm64").image.digest == listed.images["arm64"].digest
    assert find_referenced(other, str(TARGET)).arch == "arm64"


@pytest.mark.parametrize("told", [TOLD, {}])
def test_a_list_without_it_or_with_several_names_what_is_there(listed, registry, access, tmp_path, told):
    listed(TOLD, ["arm64"])
    with pytest.raises(ImageError, match="is a list of 1 guest images, none of amd64") as error:
        pull_image(TARGET, access, tmp_path / "other", KeyRing(tmp_path / "keys"), NONE, own="amd64")
    assert error.value.details.endswith("of: arm64")
    assert error.value.resolution == f"hostvm image pull r.test/a@{listed.digests['arm64']}   # arm64"
    listed(told)
    index = json.loads(registry.manifests["1"])
    again = registry.manifests["amd64"] + b" "
    registry.manifests[f"sha256:{hashlib.sha256(again).hexdigest()}"] = again
    index["manifests"].append({**index["manifests"][0], "digest": f"sha256:{hashlib.sha256(again).hexdigest()}"})
    registry.manifests["1"] = json.dumps(index).encode()
    with pytest.raises(ImageError, match="is a list of 3 guest images, 2 of amd64"):
        pull_image(TARGET, access, tmp_path / "other", KeyRing(tmp_path / "keys"), NONE, own="amd64")


def test_an_image_is_of_the_architecture_that_was_asked_for_and_of_that_its_list_says(
    listed, registry, access, tmp_path
):
    def pull(reference, **wanted):
        other = tmp_path / "other"
        return pull_image(reference, access, other, KeyRing(tmp_path / "keys"), NONE, allow_unsigned=True, **wanted)

    arm64 = parse_reference("r.test/a:arm64")
    with pytest.raises(ImageError, match=r"r\.test/a:arm64 is of arm64, not of amd64") as error:
        pull(arm64, arch="amd64", own="arm64")
    assert "hostvm image pull --arch arm64 r.test/a:arm64" in error.value.resolution
    listed(TOLD)
    registry.manifests["1"] = registry.manifests["1"].replace(b'"amd64"', b'"x"').replace(b'"arm64"', b'"amd64"')
    with pytest.raises(ImageError, match=r"r\.test/a:1 is of arm64, not of amd64"):
        pull(TARGET, own="amd64")
    assert pull(arm64, own="amd64").image.arch == "arm64"


def test_three_parts_are_sent_at_once(make_image, registry, access, cache, gate):
    registry.gates["PATCH"] = gate(3)
    image = make_image()
    push_image(image, TARGET, access, cache, NONE, None)
    assert registry.gates["PATCH"].most == 3
    assert {part["sha256"] for part in image.manifest["files"].values()} < registry.blobs.keys()


def test_the_parts_are_fetched_at_once(pushed, registry, access, tmp_path, gate):
    together = gate(3)
    registry.gates = {part["sha256"]: together for part in pushed.manifest["files"].values()}
    pull_image(TARGET, access, tmp_path / "other", KeyRing(tmp_path / "keys"), NONE, allow_unsigned=True)
    assert together.most == 3


def test_what_is_pulled_once_more_is_left_by_a_prune_that_waited_for_the_pull(pushed, access, cache, tmp_path):
    os.utime(pushed.path, (1, 1))
    assert not pull_image(TARGET, access, cache, KeyRing(tmp_path / "keys"), NONE, allow_unsigned=True).fresh
    remove_unneeded(cache, set, NONE, everything=True)
    assert find_sound(cache, pushed.digest) == pushed


def test_two_parts_of_the_same_bytes_travel_once(make_image, registry, access, cache, tmp_path):
    image, other = make_image(root=b"init" * 300), tmp_path / "other"
    parts = [part["sha256"] for part in image.manifest["files"].values()]
    assert len(set(parts)) == 2
    pushed = push_image(image, TARGET, access, cache, NONE, None)
    assert len(registry.uploads) == len(registry.blobs)
    assert pushed.sent == sum(map(len, registry.blobs.values()))
    got = pull_image(TARGET, access, other, KeyRing(tmp_path / "keys"), NONE, allow_unsigned=True)
    assert find_sound(other, image.digest) == got.image
    assert sorted(digest for digest in registry.got if digest in parts) == sorted(set(parts))


def test_of_which_one_has_another_size_than_it_says(make_image, registry, access, cache, tmp_path):
    image = make_image(root=b"init" * 300)
    files = {**image.manifest["files"], "initramfs": {**image.manifest["files"]["initramfs"], "size": 1199}}
    artefact = make_artefact({**image.manifest, "files": files}, (), b"{}")
    registry.manifests["1"] = artefact.manifest
    for data in (*artefact.small.values(), image.kernel.read_bytes(), image.root.read_bytes()):
        registry.blobs[hashlib.sha256(data).hexdigest()] = data
    with pytest.raises(ImageError, match=r"initramfs is not what the manifest promises"):
        pull_image(TARGET, access, cache, KeyRing(tmp_path / "keys"), NONE, allow_unsigned=True)
    assert [one.digest for one in list_images(cache)] == [image.digest]


def test_two_pushes_at_once_do_not_send_into_one_upload(make_image, registry, access, cache, monkeypatch):
    """As `image push` of one image to two tags, side by side: the registry would have twice the bytes in one blob."""
    image, source, begun = make_image(), transfer._source, []

    def push_meanwhile(image, artefact, blob):
        if blob.title == "root.erofs" and not begun:
            begun.append(blob)
            push_image(image, parse_reference("r.test/a:2"), access, cache, NONE, None)
        return source(image, artefact, blob)

    monkeypatch.setattr(transfer, "_source", push_meanwhile)
    push_image(image, TARGET, access, cache, NONE, None)
    assert registry.manifests["1"] == registry.manifests["2"]
    assert {part["sha256"] for part in image.manifest["files"].values()} < registry.blobs.keys()
    assert list((cache / "images" / "uploads").iterdir()) == []


def test_a_pull_that_was_interrupted_needs_room_for_the_rest_alone(pushed, registry, access, tmp_path, monkeypatch):
    other, parts = tmp_path / "other", pushed.manifest["files"]
    partial, whole = other / "archive" / "partial", parts["initramfs"]["sha256"]
    partial.mkdir(parents=True)
    (partial / f"{parts['root.erofs']['sha256']}.part").write_bytes(pushed.root.read_bytes()[:3000])
    (other / "archive" / "sha256" / whole[:2]).mkdir(parents=True)
    (other / "archive" / "sha256" / whole[:2] / whole).write_bytes(pushed.initramfs.read_bytes())
    room = pushed.size - 3000 - pushed.initramfs.stat().st_size

    def pull(free):
        monkeypatch.setattr("images.disk.shutil.disk_usage", lambda _: SimpleNamespace(free=free))
        return pull_image(TARGET, access, other, KeyRing(tmp_path / "keys"), NONE, allow_unsigned=True)

    with pytest.raises(DiskFullError):
        pull(room - 1)
    assert find_sound(other, pull(room).image.digest)
