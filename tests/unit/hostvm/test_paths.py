from __future__ import annotations

import os

import pytest

from hostvm.errors import SpecError
from hostvm.paths import MachinePaths, check_name, machine_names, run_folder


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


def test_the_quick_way_to_the_run_folder_leads_to_the_same_place(monkeypatch, tmp_path):
    for value in (str(tmp_path), "relative", None):
        monkeypatch.setenv("HOSTVM_RUN", value) if value else monkeypatch.delenv("HOSTVM_RUN")
        assert run_folder("box") == str(MachinePaths.of("box").run_dir)
    with pytest.raises(SpecError):
        run_folder("../box")


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


def test_without_a_login_session_the_sockets_lie_in_a_folder_of_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("HOSTVM_RUN")
    monkeypatch.setattr("hostvm.paths.sys.platform", "linux")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert MachinePaths.of("box").run_dir == tmp_path / "hostvm" / "box"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert str(MachinePaths.of("box").run_dir).endswith(f"/hostvm-{os.getuid()}/box")


def test_a_folder_in_a_place_everybody_may_write_to_is_closed(monkeypatch, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "run").mkdir(mode=0o755)
    monkeypatch.setenv("HOSTVM_RUN", str(shared / "run"))
    paths = MachinePaths.of("box")
    paths.make_run_dir()
    assert (shared / "run").stat().st_mode & 0o777 == 0o700
    assert paths.run_dir.stat().st_mode & 0o777 == 0o700


def test_a_users_own_folder_keeps_its_mode(monkeypatch, tmp_path):
    (tmp_path / "run").mkdir(mode=0o755)
    monkeypatch.setenv("HOSTVM_RUN", str(tmp_path / "run"))
    MachinePaths.of("box").make_run_dir()
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o755
