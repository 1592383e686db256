"""Docker's own options, before the command, for the client in the guest."""

from __future__ import annotations

import pytest

from cli.client_options import for_guest
from hostvm.errors import ForwardError

SOCK = "/run/hostvm/default/docker.sock"


def changed(line: str, *shared: str) -> list[str]:
    return for_guest(line.split(), SOCK, lambda paths: all(one.startswith(shared) for one in paths), " -m lab")


@pytest.mark.parametrize("front", ["-H unix://{0}", "--host unix://{0}", "--host=unix://{0}", "-Hunix://{0}"])
def test_the_machines_own_socket_is_the_engine_that_is_asked_anyhow(front):
    """In the guest there is no such file."""
    assert changed(f"-D {front.format(SOCK)} -l info ps -H x") == ["-D", "-l", "info", "ps", "-H", "x"]


@pytest.mark.parametrize("line", ["-H unix:///var/run/docker.sock ps", "--context lab ps", "-H", "ps --config x"])
def test_other_engines_and_other_words_stay(line):
    assert changed(line) == line.split()


def test_settings_of_a_shared_folder_by_their_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert changed("--config set ps", str(tmp_path)) == ["--config", f"{tmp_path}/set", "ps"]
    assert changed("--config=set ps", str(tmp_path)) == ["--config", f"{tmp_path}/set", "ps"]


def test_settings_that_the_guest_does_not_have_are_not_passed_over_in_silence():
    with pytest.raises(ForwardError, match=r"/home/ann/\.ci of --config is not shared") as caught:
        changed("--config /home/ann/.ci pull x", "/work")
    assert "hostvm mount add /home/ann/.ci -m lab" in str(caught.value.resolution)
