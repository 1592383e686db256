"""Base images from the real archive: the same wherever they are made, and what they say of themselves is so."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import re
import tarfile
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from elsewhere import hostvm_elsewhere, run_hostvm  # a helper beside this file
from pysequoia import Cert

from hostvm.guest_images import guest_arch
from images.archive import DEFAULT_MIRROR, Fetcher
from images.archive.archive import INRELEASE_LIMIT
from images.archive.keys import verify_signed
from images.archive.release import Release, parse_release

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(900)]

PATHS = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
VERSIONS = {"trixie": "13", "bookworm": "12", "forky": None}  # testing has none
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
LAYER = "application/vnd.oci.image.layer.v1.tar"


class Layout:
    """An OCI layout in a tar, read as its specification says, every blob compared with its digest."""

    def __init__(self, path: Path) -> None:
        with tarfile.open(path) as tar:
            self.files = {member.name: tar.extractfile(member).read() for member in tar}
        assert json.loads(self.files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
        (self.listed,) = json.loads(self.files["index.json"])["manifests"]
        manifest = json.loads(self.blob(self.listed))
        self.config: dict[str, Any] = json.loads(self.blob(manifest["config"]))
        (layer,) = manifest["layers"]
        assert layer["mediaType"] == LAYER
        assert self.config["rootfs"] == {"type": "layers", "diff_ids": [layer["digest"]]}
        self.tree = tarfile.open(fileobj=io.BytesIO(self.blob(layer)))  # noqa: SIM115 - held as long as this is
        self.members = {member.name: member for member in self.tree}

    def blob(self, listed: dict[str, Any]) -> bytes:
        data = self.files[f"blobs/{listed['digest'].replace(':', '/')}"]
        assert (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)) == (listed["digest"], listed["size"])
        return data

    def find(self, path: str) -> tarfile.TarInfo | None:
        """The file that a path leads to, by links of folders, too."""
        place, rest = ".", path.strip("/").split("/")
        for _ in range(100):
            member = self.members.get(place)
            if member is None:
                return None
            if member.issym():
                there = member.linkname if member.linkname.startswith("/") else f"{place}/../{member.linkname}"
                place, rest = ".", [*posixpath.normpath(there).lstrip("/").split("/"), *rest]
            elif not rest:
                return member
            place = f"{place}/{rest.pop(0)}"
        raise AssertionError(f"{path} leads round in a circle")

    def finds(self, program: str) -> bool:
        """Whether a container started with no more than the program's name finds it."""
        (path,) = (one.removeprefix("PATH=") for one in self.config["config"]["Env"] if one.startswith("PATH="))
        found = [self.find(f"{folder}/{program}") for folder in path.split(":")]
        return any(one is not None and one.isreg() and one.mode & 0o111 == 0o111 for one in found)

    def read(self, path: str) -> bytes:
        member = self.find(path)
        assert member is not None, path
        return self.tree.extractfile(member).read()

    def text(self, path: str) -> str:
        return self.read(path).decode()


def fields(text: str, sign: str = ":") -> dict[str, str]:
    pairs = (line.partition(sign) for line in text.splitlines() if line[:1].strip())
    return {key: value.strip().strip('"') for key, _, value in pairs}


@pytest.fixture
def releases(tmp_path):
    """`releases(suite, keys=None)`: the suite's three InRelease files as the mirror has them, and signed by `keys`."""
    fetcher = Fetcher(tmp_path / "releases")

    def read(suite: str, keys: list[Cert] | None = None) -> list[Release]:
        found = []
        security = DEFAULT_MIRROR + "-security"
        for base, name in (
            (DEFAULT_MIRROR, suite),
            (DEFAULT_MIRROR, f"{suite}-updates"),
            (security, f"{suite}-security"),
        ):
            url = f"{base}/dists/{name}/InRelease"
            signed = fetcher.read(url, INRELEASE_LIMIT)
            content = signed if keys is None else verify_signed(signed, keys, url)
            found.append(parse_release(content.decode()))
        return found

    return read


@contextmanager
def made_twice(tmp_path: Path, name: str, clock: datetime | None) -> Iterator[Layout]:
    """The image as it is made here and elsewhere; its files are the same bytes."""
    words = ("image", "base", name, "--format", "oci", "-o")
    run_hostvm(*words, str(tmp_path / "here.tar"), cwd=tmp_path, clock=clock)
    hostvm_elsewhere(tmp_path / "elsewhere", *words, str(tmp_path / "there.tar"), clock=clock)
    assert (tmp_path / "elsewhere" / "base" / "sha256").is_dir(), "it was made there, not taken from here"
    here = Layout(tmp_path / "here.tar")
    assert Layout(tmp_path / "there.tar").listed["digest"] == here.listed["digest"]
    assert (tmp_path / "there.tar").read_bytes() == (tmp_path / "here.tar").read_bytes()
    with here.tree:
        yield here


