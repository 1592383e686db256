from __future__ import annotations

import pytest

from cli.ctr_words import run_platforms, split, with_hosts_dir


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("run --rm image one echo", ("", "run", 1)),
        ("-n k8s.io --debug i pull image", ("images", "pull", 5)),
        ("--namespace=moby image ls", ("images", "ls", 3)),
        ("-a /run/x c create image one", ("containers", "create", 4)),
        ("images", ("images", "", 1)),
        ("--help", ("", "", 1)),
        ("", ("", "", 0)),
    ],
)
def test_groups_and_verbs(line, found):
    assert split(line.split()) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("run --rm --platform linux/arm64 image one uname -m", ["linux/arm64"]),
        ("run --platform=linux/arm64 -t image one", ["linux/arm64"]),
        ("-n other run --env A=1 -d --platform linux/arm image one", ["linux/arm"]),
        ("containers create --platform linux/riscv64 image one", ["linux/riscv64"]),
        ("run --null-io image one prog --platform linux/arm64", []),
        ("run --env --platform linux/arm64 image one", ["linux/arm64"]),
        ("run --label --platform", []),
        ("images pull --platform linux/arm64 image", []),
        ("tasks start one", []),
        ("run image one", []),
    ],
)
def test_platforms_whose_programs_run(line, found):
    assert run_platforms(line.split()) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("image pull r/a", "image pull --hosts-dir /etc/containerd/certs.d r/a"),
        ("-n k8s.io i push -u me r/a", "-n k8s.io i push --hosts-dir /etc/containerd/certs.d -u me r/a"),
        ("images pull --hosts-dir /own r/a", "images pull --hosts-dir /own r/a"),
        ("images pull -hosts-dir=/own r/a", "images pull -hosts-dir=/own r/a"),
        ("images ls", "images ls"),
        ("run image pull", "run image pull"),
    ],
)
def test_how_registries_are_reached_is_told_to_what_asks_them(line, found):
    assert with_hosts_dir(line.split()) == found.split()
