"""Images with real packages and a real builder guest."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from elsewhere import hostvm_elsewhere  # helpers beside this file
from looking import look_into

from hostvm.builder import QemuBuilder
from hostvm.errors import DriverError
from hostvm.guest_images import ensure_image, guest_arch
from images.archive import DEFAULT_MIRROR, Fetcher, open_archive, suites_of
from images.base import build_base
from images.build import build_image
from images.errors import ImageError
from images.progress import NullProgress
from images.recipe import find_recipe, load_recipe, recipe_names
from images.store import Image, inspect_image, verify_image

pytestmark = pytest.mark.vm

CHECKOUT = Path(__file__).parent.parent.parent

TINY = """
name: tiny
suite: trixie
arches:
  amd64: {kernel: linux-image-amd64, console: ttyS0}
  arm64: {kernel: linux-image-arm64, console: ttyAMA0}
packages: [base-files, base-passwd, busybox-static, coreutils, kmod]
exclude_packages: {linux-base: not booted from a disk, initramfs-tools: the initramfs is ours}
drop: [usr/share/doc, usr/share/man, usr/share/locale, usr/lib/*/gconv, boot]
modules: {keep: [overlay, veth], initramfs: [crc32c_generic, virtio_blk, erofs]}
initramfs: initramfs
links: {etc/link: passwd}
dirs: {proc: "0555", tmp: "01777"}
modes: {etc/issue: "0600"}
users: [{name: anna, uid: 1000, gid: 0, home: /home/anna, shell: /bin/sh}]
finish:
  - [/usr/bin/busybox, sh, -c, "echo 'a  b' > /etc/finished; test -c /dev/null && test -r /proc/mounts"]
compression: lz4
"""

LOOK = r"""
for path in etc/shadow etc/issue tmp home/anna usr/bin/busybox; do
    echo "stat: $path $(stat -c '%a %u %g %Y' $path)"
done
echo "link: $(readlink etc/link) $(readlink bin)"
echo "finished: $(cat etc/finished)"
echo "modules: $(ls lib/modules/*/kernel/drivers/net lib/modules/*/kernel/fs/overlayfs | grep ko | tr '\n' ' ')"
echo "depends: $(cd lib/modules/*/ && cut -d: -f1 modules.dep | sort | tr '\n' ' ')"
echo "mounts left: $(ls -A proc dev sys tmp | grep -v : | tr -d '\n')"
"""


@pytest.fixture
def builder(accel):
    return QemuBuilder(lambda *_: accel)


@pytest.fixture
def fetcher() -> Fetcher:
    """The run's own cache of packages, so that nothing is downloaded twice."""
    return Fetcher(Path(os.environ["HOSTVM_CACHE"]))


@pytest.fixture
def build(builder, fetcher):
    def build(cache: Path, text: str = TINY):
        recipe = load_recipe(text, "tiny.yaml")
        return build_image(recipe, guest_arch(), None, None, cache, builder, NullProgress(), fetcher=fetcher)

    return build


def test_the_same_packages_give_the_same_bytes_and_the_tree_is_as_told(build, accel, tmp_path):
    first, second = build(tmp_path / "one"), build(tmp_path / "two")
    assert first.digest == second.digest
    assert first.root.read_bytes() == second.root.read_bytes()
    verify_image(first)

    console = look_into(first.root, first, LOOK, accel, tmp_path)
    date = first.manifest["date"]
    for line in (
        f"stat: etc/shadow 640 0 42 {date}",
        f"stat: etc/issue 600 0 0 {date}",
        f"stat: tmp 1777 0 0 {date}",
        f"stat: home/anna 755 1000 0 {date}",
        f"stat: usr/bin/busybox 755 0 0 {date}",
        "link: passwd usr/bin",
        "finished: a  b",
        "modules: veth.ko overlay.ko ",
        "depends: kernel/drivers/net/veth.ko kernel/fs/overlayfs/overlay.ko ",
        "mounts left: \n",
    ):
        assert line in console


def build_elsewhere(cache: Path) -> Image:
    """The whole image by a user who has all otherwise, from packages that are here."""
    hostvm_elsewhere(cache, "image", "build")
    return inspect_image(cache, "docker")


def test_the_docker_image_is_the_same_wherever_it_is_built(tmp_path):
    ours = ensure_image("docker", NullProgress())
    theirs = build_elsewhere(tmp_path / "theirs")
    if theirs.manifest["date"] != ours.manifest["date"]:  # the archive was published anew meanwhile
        ours = build_elsewhere(tmp_path / "ours")
    assert theirs.manifest == ours.manifest
    assert theirs.digest == ours.digest


