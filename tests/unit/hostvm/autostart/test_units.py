"""What the three systems are told, whole, and where it is put."""

from __future__ import annotations

import plistlib
import sys
from xml.etree import ElementTree as ET

import pytest

from hostvm.autostart.units import Login, launchd_plist, systemd_unit, task_xml
from hostvm.errors import HostvmError
from hostvm.platform import login

ENV = {"PATH": "/usr/bin:/bin", "HOSTVM_HOME": '/data/a "b" 100%/$HOME'}
UNIX = Login("ci", ("/opt/my venv/bin/python", "-m", "cli.main", "autostart", "run", "ci"), ENV)
WINDOWS = Login(
    "ci",
    ("C:\\Program Files\\python.exe", "-m", "cli.main", "autostart", "run", "ci"),
    {"HOSTVM_HOME": "C:\\a&b"},
    "PC\\me",
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


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="systemd's folders")
class TestSystemdFolders:
    @pytest.fixture(autouse=True)
    def _home(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.setattr(login, "_BOOTED", tmp_path)
        self.told = []
        monkeypatch.setattr(login.process, "run", lambda argv, **_: self.told.append(argv))
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
