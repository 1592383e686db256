"""A guest image of one's own, as typed: built, compared, sent as a file and by a registry, and booted elsewhere."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from machines import hostvm, running_machine, succeed
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from hostvm.guest_images import guest_arch
from images.disk import sha256_file

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))

from registries import Registry  # of the tests of registries

pytestmark = pytest.mark.vm

RECIPE = """\
name: mine
base: docker
packages: [tree]
overlay: files
links: {{usr/local/bin/greet: hello}}
downloads:
  - {{file: greeter-1.tar.gz, sha256: {packed}, take: {{greeter-1/greeter: usr/local/bin/greeter}}}}
  - {{file: plain, sha256: {plain}, to: usr/local/bin/plain}}
  - {{file: plain, sha256: {plain}, arch: {other}, to: usr/local/bin/other}}
"""
WITHOUT_SECURITY = """\
name: older-{number}
suite: trixie
pockets: []
arches:
  amd64: {{kernel: linux-image-cloud-amd64, console: ttyS0}}
  arm64: {{kernel: linux-image-cloud-arm64, console: ttyAMA0}}
packages: [base-files, base-passwd, busybox-static, ca-certificates, libgssapi-krb5-2, libzstd1, runc]
exclude_packages: {{linux-base: not booted from a disk, initramfs-tools: the initramfs is ours}}
drop: [usr/share/doc, usr/share/man, usr/share/locale, boot]
modules: {{keep: [overlay], initramfs: [erofs]}}
initramfs: initramfs
compression: lz4
"""
MORE = ["ed", "greeter-1.tar.gz", "plain", "tree"]
"""What it has more than docker's."""


def with_downloads(folder: Path) -> str:
    """The recipe, and beside it what makers of programs publish: an archive of one, and one as it is."""
    program = '#!/bin/sh\necho $0 got "$@"\n'
    (folder / "plain").write_text(program)
    info = tarfile.TarInfo("greeter-1/greeter")
    info.size, info.mode = len(program), 0o755
    with tarfile.open(folder / "greeter-1.tar.gz", "w:gz") as tar:
        tar.addfile(info, io.BytesIO(program.encode()))
    packed, plain = (sha256_file(folder / name) for name in ("greeter-1.tar.gz", "plain"))
    return RECIPE.format(packed=packed, plain=plain, other={"amd64": "arm64", "arm64": "amd64"}[guest_arch()])


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The digest of an image with more packages and programs, and the name of the key that signs it."""
    folder = tmp_path_factory.mktemp("recipe")
    program = folder / "files" / "usr" / "local" / "bin" / "hello"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho hello from the overlay\n")
    (folder / "mine.yaml").write_text(with_downloads(folder))
    succeed(hostvm("image", "build"))  # what it is compared with, of the same archive
    words = ("--recipe", str(folder / "mine.yaml"), "--package", "ed", "--name", "mine", "--json")
    built = json.loads(succeed(hostvm("image", "build", *words)))
    assert built["name"] == "mine"
    key = f"team-{os.getpid()}"
    succeed(hostvm("image", "key", "new", key))
    yield built["digest"], key
    succeed(hostvm("image", "rm", built["digest"]))
    succeed(hostvm("image", "key", "rm", key))


def test_what_it_has_more_than_the_shipped_one_is_told(own):
    told = json.loads(succeed(hostvm("image", "diff", "docker", own[0], "--json")))
    assert (told["after"], [one["name"] for one in told["added"]]) == (own[0], MORE)
    assert (told["removed"], told["changed"]) == ([], [])
    assert "tree" in succeed(hostvm("image", "diff", "docker", "mine"))


def test_its_package_lists_are_valid_and_name_all_of_it(own):
    """For the checkers of the forms' authors; see tests/unit/images/test_sbom.py."""
    packages = {one["name"] for one in packages_of(own[0])}
    assert len(packages) > 50
    spdx = json.loads(succeed(hostvm("image", "inspect", own[0], "--sbom", "spdx")))
    document = JsonLikeDictParser().parse(spdx)
    assert validate_full_spdx_document(document, "SPDX-2.3") == []
    assert {package.name for package in document.packages} == {"mine", *packages, *MORE}
    text = succeed(hostvm("image", "inspect", own[0], "--sbom", "cyclonedx"))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert {component["name"] for component in json.loads(text)["components"]} == {*packages, *MORE}


def test_the_archive_has_nothing_newer_than_what_was_built_now(own):
    assert json.loads(succeed(hostvm("image", "outdated", own[0], "--json"))) == {"digest": own[0], "outdated": []}


def test_it_goes_as_a_file(own, tmp_path):
    file, there = tmp_path / "mine.hostvm", {"HOSTVM_CACHE": str(tmp_path / "cache")}
    succeed(hostvm("image", "export", own[0], "-o", str(file), "--sign", own[1]))
    taken = json.loads(succeed(hostvm("image", "import", "--json", str(file), env=there)))
    assert (taken["digest"], taken["fresh"], taken["signed_by"].split()[0]) == (own[0], True, own[1])
    assert [one["digest"] for one in json.loads(succeed(hostvm("image", "ls", "--json", env=there)))] == [own[0]]