@pytest.mark.parametrize(
    "name",
    [
        "debian:trixie",
        "debian:bookworm",
        "debian:forky",
        "distroless-python:trixie",
        "distroless-python:bookworm",
        "distroless-python:forky",
    ],
)
def test_a_base_image_twice_and_what_it_says_of_itself(name, tmp_path, releases):
    """A mirror that stands still refuses forky, rightly: then the clock is set back to the mirror's last day."""
    kind, _, suite = name.partition(":")
    dates = releases(suite)
    over = any(one.valid_until and one.valid_until < datetime.now(UTC) for one in dates)
    newest = max(one.date for one in dates)
    with made_twice(tmp_path, name, newest if over else None) as image:
        check_config(image, kind, name, newest)
        release = fields(image.text("/etc/os-release"), "=")
        assert (release["ID"], release["VERSION_CODENAME"]) == ("debian", suite)
        assert release.get("VERSION_ID") == VERSIONS[suite]
        if kind == "debian":
            check_apt(image, suite, releases)
        else:
            assert not [path for path in image.members if "/apt" in path or path.endswith("/dpkg/status")]
            assert image.members["./usr/bin/python3"].linkname.startswith("python3.")


def check_config(image: Layout, kind: str, name: str, newest: datetime) -> None:
    config = image.config
    settings, created = config["config"], config["created"]
    assert (config["os"], config["architecture"]) == ("linux", guest_arch())
    assert settings["Env"] == [f"PATH={':'.join(PATHS)}"]
    suite = name.partition(":")[2]
    if kind == "debian":
        status = [fields(one) for one in image.text("/var/lib/dpkg/status").split("\n\n") if one.strip()]
        (version,) = (one["Version"] for one in status if one["Package"] == "base-files")
        told = rf"Debian {suite}, {len(status)} packages"
        assert (settings["Cmd"], settings.get("Entrypoint")) == (["bash"], None)
        assert all(image.finds(program) for program in ("bash", "sh", "apt-get", "dpkg", "ldconfig", "env"))
    else:
        python = image.members["./usr/bin/python3"].linkname
        version, told = rf"{re.escape(python.removeprefix('python'))}\..*", rf"Debian {suite}, \d+ packages"
        assert settings["Entrypoint"] == ["/usr/bin/python3"]
        assert image.finds("python3")
    labels = dict(settings["Labels"])
    assert re.fullmatch(told, labels.pop("org.opencontainers.image.description"))
    version_label = labels.pop("org.opencontainers.image.version")
    assert version_label == version or re.fullmatch(version, version_label)
    assert labels == {
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.ref.name": name,
        "org.opencontainers.image.title": kind,
    }
    assert image.listed["annotations"] == {
        "io.containerd.image.name": f"docker.io/library/{name}",
        "org.opencontainers.image.ref.name": suite,
    }
    # The newest package's date, and not the moment's: nothing of an archive is younger than its index.
    moment = datetime.fromisoformat(created)
    assert moment <= newest
    assert [one["created"] for one in config["history"]] == [created]
    assert {member.mtime for member in image.members.values()} == {moment.timestamp()}


def check_apt(image: Layout, suite: str, releases) -> None:
    stanzas = [fields(one) for one in image.text("/etc/apt/sources.list.d/debian.sources").split("\n\n")]
    assert [(one["URIs"], one["Suites"]) for one in stanzas] == [
        (DEFAULT_MIRROR, f"{suite} {suite}-updates"),
        (DEFAULT_MIRROR + "-security", f"{suite}-security"),
    ]
    assert {(one["Types"], one["Components"], one["Signed-By"]) for one in stanzas} == {("deb", "main", KEYRING)}
    sources = re.compile(r"\./etc/apt/sources\.list(\.d/.+)?")
    assert [path for path in image.members if sources.fullmatch(path)] == ["./etc/apt/sources.list.d/debian.sources"]
    # What apt will ask for is signed by a key of the image's own keyring.
    keys = list(Cert.split_bytes(image.read(KEYRING)))
    assert keys
    assert len(releases(suite, keys)) == 3