@pytest.mark.slow
@pytest.mark.skipif(not (CHECKOUT / "build" / "trixie" / "root").is_dir(), reason="no tree of trixie: make test-trixie")
def test_the_docker_image_is_the_same_of_another_release_and_its_python(tmp_path):
    """Debian trixie's Python 3.13, zlib and liblzma, in the tree of `make test-trixie`."""
    ours, cache = ensure_image("docker", NullProgress()), tmp_path / "theirs"
    words = [CHECKOUT / "scripts" / "trixie.sh", "--", ".venv/bin/hostvm", "image", "build"]
    subprocess.run(words, env={**os.environ, "HOSTVM_CACHE": str(cache)}, check=True, timeout=280)
    theirs = inspect_image(cache, "docker")
    assert theirs.manifest["date"] == ours.manifest["date"], "the archive was published anew meanwhile"
    assert theirs.manifest == ours.manifest
    assert theirs.digest == ours.digest
    verify_image(theirs)


def test_a_finish_command_that_fails_fails_the_build(build, tmp_path):
    text = TINY.replace("finish:\n", "finish:\n  - [/usr/bin/busybox, sh, -c, 'echo oh no; exit 3']\n")
    with pytest.raises(DriverError) as error:
        build(tmp_path / "cache", text)
    assert "oh no" in error.value.details
    assert [path.name for path in (tmp_path / "cache" / "images").iterdir()] == [".lock"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_what_recipes_ask_for_fits_together_in_the_real_archive(fetcher, arch):
    archive = open_archive(suites_of("trixie", DEFAULT_MIRROR, ["security"]), arch, fetcher, NullProgress())
    for name in recipe_names():
        recipe = find_recipe(name)
        chosen = archive.resolve([*recipe.packages, recipe.arch(arch).kernel], recipe.exclude_packages)
        assert any(package.against() for package in chosen)  # the fields were read at all
    assert archive.resolve(["libc6"])  # a circle with libgcc-s1
    with pytest.raises(ImageError) as caught:
        archive.resolve(["exim4-daemon-light", "postfix"])
    assert re.search(
        r"exim4-daemon-light \S+ conflicts with mail-transport-agent, which postfix \S+ provides "
        r"\(exim4-daemon-light: asked for; postfix: asked for\)",
        caught.value.details,
    )


@pytest.fixture
def debian(builder, fetcher):
    """`debian(cache, packages)`: the tree of Debian's base image with these packages, every one of them configured."""
    with contextlib.ExitStack() as stack:

        def make(cache: Path, packages: list[str]):
            path = build_base(
                "debian:trixie", guest_arch(), packages, None, None, cache, builder, NullProgress(), fetcher=fetcher
            )
            with tarfile.open(path) as image:
                saved = json.load(image.extractfile("manifest.json"))[0]
                layer = io.BytesIO(image.extractfile(saved["Layers"][0]).read())
            tree = stack.enter_context(tarfile.open(fileobj=layer))
            status = tree.extractfile("./var/lib/dpkg/status").read().decode()
            assert status.count("\nStatus: install ok installed\n") == status.count("Package: ")
            assert "unpacked" not in status
            return tree

        yield make


def test_debian_is_configured_by_its_own_scripts(debian):
    """In the cache that all tests share: the machine's tests need it, too."""
    tree = debian(Path(os.environ["HOSTVM_CACHE"]), [])
    names = set(tree.getnames())
    assert tree.getmember("./etc/alternatives/awk").linkname == "/usr/bin/mawk"
    assert {"./usr/bin/apt-get", "./etc/ld.so.cache", "./etc/apt/sources.list.d/debian.sources"} <= names
    assert not [name for name in names if name.startswith(("./dev/", "./proc/", "./tmp/", "./var/log/"))]


@pytest.mark.slow
def test_debian_with_a_package_whose_triggers_make_files(debian, tmp_path):
    tree = debian(tmp_path, ["ca-certificates"])
    assert tree.extractfile("./etc/ssl/certs/ca-certificates.crt").read().count(b"BEGIN CERTIFICATE") > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["debian:trixie", "debian:bookworm"])
def test_debian_of_the_other_architecture_twice(builder, fetcher, tmp_path, name):
    """Its own scripts configure it, by an emulator in a builder guest of this architecture; the bytes are the same."""
    other = {"amd64": "arm64", "arm64": "amd64"}[guest_arch()]

    def make(cache):
        return build_base(
            name, other, [], None, None, cache, builder, NullProgress(), builder_arch=guest_arch(), fetcher=fetcher
        )

    first, second = make(tmp_path / "one"), make(tmp_path / "two")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as image:
        saved = json.load(image.extractfile("manifest.json"))[0]
        assert json.load(image.extractfile(saved["Config"]))["architecture"] == other
        layer = io.BytesIO(image.extractfile(saved["Layers"][0]).read())
    with tarfile.open(fileobj=layer) as tree:
        status = tree.extractfile("./var/lib/dpkg/status").read().decode()
        assert tree.getmember("./bin").linkname == "usr/bin"
    assert status.count("\nStatus: install ok installed\n") == status.count("Package: ")
    assert f"\nArchitecture: {other}\n" in status
