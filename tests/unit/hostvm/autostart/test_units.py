"""What the three systems are told, whole, and where it is put."""

from __future__ import annotations

import os
import plistlib
import sys
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

from cli import at_login
from hostvm.autostart.units import Login, launchd_plist, systemd_unit, task_xml
from hostvm.errors import HostvmError
from hostvm.platform import login

ENV = {"PATH": "/usr/bin:/bin", "HOSTVM_HOME": '/data/a "b" 100%/$HOME'}
UNIX = Login("ci", ("/opt/my venv/bin/python", "-m", "cli.main", "autostart", "run", "ci"), ENV)
WINDOWS = Login(
    "ci",
    ("C:\\Program Files\\pythonw.exe", "-P", "-m", "cli.at_login", "HOSTVM_HOME=C:\\a&b", "PATH=C:\\a b\\", "ci"),
    user="PC\\me",
)


def test_systemd(golden):
    golden("hostvm-ci.service", systemd_unit(UNIX))


def test_launchd(golden):
    data = launchd_plist(UNIX)
    golden("io.hostvm.ci.plist", data.decode())
    assert plistlib.loads(data)["ProgramArguments"] == list(UNIX.argv)


def test_task_scheduler(golden):
    data = task_xml(WINDOWS)
    golden("task.xml", data.decode("utf-16"))
    assert ET.fromstring(data).tag.endswith("}Task")


def test_windows_opens_no_window_where_it_need_not(tmp_path):
    """It stood there while the machine ran, and closing it ended that."""
    own = [str(tmp_path / "python.exe"), "-P", "-m", "cli.at_login"]
    words = ("-P", "-m", "cli.at_login", "HOSTVM_HOME=C:\\x", "PATH=C:\\y", "ci")
    env = {"PATH": "C:\\y", "HOSTVM_HOME": "C:\\x"}
    assert login.task_argv(own, env, "ci") == (own[0], *words)
    windowless = tmp_path / "pythonw.exe"
    windowless.touch()
    assert login.task_argv(own, env, "ci") == (str(windowless), *words)


def test_what_is_run_there_has_its_variables_and_keeps_its_last_words(tmp_path, monkeypatch):
    home = tmp_path / "home=é"
    (home / "machines" / "ci").mkdir(parents=True)
    (tmp_path / "python.exe").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "pythonw.exe"))
    monkeypatch.setenv("HOSTVM_HOME", "elsewhere")
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, None)  # as pythonw has it
    ran = []

    def hostvm(argv):
        ran.append((argv, os.environ["HOSTVM_HOME"], sys.executable))
        sys.stderr.write("hostvm: error: no room for é\n")
        return 1

    monkeypatch.setattr("cli.main.main", hostvm)
    assert at_login.main([f"HOSTVM_HOME={home}", "ci"]) == 1
    assert ran == [(["autostart", "run", "ci"], str(home), str(tmp_path / "python.exe"))]
    kept = (home / "machines" / "ci" / "agent.log").read_text(encoding="utf-8")
    assert kept.endswith(" autostart: hostvm: error: no room for é\n")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="systemd's folders")
class TestSystemdFolders:
    @pytest.fixture(autouse=True)
    def _home(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.setattr(login, "_BOOTED", tmp_path)
        self.told, self.active = [], False

        def run(argv, **_):
            if "is-active" in argv:
                return SimpleNamespace(status=0 if self.active else 3)
            return self.told.append(argv)

        monkeypatch.setattr(login.process, "run", run)
        self.units = tmp_path / "systemd" / "user"

    def test_it_is_installed_once_and_removed_whole(self):
        for _ in range(2):
            login.install(login.login_of("ci"))
        assert login.is_installed("ci")
        link = self.units / "default.target.wants" / "hostvm-ci.service"
        assert link.resolve() == self.units / "hostvm-ci.service"
        assert "autostart" in link.read_text()
        assert self.told == [["systemctl", "--user", "daemon-reload"]] * 2
        assert login.remove("ci")
        assert not login.remove("ci")
        assert [path for path in self.units.rglob("*") if not path.is_dir()] == []

    def test_of_one_that_runs_systemd_keeps_the_file_by_which_to_stop_it(self):
        login.install(login.login_of("ci"))
        self.active = True
        assert login.remove("ci")
        assert not login.is_installed("ci")
        assert (self.units / "hostvm-ci.service").exists()
        self.active = False
        assert not login.remove("ci")
        assert [path for path in self.units.rglob("*") if not path.is_dir()] == []

    def test_without_systemd_nothing_is_written(self, monkeypatch, tmp_path):
        monkeypatch.setattr(login, "_BOOTED", tmp_path / "missing")
        with pytest.raises(HostvmError, match="not started by systemd") as caught:
            login.install(login.login_of("ci"))
        assert "hostvm autostart run ci" in caught.value.resolution
        assert not self.units.exists()

    def test_folders_of_this_computer_go_along(self, monkeypatch):
        monkeypatch.setenv("HOSTVM_HOME", "/elsewhere")
        assert login.login_of("ci").env["HOSTVM_HOME"] == "/elsewhere"

    def test_a_relative_folder_is_the_one_of_now(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOSTVM_HOME", "machines")
        assert login.login_of("ci").env["HOSTVM_HOME"] == str(tmp_path / "machines")
