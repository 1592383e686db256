"""Which of two modules with one name modprobe loads: what `depmod -a` of kmod 34 chooses."""

from __future__ import annotations

import pytest

from images.depmod import index_modules
from images.modules import ModuleSet
from images.tree import Tree

FOLDER = "usr/lib/modules/6.12-x"
PLACES = ("extra", "kernel/net", "updates/dkms", "weak")


@pytest.fixture
def chosen(make):
    """`chosen({FILE: TEXT})`: the place of the module in modules.dep, whichever of its files came first."""

    def choose(conf, places=PLACES):
        found = set()
        for order in (places, places[::-1]):
            tree = Tree()
            for place in order:
                tree.add_file(f"{FOLDER}/{place}/v-net.ko", make.module())
            for path, text in conf.items():
                tree.add_file(path, text.encode())
            modules = ModuleSet.of(tree)
            index_modules(modules)
            found.add(tree.read(f"{FOLDER}/modules.dep").decode())
        (line,) = found
        return line.removesuffix("/v-net.ko:\n")

    return choose


def test_updates_come_first(chosen):
    assert chosen({}) == "updates/dkms"
    assert chosen({}, PLACES[1:3]) == "updates/dkms"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("search built-in updates\n", "kernel/net"),
        ("# search weak\n\nsearch extra\tupdates built-in\n", "extra"),
        ("search extra\nsearch updates built-in\n", "extra"),
        ("search weak \\\n  updates", "weak"),
        ("search gone updat kernel built-in weak", "kernel/net"),
        ("search gone weak built-in updates", "weak"),
        ("override v-net * extra", "extra"),
        ("override v-net ^6\\.1[0-9]- weak", "weak"),
        ("override v-net 5.10 extra", "updates/dkms"),
        ("override v-net ( extra", "updates/dkms"),
        ("override other * extra\noverride v-net *\nmake_map_files no\nsearch", "updates/dkms"),
    ],
)
def test_as_depmod_d_says(chosen, text, place):
    # Those that are not named would be a draw, in which kmod takes what the file system names first.
    left = {"kernel/net", "updates/dkms", place} | ({"extra", "weak"} if "override" in text else set())
    assert chosen({"etc/depmod.d/own.conf": text}, tuple(sorted(left))) == place


def test_files_are_read_by_their_names_and_hide_those_of_packages(chosen):
    files = {
        "usr/lib/depmod.d/a.conf": "search weak",
        "etc/depmod.d/a.conf": "",
        "etc/depmod.d/b.conf": "search extra",
        "usr/lib/depmod.d/c.conf": "search kernel",
        "etc/depmod.d/0.conf.off": "search kernel",
    }
    assert chosen(files) == "extra"
