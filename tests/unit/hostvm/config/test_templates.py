"""Templates: those that come with hostvm are sound, one's own are read as machine.yaml is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostvm.config.templates import bundled, template_settings
from hostvm.errors import SpecError
from hostvm.sizes import MIB
from hostvm.spec import default_spec


def test_all_that_come_with_hostvm_are_sound_and_say_what_they_are_for():
    assert [template.name for template in bundled()] == [
        "ci",
        "containerd",
        "default",
        "docker",
        "low-memory",
        "podman",
        "rootless",
    ]
    for template in bundled():
        assert len(template.about) > 20
        assert replace(default_spec(), **template_settings(template.name))


def test_what_they_say():
    assert template_settings("default") == {}
    assert template_settings("ci")["mounts"] == ()
    assert template_settings("ci")["names"] == 0
    assert template_settings("low-memory")["memory"] == 768 * MIB


def test_a_file_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("names: off\n")
    monkeypatch.chdir(tmp_path)
    assert template_settings("mine.yaml") == template_settings(str(tmp_path / "mine.yaml")) == {"names": 0}


def test_what_cannot_be_used(tmp_path):
    with pytest.raises(SpecError) as caught:
        template_settings("nix")
    assert "ci, containerd, default, docker" in caught.value.details
    with pytest.raises(SpecError, match="cannot be read"):
        template_settings(str(tmp_path / "missing.yaml"))
    (tmp_path / "wrong.yaml").write_text("cpus: 1\ncolour: red\n")
    with pytest.raises(SpecError) as caught:
        template_settings(str(tmp_path / "wrong.yaml"))
    assert caught.value.details.startswith("line 2: colour: unknown key")
