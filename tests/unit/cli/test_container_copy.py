"""Which words are a `docker cp` that is made here."""

from __future__ import annotations

import pytest

from cli.container_copy import Copy, find_copy, human

ALL = frozenset({"archive", "follow-link", "quiet"})


@pytest.mark.parametrize(
    ("words", "copy"),
    [
        (["cp", "./x", "c:/y"], Copy("c", "/y", "./x", True, frozenset())),
        (["cp", "c:/y", "x"], Copy("c", "/y", "x", False, frozenset())),
        (["container", "cp", "c:/y", "-"], Copy("c", "/y", "-", False, frozenset())),
        (
            ["cp", "-aL", "x", "--quiet", "c:y"],
            Copy("c", "y", "x", True, frozenset({"archive", "follow-link", "quiet"})),
        ),
        (["cp", "--archive=true", "--quiet=1", "x", "c:y"], Copy("c", "y", "x", True, frozenset({"archive", "quiet"}))),
        (["cp", "-aL=T", "x", "c:y"], Copy("c", "y", "x", True, frozenset({"archive", "follow-link"}))),
        (["cp", "--archive", "--archive=false", "x", "c:y"], Copy("c", "y", "x", True, frozenset())),
        (["cp", "-a=0", "x", "c:y"], Copy("c", "y", "x", True, frozenset())),
        (["cp", "--archive=maybe", "x", "c:y"], None),
        (["cp", "-=true", "x", "c:y"], None),
        (["cp", "--", "-x", "c:/y"], Copy("c", "/y", "-x", True, frozenset())),
        (["cp", "./a:b", "c:/y"], Copy("c", "/y", "./a:b", True, frozenset())),
        (["cp", "/a:b", "c:/y"], Copy("c", "/y", "/a:b", True, frozenset())),
        (["-D", "cp", "c:/y", "x"], Copy("c", "/y", "x", False, frozenset())),
        (["--log-level=debug", "container", "cp", "c:/y", "x"], Copy("c", "/y", "x", False, frozenset())),
        (["-l", "debug", "cp", "x", "c:/y"], Copy("c", "/y", "x", True, frozenset())),
        (["-H", "tcp://other", "cp", "x", "c:/y"], None),
        # docker's client has something to say about these.
        (["cp", "x", "y"], None),
        (["cp", "c:/x", "d:/y"], None),
        (["cp", "x"], None),
        (["cp", "", "c:/y"], None),
        (["cp", "x", "y", "c:/z"], None),
        (["cp", "--help"], None),
        (["cp", "-x", "x", "c:/y"], None),
        (["run", "cp", "x", "c:/y"], None),
        (["exec", "cp", "a:b", "c"], None),
    ],
)
def test_what_is_a_copy(words, copy):
    assert find_copy(words) == copy


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (2048, "2.05kB"), (1_000_000, "1MB"), (3.5e12, "3.5TB")])
def test_sizes_as_docker_writes_them(size, text):
    assert human(size) == text