@pytest.mark.slow
def test_security_updates_that_an_image_lacks_are_told(own, tmp_path):
    """Of one that is built without them: what the shipped one, built now, has newer of the same packages."""
    (tmp_path / "older.yaml").write_text(WITHOUT_SECURITY.format(number=os.getpid()))
    theirs = versions("docker")
    digest = json.loads(succeed(hostvm("image", "build", "--recipe", str(tmp_path / "older.yaml"), "--json")))["digest"]
    try:
        ours = versions(digest)
        told = json.loads(succeed(hostvm("image", "outdated", digest, "--json")))["outdated"]
        text = succeed(hostvm("image", "outdated", digest))
    finally:
        succeed(hostvm("image", "rm", digest))
    assert {"libzstd1", "linux-image"} <= ours.keys() & theirs.keys()
    newer = {name: (ours[name], theirs[name]) for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}
    found = {kernel_as_one(one["name"]): (one["version"], one["newest"]) for one in told if one["security"]}
    assert {name: both for name, both in found.items() if name in theirs} == newer
    assert [one for one in told if not one["security"] or one["name"] not in text] == []
    if not newer:
        pytest.skip("Debian's security suite has nothing newer than the suite itself just now")


def packages_of(image: str) -> list[dict[str, str]]:
    return json.loads(succeed(hostvm("image", "inspect", image)))["manifest"]["packages"]


def versions(image: str) -> dict[str, str]:
    return {kernel_as_one(one["name"]): one["version"] for one in packages_of(image)}


def kernel_as_one(name: str) -> str:
    """Kernels of several kinds are built of one source: a small one stands for the usual."""
    return "linux-image" if name in {f"linux-image{kind}-{guest_arch()}" for kind in ("", "-cloud")} else name


@pytest.mark.slow
def test_a_package_more_by_the_command_alone(own):
    built = json.loads(succeed(hostvm("image", "build", "--package", "ed", "--json")))
    try:
        assert built["name"] == "docker-custom"
        told = json.loads(succeed(hostvm("image", "diff", "docker", built["digest"], "--json")))
    finally:
        succeed(hostvm("image", "rm", built["digest"]))
    assert ([one["name"] for one in told["added"]], told["removed"], told["changed"]) == (["ed"], [], [])


@pytest.fixture(scope="module")
def booted(own, names_port):
    """A small machine of it."""
    words = ("--image", "mine", "--template", "low-memory", "--mount", "none", "--names", names_port)
    with running_machine(f"own-{os.getpid()}", *words) as made:
        yield made


def is_mine(machine, digest):
    assert json.loads(machine.hostvm("inspect", machine.name))["made"]["image"] == digest
    assert machine.shell("greet") == "hello from the overlay"
    assert machine.shell("tree", "--version").startswith("tree v")
    assert machine.shell("ed", "--version").startswith("GNU ed ")
    assert machine.sdk.info()["Driver"] == "overlay2"


def test_a_small_machine_boots_it_by_its_name(own, booted):
    is_mine(booted, own[0])
    facts = dict(line.split(":") for line in booted.shell("cat", "/proc/meminfo").splitlines())
    assert 600 * 1024 < int(facts["MemTotal"].split()[0]) < 768 * 1024, "kB, as the template says"


def test_programs_of_other_makers_run_in_it(booted):
    for name in ("greeter", "plain"):
        assert booted.shell(name, "a word", "$HOME") == f"/usr/local/bin/{name} got a word $HOME"
        assert booted.shell("stat", "-Lc", "%a %u %g %F", f"/usr/local/bin/{name}") == "755 0 0 regular file"
    assert "other" not in booted.shell("ls", "/usr/local/bin").split()


def test_what_is_read_of_the_image_is_in_memory_once(booted):
    program = "/usr/libexec/docker/cli-plugins/docker-compose"
    look = f"""sed -n 's/^Cached: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; stat -c %s {program}"""
    words = f"echo 3 > /proc/sys/vm/drop_caches; {look}; cat {program} > /dev/null; {look}"
    before, size, after, _ = map(int, booted.shell("sh", "-c", words).split())
    assert size > 20 << 20
    assert 0.9 * size < (after - before) * 1024 < 1.15 * size


@pytest.fixture
def registry(tmp_path):
    """Of this computer: one in an emulated guest takes a minute for this image."""
    with Registry(tmp_path / "registry") as found:
        yield found.host


def test_a_machine_boots_what_a_registry_has_by_its_digest(own, registry, tmp_path, names_port, monkeypatch):
    words = ("image", "push", own[0], f"{registry}/team/mine:1", "--sign", own[1], "--json")
    told = json.loads(succeed(hostvm(*words)))
    assert told["reference"].startswith(f"{registry}/team/mine@sha256:")
    monkeypatch.setenv("HOSTVM_CACHE", str(tmp_path / "cache"))  # another computer's: nothing is there
    words = ("--image", told["reference"], "--memory", "1GiB", "--mount", "none", "--names", names_port)
    with running_machine(f"own-{os.getpid()}-b", *words) as made:
        is_mine(made, own[0])
