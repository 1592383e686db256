from __future__ import annotations

import pytest

from cli.platform_words import named_platforms


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("run --rm --platform linux/arm64 busybox uname -m", ["linux/arm64"]),
        ("run --platform=linux/arm64 -it busybox", ["linux/arm64"]),
        ("container create -v /a:/b --platform linux/arm busybox", ["linux/arm"]),
        ("run busybox prog --platform linux/arm64", []),
        ("run --name --platform busybox", []),
        ("build --platform linux/amd64,linux/arm64 .", ["linux/amd64", "linux/arm64"]),
        ("build . --platform linux/arm64", ["linux/arm64"]),
        ("buildx build -t a --platform local,linux/arm64 .", ["linux/arm64"]),
        ("buildx --builder x build --platform linux/arm64 .", ["linux/arm64"]),
        ("builder build --platform linux/arm64 .", ["linux/arm64"]),
        ("compose run --rm web prog --platform linux/riscv64", []),
        ("compose -f a.yaml run web -- --platform=linux/riscv64", []),
        ("pull --platform linux/riscv64 debian", []),
        ("build --platform", []),
        ("ps", []),
    ],
)
def test_named_platforms(words, found):
    assert named_platforms(words.split(), {}) == found


def test_the_variable_counts_where_no_option_does():
    env = {"DOCKER_DEFAULT_PLATFORM": "linux/arm64"}
    assert named_platforms(["run", "busybox"], env) == ["linux/arm64"]
    assert named_platforms(["run", "--platform", "linux/arm", "busybox"], env) == ["linux/arm"]
    assert named_platforms(["compose", "up", "-d"], env) == ["linux/arm64"]
    assert named_platforms(["images"], env) == []
