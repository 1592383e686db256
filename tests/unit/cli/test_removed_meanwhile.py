"""Commands that waited for the one that removed their machine: they say that it is gone, not that it is damaged."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest

from cli.commands import autostart, mount, registry, settings, space, upgrade
from cli.manage import build_parser
from hostvm import locks
from hostvm.errors import MachineError
from hostvm.paths import MachinePaths
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, save_state


@pytest.fixture
def removed(monkeypatch):
    """A machine that goes while its lock is waited for."""
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())))
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "2026-11-24T18:00:00Z"))

    @contextmanager
    def lock(waiting):
        assert waiting.name == "box"
        shutil.rmtree(paths.folder)
        yield

    monkeypatch.setattr(locks, "machine_lock", lock)
    monkeypatch.setattr(autostart, "machine_lock", lock)
    monkeypatch.setattr(autostart.signal, "signal", lambda *_: None)
    monkeypatch.setattr(upgrade, "_wanted", lambda *_: None)
    monkeypatch.setattr(space, "ensure_ready", lambda _: None)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (settings.set_, ["set", "box", "cpus=2"]),
        (mount.add, ["mount", "add", "-m", "box", "FOLDER:/mnt/more"]),
        (mount.remove, ["mount", "rm", "-m", "box", "/"]),
        (upgrade.upgrade, ["upgrade", "box"]),
        (registry.start, ["registry", "start", "-m", "box"]),
        (registry.stop, ["registry", "stop", "-m", "box"]),
        (registry.clean, ["registry", "gc", "-m", "box"]),
        (space.prune, ["prune", "box"]),
        (autostart.run, ["autostart", "run", "box"]),
    ],
)
def test_a_machine_that_was_removed_meanwhile_is_told_as_gone(removed, tmp_path, act, words):
    options = build_parser().parse_args([word.replace("FOLDER", str(tmp_path)) for word in words])
    with pytest.raises(MachineError, match="there is no machine called box"):
        act(options)
