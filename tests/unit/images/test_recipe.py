from __future__ import annotations

import pytest

from images.errors import RecipeError
from images.recipe import ArchRecipe, User, find_recipe, load_recipe

SMALL = """
name: small
suite: trixie
arches:
  amd64: {kernel: linux-image-amd64, console: ttyS0}
packages: [base-files]
"""


def faults(text: str) -> list[str]:
    with pytest.raises(RecipeError) as error:
        load_recipe(text, "small.yaml")
    assert error.value.brief.startswith("small.yaml")
    assert error.value.resolution
    return error.value.details.splitlines()


def test_the_smallest_recipe():
    recipe = load_recipe(SMALL, "small.yaml")
    assert recipe.packages == ("base-files",)
    assert recipe.pockets == ("security",)
    assert recipe.arch("amd64") == ArchRecipe("linux-image-amd64", "ttyS0")
    assert (recipe.compression, recipe.level) == ("lz4hc", 9)


def test_everything_is_read():
    recipe = load_recipe(
        SMALL
        + """
pockets: []
suites: {docker.io: forky}
exclude_packages: {perl: not used}
drop: [usr/share/doc/*]
modules: {keep: [overlay], initramfs: [virtio_blk, "--", ext4]}
links: {etc/mtab: ../proc/mounts}
dirs: {tmp: "01777"}
modes: {etc/ssh/*: "0600"}
groups: {docker: 990}
users: [{name: sshd, uid: 991, gid: 990, home: /run/sshd, shell: /usr/sbin/nologin, groups: [docker]}]
finish: [[tool, -a, KVER]]
cmdline: >-
  quiet
  panic=-1
compression: lz4hc,3
""",
        "full.yaml",
    )
    assert recipe.exclude_packages == {"perl": "not used"}
    assert recipe.dirs == {"tmp": 0o1777}
    assert recipe.modes == {"etc/ssh/*": 0o600}
    assert recipe.users == (User("sshd", 991, 990, "/run/sshd", "/usr/sbin/nologin", ("docker",)),)
    assert recipe.level == 3
    assert recipe.finish == (("tool", "-a", "KVER"),)
    assert recipe.initramfs_modules == ("virtio_blk", "--", "ext4")
    assert recipe.cmdline == "quiet panic=-1"


def test_every_fault_at_once_with_its_path():
    assert faults(
        """
name: 7
suite: trixie
arches:
  amd64: {kernel: linux-image-amd64}
  sparc: {kernel: k2, console: ttyS0}
pakages: []
dirs: {tmp: 755}
users: [{name: a, uid: -1, gid: 0, home: /, shell: /bin/sh, colour: red}]
finish: [[]]
files: nowhere
compression: rar
"""
    ) == [
        (
            "pakages: unknown key; known are name, engine, rootless, suite, pockets, arches, packages, suites, "
            "exclude_packages, drop, modules, files, initramfs, links, dirs, modes, groups, users, finish, cmdline, "
            "cmdline_tcg, downloads, compression"
        ),
        "packages: is missing",
        "name: must be a text, is 7",
        "arches.amd64.console: is missing",
        "arches.sparc: unknown architecture; known are amd64, arm64",
        "files: images/files has no folder 'nowhere'",
        'dirs.tmp: must be a quoted octal mode such as "0755", is 755',
        "users[0].colour: unknown key; known are name, uid, gid, home, shell, groups",
        "users[0].uid: must be a number from 0 to 65533, is -1",
        "finish[0]: is empty",
        "compression: must be lz4, lz4hc, or lz4hc with a level from 3 to 12: lz4hc,6; is 'rar'",
    ]


@pytest.mark.parametrize("text", ["zstd", "lz4,3", "lz4hc,2", "lz4hc,13", "lz4hc,", "7", "''"])
def test_a_compression_that_is_none(text):
    (fault,) = faults(f"{SMALL}compression: {text}\n")
    assert fault.startswith("compression: must be lz4")


@pytest.mark.parametrize(("text", "level"), [("lz4", None), ("lz4hc", 9), ("lz4hc,12", 12)])
def test_a_level(text, level):
    assert load_recipe(f"{SMALL}compression: {text}\n", "x").level == level


@pytest.mark.parametrize("text", ["", "[]", "just words"])
def test_what_is_no_mapping(text):
    assert faults(text)[0].startswith("the file: must be a mapping")


def test_what_is_no_yaml():
    assert faults("a: [")


def test_an_architecture_it_is_not_made_for():
    with pytest.raises(RecipeError) as error:
        load_recipe(SMALL, "x").arch("arm64")
    assert error.value.resolution == "`hostvm image build --arch amd64`"


def test_the_shipped_recipe_is_sound_and_an_unknown_one_lists_it():
    assert set(find_recipe("docker").arches) == {"amd64", "arm64"}
    with pytest.raises(RecipeError, match="docker"):
        find_recipe("nothing")
