from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostvm import state
from hostvm.errors import MachineError
from hostvm.machines import domain
from hostvm.machines.domain import make_domain
from hostvm.paths import MachinePaths
from hostvm.sizes import GIB
from hostvm.spec import default_spec, load_spec
from hostvm.state import MachineState, load_state, save_state
from images.progress import NullProgress
from images.store import Image

FORMATS = Path(__file__).parent / "formats"

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


def damage(paths, **values):
    save_state(paths, STATE)
    facts = json.loads(paths.state.read_text()) | values
    paths.state.write_text(json.dumps({key: value for key, value in facts.items() if value is not ...}, default=str))


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("ssh_port", "x", "is not a port's number"),
        ("ssh_port", True, "is not a port's number"),
        ("ssh_port", 65536, "is not a port's number"),
        ("uuid", None, "is not a text"),
        ("image", ["sha256:ab"], "is not a text"),
        ("wanted_off", 1, "is not true or false"),
        ("disks", "data", "is not a list of texts"),
        ("disks", [1], "is not a list of texts"),
        ("owner", [1], "is not number, start and boot of a process"),
        ("owner", 5, "is not number, start and boot of a process"),
        ("owner", [1, 2.0, 3], "is not number, start and boot of a process"),
        ("version", True, "is not a whole number"),
        ("version", "1", "is not a whole number"),
        ("version", 0, "version 0 cannot be read"),
        ("version", float("inf"), "OverflowError"),
    ],
)
def test_a_value_of_another_kind_is_damage(paths, key, value, why):
    damage(paths, **{key: value})
    with pytest.raises(MachineError) as caught:
        load_state(paths)
    assert caught.value.brief == "machine box is damaged"
    assert caught.value.details.startswith(f"{paths.state}: ")
    assert why in caught.value.details
    assert "hostvm rm --force box" in caught.value.resolution


def test_every_fault_is_told_at_once(paths):
    damage(paths, mac=..., created=..., ssh_port="x")
    with pytest.raises(MachineError) as caught:
        load_state(paths)
    assert [line.split(": ", 1)[1] for line in caught.value.details.splitlines()] == [
        "mac is missing",
        'ssh_port: "x" is not a port\'s number',
        "created is missing",
    ]
    assert caught.value.resolution.startswith(f"correct it in: {paths.state}\n")


@pytest.mark.parametrize("owner", [None, [12.0, 3.5], [12, 3.5, "boot"]])
def test_owners_of_before_and_now(paths, owner):
    damage(paths, owner=owner)
    assert load_state(paths).owner == owner


def test_every_key_has_a_kind():
    assert {one.type for one in fields(MachineState)} <= set(state._KINDS)


def test_an_older_version_is_changed_as_it_is_read_and_written_so_the_next_time(paths, monkeypatch):
    def second(facts):
        return {**facts, "ssh_port": facts["port"]}

    def third(facts):
        assert facts["version"] == 2
        return {**facts, "image": "sha256:" + facts["image"]}

    damage(paths, ssh_port=..., port=40123, image="ab")
    old = paths.state.read_bytes()
    monkeypatch.setattr(state, "VERSION", 3)
    monkeypatch.setattr(state, "MIGRATIONS", {1: second, 2: third})
    found = load_state(paths)
    assert (found.version, found.ssh_port, found.image) == (3, 40123, "sha256:ab")
    assert paths.state.read_bytes() == old, "who only looks changes nothing"
    save_state(paths, found)
    assert json.loads(paths.state.read_text())["version"] == 3
    assert load_state(paths) == found
    monkeypatch.setattr(state, "VERSION", 2)
    with pytest.raises(MachineError, match="newer hostvm"):
        load_state(paths)


def test_there_is_a_step_from_each_version_to_the_next():
    assert sorted(state.MIGRATIONS) == list(range(1, state.VERSION))


def test_a_step_that_fails_on_what_it_is_given_is_damage(paths, monkeypatch):
    damage(paths)
    monkeypatch.setattr(state, "VERSION", 2)
    monkeypatch.setattr(state, "MIGRATIONS", {1: lambda facts: {"x": facts["nothing"]}})
    with pytest.raises(MachineError, match="is damaged") as caught:
        load_state(paths)
    assert "version 1 cannot be read: KeyError('nothing')" in caught.value.details


@pytest.mark.parametrize("version", range(1, state.VERSION + 1))
def test_what_the_first_hostvm_of_each_format_wrote_is_a_machine_still(paths, tmp_path, monkeypatch, version):
    """The files are as that hostvm wrote them, and are not to be changed."""
    for file in (FORMATS / str(version)).iterdir():
        shutil.copy(file, paths.folder)
    found, spec = load_state(paths), load_spec(paths.spec)
    assert found == MachineState(
        "7d54c738-2c2e-4f0a-9a6b-3f4d1c1b5a90",
        "52:54:00:7d:54:c7",
        "amd64",
        40123,
        "qemu",
        "sha256:" + "3f" * 32,
        "2026-11-23T15:04:05Z",
    )
    assert (spec.cpus, spec.memory, spec.disk) == (1, GIB, 60 * GIB)
    assert (spec.driver, spec.engine, spec.image, spec.autostart) == ("auto", "docker", "docker", True)
    assert spec.mounts == default_spec().mounts, "what that version did not know has its default"

    image = Image(
        "3f" * 32, tmp_path / "image", {"console": "ttyS0", "cmdline": "quiet", "cmdline_tcg": "", "files": {}}
    )
    image.path.mkdir()
    image.initramfs.write_bytes(b"initramfs")
    monkeypatch.setattr(domain, "stored_image", lambda _: image)
    monkeypatch.setattr(domain, "complete_qemu", lambda *_: SimpleNamespace(path=Path("/usr/bin/qemu"), firmware=()))
    monkeypatch.setattr(domain, "select_accel", lambda *_, **__: "tcg")
    paths.make_run_dir()
    made = make_domain(paths, spec, found, {}, NullProgress(), remote=False, saves_state=True)
    assert (made.name, made.uuid, made.mac, made.ssh_port) == ("box", found.uuid, found.mac, 40123)
    assert (made.cpus, made.memory, made.kernel, made.data_disk) == (1, GIB, image.kernel, paths.data_disk)
    assert paths.initramfs.read_bytes().startswith(b"initramfs")
    assert made.generation, "what it is suspended to may be gone on from twice"
    assert not make_domain(paths, spec, found, {}, NullProgress(), remote=False, saves_state=False).generation
    arm64 = replace(found, arch="arm64")
    assert not make_domain(paths, spec, arm64, {}, NullProgress(), remote=False, saves_state=True).generation

    facts = domain.domain_facts(made)
    assert domain.domain_of(json.loads(json.dumps(facts))) == made
    del facts["generation"]
    assert not domain.domain_of(facts).generation, "what was saved before it was there is resumed without"
    save_state(paths, found)
    assert json.loads(paths.state.read_text())["machine"] == "box", "written as today"
