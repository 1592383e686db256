from __future__ import annotations

import pytest

from images.errors import UsageError
from images.registry.reference import Reference, is_loopback, looks_like_reference, parse_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r.example/a", Reference("r.example", "a", "latest", "")),
        ("r.example:5000/team/a-b.c__d:1.2", Reference("r.example:5000", "team/a-b.c__d", "1.2", "")),
        ("localhost/a:x", Reference("localhost", "a", "x", "")),
        ("[::1]:5000/a", Reference("[::1]:5000", "a", "latest", "")),
        (f"r.example/a@{DIGEST}", Reference("r.example", "a", "", DIGEST)),
        (f"r.example/a:1@{DIGEST}", Reference("r.example", "a", "", DIGEST)),
    ],
)
def test_reading(text, expected):
    assert parse_reference(text) == expected
    assert parse_reference(str(expected)) == expected
    assert looks_like_reference(text)


@pytest.mark.parametrize(
    "text",
    ["", "docker", "team/docker", "r.example/", "/a", "r.example/A", "r.example/a:", "r.example/../a", "r.example/a//b",
     "r.example/a@sha256:12", "r.example/a:x y", "user:secret@r.example/a", "https://r.example/a", "r.example/a?x=1",
     "r.example/a#b", "r.example/a\n", "r.example:99999999/a", "r.example/" + "a" * 300],
)  # fmt: skip
def test_what_is_no_reference(text):
    with pytest.raises(UsageError, match="is not an image in a registry"):
        parse_reference(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("localhost:5000", True), ("127.0.0.1:5000", True), ("127.9.9.9", True), ("[::1]:5000", True),
     ("[::1]", True), ("localhost.example", False), ("127.0.0.1.example:80", False), ("192.168.0.1:5000", False),
     ("r.example:5000", False)],
)  # fmt: skip
def test_what_is_this_computer(host, expected):
    assert is_loopback(host) is expected


def test_docker_hub_is_served_by_another_host():
    assert parse_reference("docker.io/team/a:1").api_host == "registry-1.docker.io"
