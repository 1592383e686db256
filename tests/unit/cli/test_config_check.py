"""`hostvm config check`: a file is judged by its own engine."""

from __future__ import annotations

import pytest

from cli.main import main
from hostvm.paths import MachinePaths


@pytest.mark.parametrize(
    ("text", "status", "told"),
    [
        ("daemon: {log-driver: local}", 0, 'daemon.log-driver: "local" instead of hostvm\'s "json-file"'),
        ("daemon: {hosts: []}", 2, "daemon.hosts: cannot be set"),
        ("engine: podman\ndaemon: {containers: {pids_limit: 100}}", 0, "is sound"),
        ("engine: podman\ndaemon: {log-driver: local}", 2, "must be a table of containers.conf"),
        ("engine: podman\nregistries: {insecure: [10.0.0.0/8]}", 2, "Podman takes hosts, not networks"),
        ("mounts: [/here:/srv/a]\ndisks: [{name: a, size: 1GiB, mount: /srv/a/b}]", 2, "/srv/a/b would be hidden by"),
        ("engine: containerd\ndaemon: {debug: true}", 2, "cannot be set for containerd"),
    ],
)
def test_settings_of_the_engine_are_looked_through(tmp_path, capsys, text, status, told):
    file = tmp_path / "machine.yaml"
    file.write_text(text + "\n")
    assert main(["config", "check", str(file)]) == status
    captured = capsys.readouterr()
    assert told in captured.out + captured.err


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("nobody", "there is no machine called nobody"),
        ("./nobody.yaml", "there is no such file\n  -> name a file, or a machine: hostvm ls"),
        ("folder", "it is a folder\n  -> name a file, or a machine: hostvm ls"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(tmp_path, capsys, monkeypatch, word, told):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["config", "check", word]) in (1, 2)
    assert told in capsys.readouterr().err


def test_a_folder_does_not_hide_the_machine_of_its_name(tmp_path, capsys, monkeypatch):
    (tmp_path / "ci").mkdir()
    monkeypatch.chdir(tmp_path)
    paths = MachinePaths.of("ci")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text("cpus: 1\n")
    assert main(["config", "check", "ci"]) == 0
    assert f"{paths.spec} is sound" in capsys.readouterr().err
