from __future__ import annotations

import pytest

from hostvm.errors import SpecError
from hostvm.paths import MachinePaths, check_name, machine_names


@pytest.mark.parametrize("name", ["default", "a", "ci-2", "a" * 24])
def test_good_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "Box", "a b", "-a", "a-", "../x", "a/b", "a" * 25, "ä", "a\n"])
def test_bad_names_are_refused_with_an_example(name):
    with pytest.raises(SpecError) as caught:
        check_name(name)
    assert "hostvm start" in caught.value.resolution


def test_the_environment_says_where(monkeypatch, tmp_path):
    monkeypatch.setenv("HOSTVM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOSTVM_RUN", str(tmp_path / "run"))
    paths = MachinePaths.of("box")
    assert paths.state == tmp_path / "home" / "machines" / "box" / "state.json"
    assert paths.docker_sock == tmp_path / "run" / "box" / "docker.sock"


def test_a_long_folder_is_refused_before_a_socket_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("HOSTVM_RUN", str(tmp_path / ("d" * 100)))
    with pytest.raises(SpecError) as caught:
        MachinePaths.of("box").check_socket_length()
    assert "export HOSTVM_RUN=" in caught.value.resolution


def test_only_folders_with_a_machines_name_are_machines(monkeypatch, tmp_path):
    monkeypatch.setenv("HOSTVM_HOME", str(tmp_path))
    assert machine_names() == []
    for name in ("b", "a", ".a.new", "Not"):
        (tmp_path / "machines" / name).mkdir(parents=True)
    (tmp_path / "machines" / "file").touch()
    assert machine_names() == ["a", "b"]
