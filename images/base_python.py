"""A Python to copy an application into, and nothing else: no shell, no package manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from images.accounts import add_accounts
from images.recipe import User
from images.rootfs import BUNDLE, add_ca_bundle, package_tree
from images.tree import merge_usr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from images.archive import Archive, Package
    from images.rootfs import Unpacked
    from images.tree import Tree

PACKAGES = ("base-files", "base-passwd", "ca-certificates", "libpython3-stdlib", "netbase", "python3-minimal", "tzdata")
# What packages want for their maintainer scripts, which do not run here, and what would bring a shell.
EXCLUDE = (
    *("awk", "debconf", "debconf-2.0", "dpkg", "libdebconfclient0", "libselinux1", "openssl", "readline-common"),
    *(
        "gcc-12-base",
        "gcc-14-base",
        "gcc-15-base",
        "gcc-16-base",
        "openssl-provider-legacy",
        "mailcap",
        "libaudit-common",
    ),
)
ONLY_FOR_SCRIPTS = frozenset({"libdebconfclient0", "libselinux1"})
"""Those of them that programs of added packages may want as well (`cp` of coreutils)."""

NONROOT = 65532
"""The user `nonroot`, with the number that other images without a shell give it."""
_DROP = (
    *("usr/share/doc/*/[!c]*", "usr/share/doc/*/changelog*", "usr/share/info/*", "usr/share/lintian/*"),
    *("usr/share/man/*", "usr/share/locale/*", "usr/share/bug/*", "usr/share/pixmaps/*", "usr/share/applications/*"),
    *("usr/lib/*/gconv/*", "usr/lib/valgrind*", "usr/share/menu*", "var/lib/dpkg/*", "usr/sbin/*", "etc/update-motd.d"),
    *(
        "usr/share/python3/*",
        "usr/bin/py3clean",
        "usr/bin/py3compile",
        "usr/bin/py3versions",
        "usr/bin/getconf",
        "usr/bin/getent",
    ),
    *("usr/bin/iconv", "usr/bin/ldd", "usr/bin/locale", "usr/bin/localedef", "usr/bin/pldd", "usr/bin/sotruss"),
    *("usr/share/base-passwd", "usr/bin/tzselect", "usr/bin/zdump", "usr/share/gcc", "usr/share/gdb"),
)


def choose_python(archive: Archive, added: Sequence[str]) -> list[Package]:
    """The bare Python's packages, and what `added` ones need beside them.

    :raises ImageError: see `resolve`.
    """
    needed: set[str] = set()
    if added:
        closure = archive.resolve(added, [name for name in EXCLUDE if name not in ONLY_FOR_SCRIPTS])
        needed.update(ONLY_FOR_SCRIPTS.intersection(package.name for package in closure))
    return archive.resolve([*PACKAGES, *added], [name for name in EXCLUDE if name not in needed])


def python_tree(unpacked: Sequence[Unpacked]) -> Tree:
    """The packages' tree without what a program does not need; accounts root, nobody and nonroot among Debian's.

    :raises ImageError: a package lacks what it should have.
    """
    tree = package_tree(unpacked)
    merge_usr(tree)
    add_ca_bundle(tree)
    # Where OpenSSL looks; package openssl would bring links there, and a program with them.
    tree.add_link("usr/lib/ssl/cert.pem", f"/{BUNDLE}")
    tree.add_link("usr/lib/ssl/certs", "/etc/ssl/certs")
    add_accounts(
        tree,
        (User("nonroot", NONROOT, NONROOT, "/home/nonroot", "/usr/sbin/nologin"),),
        {"nonroot": NONROOT},
    )
    tree.drop(_DROP)
    tree.add_dir("tmp", 0o1777)
    tree.add_dir("home/nonroot", 0o700, NONROOT, NONROOT)
    return tree
