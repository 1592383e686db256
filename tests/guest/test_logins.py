"""The guest's credential helper, with a socket that is played here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hostvm.guest import Completed
from hostvm.net.credentials import Offer
from runtime.podman.logins import set_login_helpers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guest is Linux")
PROGRAM = Path(__file__).parent.parent.parent / "images/files/logins/usr/bin/docker-credential-hostvm"
LOGIN = '{"ServerURL":"localhost:5000","Username":"anna","Secret":"a\\"ServerURL\\":\\"b"}'


@pytest.fixture
def ask(tmp_path):
    """`ask(action, words, answer)`: status and output; what the socket got is in the file `got`."""
    text = PROGRAM.read_text().replace("#!/usr/bin/busybox sh", "").replace("/usr/bin/busybox sh", "sh")
    text = text.replace("/var/lib", f"{tmp_path}/var/lib")
    client = tmp_path / "s6-ipcclient"
    client.write_text(f'#!/bin/sh\nshift 2\nexec "$@" 6< {tmp_path}/answer 7> {tmp_path}/got\n')
    client.chmod(0o755)

    def run(action, words="", answer="0\n"):
        (tmp_path / "answer").write_text(answer)
        argv = ["sh", "-c", text, "docker-credential-hostvm", action]
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(argv, input=words, capture_output=True, text=True, env=env, timeout=30, check=False)
        return done.returncode, done.stdout

    return run


def test_names_of_registries_are_kept_and_nothing_else_of_a_login(ask, tmp_path):
    assert ask("list") == (0, "{}\n")
    assert ask("store", LOGIN) == (0, "")
    assert (tmp_path / "got").read_text() == f"store\n{LOGIN}\n"
    assert ask("store", LOGIN.replace("localhost:5000", "other.test")) == (0, "")
    assert ask("store", LOGIN) == (0, "")
    status, listed = ask("list")
    assert (status, json.loads(listed)) == (0, {"localhost:5000": "", "other.test": ""})
    kept = tmp_path / "var/lib/hostvm/logins/names"
    assert kept.read_text().split() == ["other.test", "localhost:5000"]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert ask("erase", "localhost:5000") == (0, "")
    assert json.loads(ask("list")[1]) == {"other.test": ""}


def test_what_the_computer_does_not_keep_is_not_listed(ask):
    assert ask("store", LOGIN, "1\nlocked\n") == (1, "locked\n")
    assert ask("store", LOGIN, "") == (1, "the computer does not answer\n")
    assert ask("get", "localhost:5000", "") == (1, "credentials not found in native keychain\n")
    assert ask("get", "localhost:5000", f"0\n{LOGIN}") == (0, LOGIN)
    assert ask("list") == (0, "{}\n")


def test_podman_is_told_of_single_registries(tmp_path):
    (tmp_path / "run/marks").mkdir(parents=True)
    (tmp_path / "run/marks/services").touch()
    program, kept = tmp_path / "docker-credential-hostvm", tmp_path / "logins/auth.json"
    places = {"/usr/bin/": f"{tmp_path}/", "/run/hostvm": f"{tmp_path}/run", "/var/lib/hostvm": str(tmp_path)}

    class Here:
        def run(self, argv, *, timeout=60.0, stdin=b""):
            for there, here in places.items():
                argv = [word.replace(there, here) for word in argv]
            done = subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout, check=False)
            return Completed(done.returncode, done.stdout, done.stderr)

    offer = Offer(servers=("r.test", "https://index.docker.io/v1/"))
    set_login_helpers(Here(), offer)
    assert not kept.exists(), "an image without the program"
    program.touch(mode=0o755)
    set_login_helpers(Here(), offer)
    assert json.loads(kept.read_text()) == {"credHelpers": {"r.test": "hostvm", "docker.io": "hostvm"}}
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    kept.write_text(json.dumps({"auths": {"x.test": {"auth": "YTpi"}}, **json.loads(kept.read_text())}))
    set_login_helpers(Here(), Offer(store=True))
    assert json.loads(kept.read_text()) == {"auths": {"x.test": {"auth": "YTpi"}}}
