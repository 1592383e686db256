from __future__ import annotations

import json

import pytest

from hostvm.errors import MachineError
from hostvm.paths import MachinePaths
from hostvm.state import MachineState, load_state, save_state

STATE = MachineState("u-1", "52:54:00:00:00:01", "amd64", 2222, "qemu", "sha256:ab", "2026-11-23T00:00:00Z")


@pytest.fixture
def paths(tmp_path):
    folder = tmp_path / "machines" / "box"
    folder.mkdir(parents=True)
    return MachinePaths("box", folder, tmp_path / "run" / "box")


def test_a_written_state_is_read_back(paths):
    save_state(paths, STATE)
    assert load_state(paths) == STATE
    assert paths.state.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 1}', '{"version": "one"}'])
def test_a_damaged_state_says_how_to_go_on(paths, text):
    paths.state.write_text(text)
    with pytest.raises(MachineError) as caught:
        load_state(paths)
    assert caught.value.brief == "machine box is damaged"
    assert "hostvm rm --force box" in caught.value.resolution


def test_a_state_from_the_future_is_refused(paths):
    paths.state.write_text(json.dumps({"version": 99}))
    with pytest.raises(MachineError, match="newer hostvm"):
        load_state(paths)


def test_unknown_keys_of_the_same_version_are_let_be(paths):
    save_state(paths, STATE)
    data = json.loads(paths.state.read_text()) | {"note": "kept by hand"}
    paths.state.write_text(json.dumps(data))
    assert load_state(paths) == STATE


def test_the_state_of_another_machine_is_refused(paths, tmp_path):
    save_state(paths, STATE)
    other = MachinePaths("crate", paths.folder, tmp_path / "run" / "crate")
    with pytest.raises(MachineError) as caught:
        load_state(other)
    assert "is that of machine box" in caught.value.details
    facts = json.loads(paths.state.read_text())
    del facts["machine"]  # as it was written before
    paths.state.write_text(json.dumps(facts))
    assert load_state(other) == STATE
