from __future__ import annotations

import dataclasses

import pytest

from hostvm import spec as module
from hostvm.errors import SpecError
from hostvm.sizes import GIB
from hostvm.spec import SETTINGS, MachineSpec, default_spec, load_spec, parse_settings, render_spec


@pytest.fixture(autouse=True)
def small_host(monkeypatch):
    monkeypatch.setattr(module, "host_memory", lambda: 8 * GIB)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 4)


def test_every_field_is_declared_as_a_setting():
    assert [setting.key for setting in SETTINGS] == [field.name for field in dataclasses.fields(MachineSpec)]


def test_the_default_fits_the_host():
    assert default_spec() == MachineSpec(cpus=4, memory=4 * GIB, disk=60 * GIB)


def test_a_written_spec_is_read_back(tmp_path):
    path = tmp_path / "machine.yaml"
    wanted = parse_settings(
        {
            "cpus": 3,
            "memory": "3GiB",
            "driver": "qemu",
            "autostart": False,
            "ports": {"expose": "lan"},
            "idle": {"action": "pause"},
        },
        default_spec(),
        "x",
    )
    path.write_text(render_spec(wanted))
    assert load_spec(path) == wanted


def test_an_empty_file_means_the_defaults(tmp_path):
    path = tmp_path / "machine.yaml"
    path.write_text("")
    assert load_spec(path) == default_spec()


def test_all_faults_are_told_at_once():
    wrong = {
        "cpus": 0,
        "memory": "9GiB",
        "disk": "10",
        "accel": "fast",
        "colour": "red",
        "autostart": "yes",
        "ports": {"open": 1},
        "idle": {"after": 5, "action": "hibernate"},
    }
    with pytest.raises(SpecError) as caught:
        parse_settings(wrong, default_spec(), "machine.yaml")
    told = caught.value.details.splitlines()
    assert [line.split(":")[0].split(".")[0] for line in told] == [*wrong, "idle"]
    assert "must be from 1 to 4" in told[0]
    assert "more than this computer has (8GiB)" in told[1]
    assert "needs a unit, for example 10GiB" in told[2]
    assert "kvm, hvf, whpx, tcg" in told[3]
    assert "unknown key; known ones are cpus, memory, disk" in told[4]
    assert "ports.open: unknown key; known ones are expose" in told[6]
    assert told[7] == "idle.after: 5 needs a unit, for example 5m"
    assert told[8] == "idle.action: hibernate must be one of: suspend, pause, stop, none"
    assert caught.value.exit_status == 2
    assert "machine.yaml" in caught.value.resolution


def test_what_yaml_makes_something_else_of_is_told_with_its_line(tmp_path):
    path = tmp_path / "machine.yaml"
    path.write_text(
        "cpus: 02\nmemory: 010\nimage: ''\nengine: ''\n"
        "daemon:\n  mode: 0644\n  log-opts: &x {max-file: '3'}\n  other: {<<: *x}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert caught.value.details.splitlines() == [
        "line 2: memory: 010 is 8 or 10, as one reads it; write it without the 0 in front, or in quotes",
        'line 3: image: "" names no image; see the stored ones with `hostvm image ls`, and `docker` is the usual one',
        'line 4: engine: "" must be one of: docker, podman, containerd',
        "line 6: daemon.mode: 0644 is 420 or 644, as one reads it; write it without the 0 in front, or in quotes",
        "line 8: daemon.other.'<<': merges are not read; write out what is meant, or KEY: *NAME",
    ]


@pytest.mark.parametrize("text", ["- a\n- b\n", "cpus: [", "just words"])
def test_a_file_that_holds_no_settings_is_refused(tmp_path, text):
    path = tmp_path / "machine.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert str(path) in caught.value.brief
    assert caught.value.resolution


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), (" 2 h ", 7200), ("5", None), ("0s", None), ("m", None), (True, None)],
)
def test_times(text, seconds):
    if seconds is None:
        with pytest.raises(SpecError, match="wrong setting"):
            parse_settings({"idle": {"after": text}}, default_spec(), "x")
    else:
        spec = parse_settings({"idle": {"after": text}}, default_spec(), "x")
        assert spec.idle.after == seconds
        assert parse_settings({"idle": spec.idle.render()}, default_spec(), "x") == spec
