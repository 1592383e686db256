from __future__ import annotations

import os
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm import paths
from hostvm.errors import SpecError
from hostvm.paths import MachinePaths, check_name, home, is_name, machine_names, run, run_folder


@pytest.mark.parametrize("name", ["default", "a", "ci-2", "a" * 24])
def test_good_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "Box", "a b", "-a", "a-", "../x", "a/b", "a" * 25, "ä", "a\n"])
def test_bad_names_are_refused_with_an_example(name):
    with pytest.raises(SpecError) as caught:
        check_name(name)
    assert "hostvm start" in caught.value.resolution


@pytest.mark.parametrize("name", ["con", "nul", "aux", "prn", "com1", "lpt9"])
def test_windows_devices_are_no_machines_there(monkeypatch, name):
    """Neither a folder nor a lock could have such a name."""
    monkeypatch.setattr(paths, "sys", SimpleNamespace(platform="win32"))
    with pytest.raises(SpecError) as caught:
        check_name(name)
    assert caught.value.details == "Windows has a device of that name"
    assert check_name(f"{name}-1") == f"{name}-1"
    monkeypatch.setattr(paths, "sys", SimpleNamespace(platform="linux"))
    assert check_name(name) == name


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


GOOD = r"[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?"
"""A host name's label of at most 24 letters."""


@given(st.from_regex(GOOD, fullmatch=True))
def test_a_good_name_is_that_of_its_places_alone(name):
    paths = MachinePaths.of(name)
    assert paths.folder.relative_to(home()).parts == ("machines", name)
    assert paths.lock.relative_to(home()).parts == ("locks", f"{name}.lock")
    assert paths.run_dir == run() / name
    assert run_folder(name) == str(paths.run_dir)
    assert MachinePaths.of(paths.folder.name).state == paths.state, "and is read back from them"
    paths.folder.mkdir(parents=True, exist_ok=True)
    assert name in machine_names()


@given(
    st.one_of(st.text(), st.text("az09-_./\\ A\u00e4\n", max_size=30)).filter(lambda text: not re.fullmatch(GOOD, text))
)
def test_any_other_name_is_told_and_leads_nowhere(name):
    assert not is_name(name)
    for place in (check_name, MachinePaths.of, run_folder):
        with pytest.raises(SpecError) as caught:
            place(name)
        assert f"'{name}'" in caught.value.brief
        assert caught.value.exit_status == 2
