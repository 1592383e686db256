"""dockerd while its containerd is away: containerd's finish, with a stand-in for the supervisor."""

from __future__ import annotations

import socket
import sys

import pytest

NAME = "docker/usr/lib/hostvm/services/containerd/finish"
PROGRAMS = {"s6-svc": 'echo "$*"'}
PLACES = {
    "/run/containerd/containerd.sock": "$root/socket",
    "/run/service/dockerd": "dockerd",
    "/run/hostvm/stopping": "$root/stopping",
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guest is Linux")


@pytest.fixture
def ended(tmp_path, run_script, monkeypatch):
    """What the supervisor is told when one of containerd's lives ends, and how often was slept; the next one listens
    after so many rounds."""
    monkeypatch.chdir(tmp_path)  # a socket's name may not be long

    def run(*, listened=True, again=0):
        for name in ("socket", "new") if listened else ("new",):
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(name)
        prelude = (
            "slept=0\n"
            f"usleep() {{ echo . >> $root/slept; [ $((slept += 1)) -ne {again} ] || mv $root/new $root/socket; }}"
        )
        said = run_script(NAME, prelude, PROGRAMS, PLACES)
        slept = tmp_path / "slept"
        return said, slept.read_text().count(".") if slept.exists() else 0

    return run


def test_it_is_held_until_the_next_one_listens(ended):
    assert ended(again=50) == (["-p dockerd", "-c dockerd"], 50)


def test_it_goes_on_only_when_it_would_look_again(ended):
    """A quick computer's containerd is back before that."""
    assert ended(again=3) == (["-p dockerd", "-c dockerd"], 30)


def test_it_is_not_held_for_ever(ended):
    assert ended() == (["-p dockerd", "-c dockerd"], 600)


def test_it_is_not_held_by_one_that_never_listened(ended):
    assert ended(listened=False) == ([], 0)


def test_it_is_not_held_while_the_guest_stops(ended, tmp_path):
    (tmp_path / "stopping").mkdir()
    assert ended() == ([], 0)
