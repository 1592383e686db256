"""What `hostvm registry gc` runs in the guest, run here: the real program cleans a folder that no registry serves."""

from __future__ import annotations

import os
import subprocess

import pytest
from registries import PROGRAM

from hostvm.guest import Completed
from runtime.registry import guest as inside
from runtime.registry.files import config
from runtime.registry.wanted import Wanted

BLOB = "docker/registry/v2/blobs/sha256/01/01" + 62 * "0"


class Here:
    """Runs a guest's program on this computer; the guest's folders are below `root`."""

    def __init__(self, root):
        self.root = root
        (root / "run").mkdir()
        (root / "s6-svc").write_text("#!/bin/sh\n")
        (root / "s6-svc").chmod(0o755)

    def place(self, word):
        return word.replace("/run/hostvm", f"{self.root}/run").replace("/var/lib/hostvm", str(self.root))

    def run(self, argv, *, timeout, stdin=b""):
        env = {**os.environ, "PATH": f"{self.root}:{PROGRAM.parent}:{os.environ['PATH']}"}
        words = [self.place(word) for word in argv]
        done = subprocess.run(words, input=stdin, capture_output=True, env=env, timeout=timeout, check=False)
        return Completed(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def clean(tmp_path, monkeypatch):
    """Cleans a registry whose folder has these files."""
    assert PROGRAM.is_file(), f"no {PROGRAM}: run `make setup`"
    monkeypatch.setattr(inside, "_wait_answer", lambda *_: None)
    here = Here(tmp_path)

    def run(*names):
        settings = tmp_path / "run/registry/config.yml"
        settings.parent.mkdir()
        settings.write_text(here.place(str(config(Wanted()))).replace("'", '"').replace("True", "true"))
        data = tmp_path / "registry/data"
        data.mkdir(parents=True)
        for name in names:
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).write_bytes(b"x" * 5000)
        return inside.clean(here, Wanted(), "ci"), data

    return run


@pytest.mark.parametrize("names", [(), ("docker/registry/v2/repositories/a/_uploads/1/data",)])
def test_without_an_image_there_is_nothing_to_do(clean, names):
    done, _ = clean(*names)
    assert done["blobs"] == 0
    assert done["before"] == done["after"]


def test_what_no_image_needs_goes(clean):
    done, data = clean(f"{BLOB}/data", "docker/registry/v2/repositories/a/_layers/x")
    assert done["blobs"] == 1
    assert done["after"] < done["before"]
    assert not (data / BLOB).exists()
