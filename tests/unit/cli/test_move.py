"""move: between which machines. What it carries is tested in runtime."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cli.commands import move
from cli.main import main
from hostvm.paths import MachinePaths


@pytest.mark.parametrize(
    ("words", "source"),
    [([], "lab"), (["-m", "ci"], "ci"), (["--from", "other"], "other")],
)
def test_a_container_is_moved_from_the_chosen_machine(monkeypatch, words, source):
    monkeypatch.setenv("HOSTVM_MACHINE", "lab")
    for name in ("default", "lab", "ci", "other", "target"):
        MachinePaths.of(name).folder.mkdir(parents=True)
    woken = []
    monkeypatch.setattr(move, "ensure_ready", lambda paths: woken.append(paths.name))
    monkeypatch.setattr(
        move, "move_container", lambda *_: SimpleNamespace(name="web", carried=0, volumes=(), running=True)
    )
    assert main(["move", "web", "--to", "target", *words]) == 0
    assert woken == [source, "target"]
